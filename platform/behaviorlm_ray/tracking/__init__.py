"""Tracking: a run told to MLflow, its parameters, curves, results and files, and the predictor in its registry."""
