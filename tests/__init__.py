"""Mirrors ``src/fewshot``."""
