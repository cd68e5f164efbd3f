"""Exhibits in the manner of the paper's figures and tables, each drawn from finished runs with the numbers beside it."""
