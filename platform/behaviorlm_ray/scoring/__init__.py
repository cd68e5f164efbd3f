"""Scoring on Ray: pools of replicas, kept scores, what is left of the base's knowledge."""
