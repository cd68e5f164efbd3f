"""Models and baselines compared on the same samples."""
