"""The comparison that the project is about, on synthetic worlds: several seeds and guards, one file for each run."""
