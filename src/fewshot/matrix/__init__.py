"""Many evaluations as one table: of one run under every protocol, and of runs of several datasets on each other's."""
