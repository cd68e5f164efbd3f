"""Search with Ray Tune: which balance and which weights of auxiliary data serve anchors and tail together.

`trainable` runs one trial and may be used in a `ray.tune.Tuner` of your own.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from behaviorlm_ray.search.trial import trainable

__all__ = ["trainable"]


def __getattr__(name: str) -> Any:
    """`trainable` at its first use: Ray takes longer to load than a config to be refused."""
    if name != "trainable":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from behaviorlm_ray.search.trial import trainable

    return trainable
