"""Tasks over numbers instead of images."""
