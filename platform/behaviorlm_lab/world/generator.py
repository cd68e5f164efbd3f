"""What a synthetic world is to everybody else: it simulates users, and it can be filtered exactly.

A world hides a *persona* (one of P, fixed for a user) and a *state* (one of Z, changing from event to event). Log,
text, truth and frontier know only this interface, so that a second, different world runs through the same code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm_lab.world.clock import first_time, hour_of_week, hours_of_week, next_time

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

JOBS = ("office", "campus", "home")
"""Where a person spends weekdays from 9 to 17."""
PLACES = (*JOBS, "out")
UNKNOWN = -1
"""Instead of an index: no previous behavior, or a place that is not known."""
PLACE_WORDS = {"out": "out of the house", "home": "at home", "job": "where they work"}
JOB_WORDS = ("office workers", "students", "people who work at home")
"""Where things are done and who does them, in the text; the latter by the index of the job."""


@dataclass(frozen=True)
class Event:
    """One thing that a person did. `place` becomes known only with the event."""

    time: datetime
    behavior: str
    place: str


@dataclass(frozen=True)
class Life:
    """A simulated user with what the log does not show: persona, and the state at each event (before it happens)."""

    events: list[Event]
    persona: int
    states: list[int]


class Moments(NamedTuple):
    """The next event of each of U users: what is known before it, and what happened. All int64[U].

    `hours` of the week; `previous` behavior or UNKNOWN for the first event; `behaviors` and `places` that came then
    (a place may be UNKNOWN).
    """

    hours: Integers
    previous: Integers
    behaviors: Integers
    places: Integers


@dataclass(frozen=True)
class Habit:
    """A general truth about a behavior, for the text: "people {behavior} {circumstance}" or "{who} {behavior}"."""

    behavior: str
    kind: str
    """`slot`, `day`, `place` or `job`."""
    phrase: str
    """The circumstance ("in the evening"), or for `job` who does it ("office workers")."""


class Generator(Protocol):
    """A synthetic world. Arrays over behaviors follow `names`."""

    @property
    def version(self) -> str:
        """Names the world and its version; part of every seed."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The K behaviors. Verb phrases, so that the text can use them in sentences."""
        ...

    @property
    def is_common(self) -> NDArray[np.bool_]:
        """bool[K], the behaviors meant to make up more than 1 % of the events each."""
        ...

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Pairs (cause, effect) or (sign, what it ends in): what follows from what, for the text."""
        ...

    @property
    def habits(self) -> tuple[Habit, ...]:
        """When, where and by whom things are done, for the text."""
        ...

    def simulate_life(self, seed: int, user_index: int, events: tuple[int, int]) -> Life:
        """A user with a number of events between the two bounds. Depends on nothing but world and arguments."""
        ...

    def initial_belief(self) -> Floats:
        """Probability of each (persona, state) before the first event, float64[P, Z]; sums to 1."""
        ...

    def hidden_probabilities(self, persona: int, state: int, hour: int, previous: int) -> Floats:
        """Probability of each behavior for somebody who knows what is hidden, float64[K]."""
        ...

    def filter_step(self, belief: Floats, moments: Moments) -> tuple[Floats, Floats]:
        """One event further. `belief` float64[U, P, Z] is the state's before the event.

        Returns the probability of each behavior given `belief` and the clock, float64[U, K], and the belief after
        behavior and place became known, float64[U, P, Z]; both sum to 1 for each user.
        """
        ...


def simulate_user(
    generator: Generator, seed: int, user_index: int, events: tuple[int, int] = (20, 40)
) -> list[Event]:
    """The events of one user, oldest first; see `Generator.simulate_life`."""
    return generator.simulate_life(seed, user_index, events).events


Begin = Callable[[np.random.Generator], tuple[int, int]]
"""Draws persona and state of a user."""

Step = Callable[[int, int, int, int, np.random.Generator], tuple[int, int, int]]
"""Draws behavior, place and next state, given persona, state, hour of the week and previous behavior."""


def simulated(
    world: "Generator", seed: int, user_index: int, events: tuple[int, int], begin: Begin, step: Step
) -> Life:
    """`Generator.simulate_life` of a world that draws so, with random numbers of the user's own."""
    random = np.random.default_rng([*world.version.encode(), seed, user_index])
    persona, state = begin(random)
    length = events[0] + int(random.random() * (events[1] - events[0] + 1))
    time, behavior = first_time(random), UNKNOWN
    life = Life([], persona, [])
    for _ in range(length):
        life.states.append(state)
        behavior, place, state = step(persona, state, hour_of_week(time), behavior, random)
        life.events.append(Event(time, world.names[behavior], PLACES[place]))
        time = next_time(time, random)
    return life


@dataclass(frozen=True)
class Timeline:
    """Events of one user as arrays int64[n]: hour of the week, behavior, place (UNKNOWN allowed)."""

    hours: Integers
    behaviors: Integers
    places: Integers

    def __len__(self) -> int:
        return len(self.behaviors)


def timeline_of(generator: Generator, events: Sequence[Event]) -> Timeline:
    """The arrays of these events; raises ValueError for a behavior that the world does not have."""
    names, places = list(generator.names), [event.place for event in events]
    return Timeline(
        hours_of_week([event.time for event in events]),
        np.array([names.index(event.behavior) for event in events], np.int64),
        np.array([PLACES.index(place) if place in PLACES else UNKNOWN for place in places], np.int64),
    )


def draw(probabilities: Floats, random: np.random.Generator) -> int:
    """An index with probability proportional to `probabilities`."""
    cumulative = np.cumsum(probabilities)
    return int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))


def normalized(belief: Floats) -> Floats:
    """Belief float64[U, P, Z], each user's divided by its sum; DataError if something impossible was observed."""
    total = belief.sum(axis=(1, 2), keepdims=True)
    if not (total > 0).all():
        raise DataError("the timeline cannot have come from this world: an event in it has probability 0")
    result: Floats = belief / total
    return result
