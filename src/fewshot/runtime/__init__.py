"""What surrounds a run: entry functions, errors, seeds, checkpoints, provenance."""
