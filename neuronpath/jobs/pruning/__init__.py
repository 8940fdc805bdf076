"""The pruning experiment: its plan, its runs, its folder, its tables."""
