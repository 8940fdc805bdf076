"""Work over many images: from a source, by a task, to files."""
