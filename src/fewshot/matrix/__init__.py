"""Many evaluations as one table: of one run under every protocol, and of runs of several data sets on each other's."""
