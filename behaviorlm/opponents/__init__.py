"""Learned opponents: predictors that are no language model and learn from the log, as recommenders do."""
