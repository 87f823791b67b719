"""LightningModules: what all share in `base`, then one file an algorithm family."""
