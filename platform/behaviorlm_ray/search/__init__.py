"""Search with Ray Tune: which balance and which weights of auxiliary data serve anchors and tail together.

`trainable` runs one trial and may be used in a `ray.tune.Tuner` of your own.
"""

from typing import Any

from behaviorlm_ray.search.settings import SearchSettings

__all__ = ["SearchSettings", "trainable"]


def __getattr__(name: str) -> Any:
    """`trainable` when it is asked for: it loads Ray and torch, which who only reads settings does not need."""
    if name != "trainable":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from behaviorlm_ray.search.trial import trainable

    return trainable
