"""Results: paths, what made them, their tables and files."""
