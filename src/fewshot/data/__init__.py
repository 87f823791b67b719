"""Where images come from: one file a data set; preparing, verifying, and the LightningDataModule."""
