"""Data sets of images, one a file, and what is done to images."""
