"""What one sees of a run: callbacks that show, in TensorBoard above all, and change nothing of what is computed."""
