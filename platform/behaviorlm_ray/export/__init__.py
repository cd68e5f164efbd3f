"""Export: of a finished run, the predictor that it recommends or that is named, in a folder that stands alone."""
