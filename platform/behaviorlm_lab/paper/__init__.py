"""Exhibits in the manner of the paper's, each drawn from finished runs with the very numbers beside it."""
