"""The version of each stage's code, part of the stage's identity.

Whoever changes what a stage writes for the same inputs raises its version; what was made before is then made again.
"""

PREPARE = 1
CONVERSATIONS = 1
TUNE = 1
"""A-Tuning, one-stage tuning and B-Tuning, with halves and rungs."""
SCORE = 1
"""Difficulty, before and after B-Tuning."""
SELECT = 1
PREDICT = 4
VALIDATE = 3
EVALUATE = 6
