"""Datasets of images, one a file, and what is done to images."""
