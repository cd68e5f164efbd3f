"""A look at a log before any config exists: how its files are read, what its columns are, and a mapping to start from."""
