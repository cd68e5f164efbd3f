"""Where a model finds and leaves keys and values while it scores, without copies of what is there already.

transformers' own cache joins old and new ones in each layer, which is two copies of all of them.
"""

from typing import Any

from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from behaviorlm.scoring.kept_prefixes import KeysValues


class _Collected(DynamicLayer):
    """Keeps the keys and values of the tokens that go through its layer, with those known before them."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if self.is_initialized:
            both: tuple[Tensor, Tensor] = super().update(key_states, value_states, *args, **kwargs)
            return both
        self.keys, self.values = key_states, value_states
        self.is_initialized = True
        return key_states, value_states


class _Chosen(DynamicLayer):
    """Gives a layer the keys and values at some places of others, and its own behind them. Keeps nothing."""

    def __init__(self, keys: Tensor, values: Tensor, places: Tensor) -> None:
        super().__init__()
        self._known, self._places = (keys, values), places
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        new = key_states.shape[-2]
        with_room = pad(self._places, (0, new))
        found = []
        for known, own in zip(self._known, (key_states, value_states), strict=True):
            joined = known[0][:, with_room].transpose(0, 1)
            joined[:, :, -new:] = own
            found.append(joined)
        return found[0], found[1]

    def get_seq_length(self) -> int:
        return int(self._places.shape[-1])


def collecting(known: KeysValues) -> Cache:
    """For tokens whose keys and values are wanted; known: those of tokens before them, if any."""
    cache = Cache(layer_class_to_replicate=_Collected)
    for layer, (keys, values) in enumerate(known):
        cache.update(keys, values, layer)
    return cache


def collected(cache: Cache) -> KeysValues:
    """What a cache of `collecting` holds after the model ran."""
    layers: list[Any] = list(cache.layers)
    return [(layer.keys, layer.values) for layer in layers]


def choosing(keys_values: KeysValues, places: Tensor) -> Cache:
    """For tokens that attend to others at some places [rows, W] of keys and values, to each its own row of them."""
    return Cache(layers=[_Chosen(keys, values, places) for keys, values in keys_values])
