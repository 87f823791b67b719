"""Where images come from: one file a dataset; preparing, verifying, and the LightningDataModule."""
