"""The HTTP service on a predictor: one FastAPI app that answers in batches what `BehaviorModel` answers. No Ray."""
