"""What is under a root of runs: its state."""
