"""Using what was trained: a run's checkpoint and a user's support set give a predictor."""
