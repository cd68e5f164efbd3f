"""The people whom a base model's text is about: they live in a world, and no log has them.

Our choice throughout. What is general is the world's: behaviors, what follows from what, the usual hours and places.
What is of a population is not: two hundred people with habits of their own, among whom a rare behavior comes about as
often as a common one. So whoever has read about them knows what behavior is like, and nothing about who is in a log.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from behaviorlm.errors import ConfigError
from behaviorlm_lab.world.clock import CELLS, SLOT_NAMES
from behaviorlm_lab.world.errands import ErrandsWorld
from behaviorlm_lab.world.generator import JOBS, Floats, Generator, draw
from behaviorlm_lab.world.inhabitants import COMMON, OWL_SHIFT, REPEAT_TAIL, TAIL_SLOTS
from behaviorlm_lab.world.tables import Chain, World

PEOPLE = 200
LIKING = 0.8
"""Standard deviation of the logarithm of how much somebody likes a thing."""
FLATTENING = 0.4
"""Exponent of the world's weights of common behaviors."""
ROUTINE, REPEAT, FOLLOW_UP = (0.3, 0.8), (0.05, 0.35), (0.0, 0.6)
"""Bounds of somebody's shares: of the routine of a slot, of the same again, of what comes after a common behavior."""
CHAIN_RATE, STRENGTH = 0.034, 0.6
"""Chance that a chain starts when nothing is going on, the same for each; strength of every effect."""
BY_ITSELF, INSTEAD = 0.15 / 28, 0.43 / 28
"""Share of usual events that are this rare behavior without a cause; and more of it where its cause is not shown, so
that it is about as frequent."""
ENDING_SHARE = 0.9
"""Second world: how often an activity ends with one of its endings."""

Item = TypeVar("Item")


def invented_people(world: Generator, seed: int, knowledge: float = 1.0) -> Generator:
    """A world of other people, and of a version, so of random numbers, of its own.

    knowledge: 0 to 1, the share of the world's causes (chains, or activities with endings) that are at work among them
    and in its links; the other rare behaviors come by themselves. Raises ConfigError for another knowledge, and for a
    world that there is no such population of.
    """
    if not 0 <= knowledge <= 1:
        raise ConfigError(f"knowledge={knowledge}: it must lie between 0 and 1")
    random = np.random.default_rng([*world.version.encode(), seed, 4])
    version = f"people-of-{world.version}-{seed}"
    if isinstance(world, World):
        return _other_lives(replace(world, version=version), random, knowledge)
    if isinstance(world, ErrandsWorld):
        return _other_errands(replace(world, version=version), random, knowledge)
    raise ConfigError(f"there is no text about people of the world {world.version}")


def spread_share(items: Sequence[Item], share: float) -> list[Item]:
    """A share of the items, rounded up and evenly spread: of a half the first, third, fifth, ..."""
    return [
        item
        for number, item in enumerate(items)
        if math.ceil((number + 1) * share) > math.ceil(number * share)
    ]


def _other_lives(world: World, random: np.random.Generator, knowledge: float) -> World:
    behaviors, common = len(world.names), len(COMMON)
    jobs = random.integers(len(JOBS), size=PEOPLE)
    carried = np.tile(np.diag(np.full(behaviors, REPEAT_TAIL)), (PEOPLE, 1, 1))
    for person in range(PEOPLE):
        carried[person, range(common), range(common)] = random.uniform(*REPEAT)
        for behavior in range(common):
            follow_up = (behavior + random.integers(1, common)) % common
            carried[person, behavior, follow_up] = random.uniform(*FOLLOW_UP)
    shown = spread_share(world.chains, knowledge)
    caused = {behavior for chain in shown for behavior in chain.behaviors}
    alone = [BY_ITSELF + INSTEAD * (rare not in caused) for rare in range(common, behaviors)]
    return replace(
        world,
        chains=tuple(
            Chain(
                chain.behaviors,
                (chain.strengths[0], *(STRENGTH for _ in chain.strengths[1:])),
                CHAIN_RATE,
            )
            for chain in shown
        ),
        persona_prior=np.full(PEOPLE, 1 / PEOPLE),
        persona_job=jobs,
        usual=np.stack([_usual(int(job), np.array(alone), random) for job in jobs]),
        carried=carried,
    )


def _usual(job: int, alone: Floats, random: np.random.Generator) -> Floats:
    """What one person usually does, float64[8, K], see `World.usual`. alone: of each rare behavior, by itself."""
    liking = np.exp(random.normal(0, LIKING, len(COMMON)))
    weight = liking * [behavior.weight**FLATTENING * behavior.jobs[job] for behavior in COMMON]
    weekend = np.array([behavior.weekend for behavior in COMMON])
    slots = np.array([behavior.slots for behavior in COMMON])
    if random.random() < 0.5:
        slots = (1 - OWL_SHIFT) * slots + OWL_SHIFT * np.roll(slots, 1, axis=1)
    routine = random.uniform(*ROUTINE)
    result = np.empty((CELLS, len(COMMON) + len(alone)))
    for cell in range(CELLS):
        slot, is_weekend = cell % len(SLOT_NAMES), cell >= len(SLOT_NAMES)
        own = weight * slots[:, slot] * (weekend if is_weekend else 1.0)
        mixed = (1 - routine) * own / own.sum()
        mixed[draw(own, random)] += routine
        rare = alone * TAIL_SLOTS[slot]
        result[cell] = [*((1 - rare.sum()) * mixed), *rare]
    return result


def _other_errands(world: ErrandsWorld, random: np.random.Generator, knowledge: float) -> ErrandsWorld:
    activities = world.preference.shape[1]
    preference = np.exp(random.normal(0, LIKING, (PEOPLE, activities)))
    shown = spread_share(range(activities), knowledge)
    hidden = [activity for activity in range(activities) if activity not in shown]
    emission = world.emission.copy()
    last = emission[:, 1]
    ends = last * ~world.is_common
    ends[hidden] = ends[hidden].mean(axis=0) if hidden else 0.0
    share = ends.sum(axis=2, keepdims=True)
    emission[:, 1] = ENDING_SHARE * ends / share + (1 - ENDING_SHARE) * last * world.is_common / (1 - share)
    endings = {world.names[behavior] for behavior in np.flatnonzero(ends[shown].sum(axis=(0, 1)))}
    return replace(
        world,
        persona_job=random.integers(len(JOBS), size=PEOPLE),
        preference=preference / preference.sum(axis=1, keepdims=True),
        emission=emission,
        links=tuple(link for link in world.links if link[1] in endings),
    )
