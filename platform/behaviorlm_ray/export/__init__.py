"""Export: of a finished run, the predictor that validation prefers, in a folder that stands alone."""
