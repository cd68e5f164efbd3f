"""The stages of a run, in their order, and its settings."""
