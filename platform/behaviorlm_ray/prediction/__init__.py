"""Predictions for whole logs, part by part, each once; and what a log says of the predictor that was asked."""
