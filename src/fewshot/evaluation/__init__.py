"""What a result means: intervals, records of tasks, result files, tables and figures."""
