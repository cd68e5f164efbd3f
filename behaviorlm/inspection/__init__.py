"""A look at a log before any config exists: its files, its columns, and a mapping to start from."""
