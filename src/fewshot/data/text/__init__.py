"""Sentences: tokens that need no vocabulary, and where sentences come from."""
