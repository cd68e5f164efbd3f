"""Behavior logs: the mapping of their columns, reading them as text, and normalizing them into events."""
