"""What a unit stands for: where it is active, and on which images."""
