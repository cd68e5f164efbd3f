"""A user's events in order, split into samples; the closed vocabulary."""
