"""A world whose log shows codes instead of names: what a base model read about the names is worth nothing then."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from behaviorlm_lab.world.generator import Floats, Generator, Habit, Life, Moments

CONSONANTS, VOWELS, DIGITS = "bcdfghjklmnpqrstvwxz", "aeiou", "0123456789"
SHAPES = ("CDCD", "CVD", "CCDVD", "DCVCD", "CVCDDC")
"""Codes vary in length as names do: C a consonant, V a vowel, D a digit."""


@dataclass(frozen=True, eq=False)
class OpaqueWorld:
    """Another world under codes drawn from `seed`: the same lives and the same truth. Its text is not for reading.

    Text for a base model is made from `original`, which speaks of the real names.
    """

    original: Generator
    seed: int
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", opaque_names(len(self.original.names), self.seed))

    @property
    def code_of_name(self) -> dict[str, str]:
        """Real name -> code."""
        return dict(zip(self.original.names, self.names, strict=True))

    @property
    def version(self) -> str:
        """That of the original: the lives are the same."""
        return self.original.version

    @property
    def is_common(self) -> NDArray[np.bool_]:
        """As in the original."""
        return self.original.is_common

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Those of the original, in codes."""
        codes = self.code_of_name
        return tuple((codes[cause], codes[effect]) for cause, effect in self.original.links)

    @property
    def habits(self) -> tuple[Habit, ...]:
        """Those of the original, in codes."""
        codes = self.code_of_name
        return tuple(replace(habit, behavior=codes[habit.behavior]) for habit in self.original.habits)

    def simulate_life(self, seed: int, user_index: int, events: tuple[int, int]) -> Life:
        """The same life as in the original, in codes."""
        life = self.original.simulate_life(seed, user_index, events)
        codes = self.code_of_name
        return replace(life, events=[replace(event, behavior=codes[event.behavior]) for event in life.events])

    def initial_belief(self) -> Floats:
        """As in the original."""
        return self.original.initial_belief()

    def hidden_probabilities(self, persona: int, state: int, hour: int, previous: int) -> Floats:
        """As in the original."""
        return self.original.hidden_probabilities(persona, state, hour, previous)

    def filter_step(self, belief: Floats, moments: Moments) -> tuple[Floats, Floats]:
        """As in the original."""
        return self.original.filter_step(belief, moments)


def opaque_names(count: int, seed: int) -> tuple[str, ...]:
    """`count` different codes such as "b4k7", of three to six characters. Deterministic for the arguments."""
    random = np.random.default_rng([*b"opaque", seed])
    alphabet = {"C": CONSONANTS, "V": VOWELS, "D": DIGITS}
    names: dict[str, None] = {}
    while len(names) < count:
        shape = SHAPES[int(random.random() * len(SHAPES))]
        letters = (alphabet[kind][int(random.random() * len(alphabet[kind]))] for kind in shape)
        names["".join(letters)] = None
    return tuple(names)
