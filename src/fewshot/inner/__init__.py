"""The inner loop and its engines behind one interface."""
