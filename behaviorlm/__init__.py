"""The BehaviorLM method: from behavior logs to a language model that predicts what a user does next.

Stands alone: needs torch, transformers, peft, pyarrow, numpy and pydantic, and nothing of the platform.
"""

__version__ = "0.1.0"
