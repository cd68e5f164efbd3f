"""Kills at chosen moments, and what a resumed run makes of them: `python -m cluster.chaos`."""
