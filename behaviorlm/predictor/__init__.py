"""The way out: a tuned model, or counting, in a folder of its own, asked what a user does next. No Ray."""
