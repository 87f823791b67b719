"""Networks from inputs to features, one per file; plain torch, and no running statistics (see `norm`)."""
