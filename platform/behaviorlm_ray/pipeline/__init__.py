"""A run: its settings, what it reads from outside, and its stages, each kind declared in one file."""
