"""The clean run of a model and the runs that start from it; the only place that loops over batches of rows."""
