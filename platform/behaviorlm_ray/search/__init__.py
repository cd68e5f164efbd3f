"""Search with Ray Tune: which balance and which weights of auxiliary data serve anchors and tail together.

`trainable` runs one trial and may be used in a `ray.tune.Tuner` of your own.
"""

from behaviorlm_ray.search.settings import SearchSettings
from behaviorlm_ray.search.trial import trainable

__all__ = ["SearchSettings", "trainable"]
