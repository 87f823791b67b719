"""Few-shot learning research: honest episodes, exact inner loops, runs that can be trusted."""
