"""Really smaller models: importances, pruning, recovery, files."""
