"""Networks from inputs to features, one a file; plain torch, and no running statistics (see `norm`)."""
