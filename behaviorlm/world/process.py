"""The generative process of the synthetic world: who lives in it, and the probability of what each does next.

Synthetic, and our choice throughout; version 1 is small, and its numbers are not fitted to any real log.
Given a person, the probability of the next behavior depends only on the clock and on the last `EFFECT_WINDOW`
behaviors, so it can be computed from what was observed: `next_behavior_probabilities`, which is sampled from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

WORLD_VERSION = 1
EFFECT_WINDOW = 5
"""An effect can follow its cause as one of the next this many events."""
EFFECT_HAZARD = 0.35
"""Chance of a waiting effect at each of those events; 88 % happen if the timeline is long enough."""
REPEAT_PROBABILITY = 0.12
ROUTINE_PROBABILITY = 0.3
FIRST_MONDAY = datetime(2025, 1, 6)

SLOT_NAMES = ("in the morning", "around midday", "in the evening", "at night")
JOBS = ("office", "campus", "home")
"""Where a person spends weekdays from 9 to 17."""
PLACES = (*JOBS, "out")


@dataclass(frozen=True)
class BehaviorKind:
    """A behavior: how common it is, at what time and on which days, where, and what it follows from."""

    name: str
    weight: float
    """Relative rate when nothing causes it; the weights of all behaviors need not sum to anything."""
    slots: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """Factors on the weight in the morning, around midday, in the evening, at night."""
    weekend: float = 1.0
    place: str | None = None
    """Where it always happens; None where the person happens to be."""
    cause: str | None = None
    """The behavior that brings it about within the next `EFFECT_WINDOW` events."""

    @property
    def is_common(self) -> bool:
        """Whether it is meant to become an anchor behavior."""
        return self.weight >= 2


@dataclass(frozen=True)
class World:
    """The behaviors that exist. Names are verb phrases, so that the text can use them in sentences."""

    behaviors: tuple[BehaviorKind, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order that every array over behaviors follows."""
        return tuple(behavior.name for behavior in self.behaviors)

    @cached_property
    def effects(self) -> dict[int, int]:
        """Index of a cause -> index of its effect."""
        return {self.names.index(cause): self.names.index(effect) for cause, effect in self.links}

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Pairs (cause, effect)."""
        return tuple((behavior.cause, behavior.name) for behavior in self.behaviors if behavior.cause)


@dataclass(frozen=True)
class Person:
    """The hidden traits of one user: habits, routines, where weekdays are spent, when the day begins."""

    habits: NDArray[np.float64]
    """float64[K], factors on the weight of each behavior."""
    routines: tuple[tuple[int, ...], tuple[int, ...]]
    """For weekdays and for weekends: the index of the routine behavior in each of the four slots."""
    job: str
    wakes_at: float
    """Hour of the day."""


@dataclass(frozen=True)
class Event:
    """One thing that a person did. `place` becomes known only with the event."""

    time: datetime
    behavior: str
    place: str


def default_world() -> World:
    """Ten common behaviors and fourteen rare ones, the rare ones in six chains of cause and effect."""
    common = (
        BehaviorKind("read messages", 20, (1.2, 1.0, 1.1, 0.8)),
        BehaviorKind("open music", 15, (1.4, 0.7, 1.2, 0.7)),
        BehaviorKind("watch a video", 12, (0.3, 0.8, 1.8, 1.6), weekend=1.5),
        BehaviorKind("take the bus", 11, (2.2, 0.9, 1.0, 0.1), weekend=0.4, place="out"),
        BehaviorKind("pay in a shop", 9, (0.4, 1.5, 1.3, 0.1), weekend=1.4, place="out"),
        BehaviorKind("read the news", 9, (2.2, 0.9, 0.5, 0.4)),
        BehaviorKind("play a game", 7, (0.2, 0.6, 1.8, 2.0), weekend=1.6),
        BehaviorKind("order food", 6, (0.1, 1.6, 1.8, 0.3), weekend=1.3),
        BehaviorKind("set an alarm", 5, (0.2, 0.1, 1.0, 5.0), weekend=0.6, place="home"),
        BehaviorKind("check the weather", 5, (2.4, 0.6, 0.5, 0.3)),
    )
    rare = (
        _cause("book a flight", "check in", "call a taxi", last_place="out"),
        _cause("see a doctor", "collect medicine", last_place="out"),
        _cause("report a leak", "hire a plumber"),
        _cause("block a card", "order a card"),
        _cause("plan a party", "send invitations", "bake a cake", last_place="home"),
        _cause("visit the vet", "buy pet food", last_place="out"),
    )
    return World(common + tuple(behavior for chain in rare for behavior in chain))


def _cause(root: str, *effects: str, last_place: str | None = None) -> tuple[BehaviorKind, ...]:
    """A chain: the root begins by itself, each effect follows from the one before and seldom by itself."""
    names = (root, *effects)
    kinds = [BehaviorKind(root, 1.35, (1.0, 1.2, 1.0, 0.2))]
    for cause, effect in zip(names[:-1], effects, strict=True):
        place = last_place if effect == effects[-1] else None
        kinds.append(BehaviorKind(effect, 0.12, (1.0, 1.2, 1.0, 0.2), place=place, cause=cause))
    return tuple(kinds)


def draw_person(world: World, random: np.random.Generator) -> Person:
    """A person with habits (common behaviors vary by about a factor of 3, rare ones more) and routines."""
    is_common = np.array([behavior.is_common for behavior in world.behaviors])
    spread = np.where(is_common, 0.6, 0.9)
    normal = random.standard_normal(len(is_common))
    # A log-normal factor of mean 1, so that habits leave the world's rates as they are.
    habits = np.exp(spread * normal - spread**2 / 2)
    routines = []
    for is_weekend in (False, True):
        chosen = []
        for slot in range(len(SLOT_NAMES)):
            rates = _rates(world, slot, is_weekend) * habits
            chosen.append(_draw(np.where(is_common, rates, 0.0), random))
        routines.append(tuple(chosen))
    job = JOBS[int(random.random() * len(JOBS))]
    return Person(habits, (routines[0], routines[1]), job, wakes_at=6 + 3 * random.random())


def waiting_effects(world: World, history: Sequence[int]) -> list[int]:
    """Indices of the effects still due after `history` (indices, oldest first), oldest cause first."""
    waiting: list[int] = []
    for behavior in history[-EFFECT_WINDOW:]:
        if behavior in waiting:
            waiting.remove(behavior)
        if behavior in world.effects:
            waiting.append(world.effects[behavior])
    return waiting


def next_behavior_probabilities(
    world: World, person: Person, history: Sequence[int], time: datetime
) -> NDArray[np.float64]:
    """The true probability of each behavior as the next event of `person` at `time`.

    `history` holds the indices of the past behaviors, oldest first. Returns float64[K], which sums to 1.
    """
    slot, is_weekend = slot_of(time.hour), time.weekday() >= 5
    rates = _rates(world, slot, is_weekend) * person.habits
    own = rates / rates.sum()
    routine = np.zeros(len(rates))
    routine[person.routines[int(is_weekend)][slot]] = 1.0
    repeat = own
    if history and world.behaviors[history[-1]].is_common:
        repeat = np.zeros(len(rates))
        repeat[history[-1]] = 1.0
    own_share = 1 - REPEAT_PROBABILITY - ROUTINE_PROBABILITY
    usual = own_share * own + REPEAT_PROBABILITY * repeat + ROUTINE_PROBABILITY * routine
    caused, left = np.zeros(len(rates)), 1.0
    for effect in waiting_effects(world, history):
        caused[effect] += left * EFFECT_HAZARD
        left *= 1 - EFFECT_HAZARD
    probabilities: NDArray[np.float64] = caused + left * usual
    return probabilities


def simulate_user(
    world: World, seed: int, user_index: int, events: tuple[int, int] = (20, 40)
) -> list[Event]:
    """The timeline of one user, with a random number of events between the two bounds, both included.

    Depends on nothing but its arguments, so users can be simulated in any order and in parallel.
    """
    random = np.random.default_rng([WORLD_VERSION, seed, user_index])
    person = draw_person(world, random)
    length = events[0] + int(random.random() * (events[1] - events[0] + 1))
    time = FIRST_MONDAY + timedelta(days=int(random.random() * 28), hours=person.wakes_at)
    history: list[int] = []
    timeline: list[Event] = []
    for _ in range(length):
        time = _next_time(time, person, is_burst=bool(waiting_effects(world, history)), random=random)
        behavior = _draw(next_behavior_probabilities(world, person, history, time), random)
        history.append(behavior)
        timeline.append(
            Event(time, world.names[behavior], _place(world.behaviors[behavior], person, time, random))
        )
    return timeline


def slot_of(hour: int) -> int:
    """Index into `SLOT_NAMES` of an hour 0..23."""
    if 5 <= hour < 11:
        return 0
    if 11 <= hour < 17:
        return 1
    return 2 if 17 <= hour < 22 else 3


def _rates(world: World, slot: int, is_weekend: bool) -> NDArray[np.float64]:
    return np.array(
        [kind.weight * kind.slots[slot] * (kind.weekend if is_weekend else 1.0) for kind in world.behaviors]
    )


def _draw(rates: NDArray[np.float64], random: np.random.Generator) -> int:
    """An index with probability proportional to `rates`."""
    cumulative = np.cumsum(rates)
    return int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))


def _next_time(time: datetime, person: Person, is_burst: bool, random: np.random.Generator) -> datetime:
    """Somewhat later the same day, sooner within a burst; past bedtime, after waking the next morning."""
    minutes = -(20 if is_burst else 100) * math.log1p(-random.random())
    later = (time + timedelta(minutes=1 + minutes)).replace(second=int(random.random() * 60), microsecond=0)
    # A day begins when the person wakes, so an hour past midnight still belongs to the day before.
    date = (time - timedelta(hours=person.wakes_at)).date()
    woke_at = datetime(date.year, date.month, date.day) + timedelta(hours=person.wakes_at)
    if later <= woke_at + timedelta(hours=16.5):
        return later
    sleepy_minutes = -40 * math.log1p(-random.random())
    return (woke_at + timedelta(days=1, minutes=sleepy_minutes)).replace(microsecond=0)


def _place(behavior: BehaviorKind, person: Person, time: datetime, random: np.random.Generator) -> str:
    is_out = random.random() < 0.12
    if behavior.place is not None:
        return behavior.place
    if is_out:
        return "out"
    return person.job if time.weekday() < 5 and 9 <= time.hour < 17 else "home"
