"""What came of runs, for readers: one HTML file, and tables for a paper."""
