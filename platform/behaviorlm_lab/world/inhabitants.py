"""Who lives in the main world and what they do: the numbers of version 2.

Synthetic, and our choice throughout. The numbers were set so that repeat rate, tail exponent, entropies and share of
anchor targets resemble two real logs (docs/world.md), before any method was compared on the world, and are frozen with
`WORLD_VERSION`: whoever changes one raises the version.
"""

from dataclasses import dataclass

import numpy as np

from behaviorlm_lab.world.clock import SLOT_NAMES
from behaviorlm_lab.world.generator import JOB_WORDS, JOBS, PLACE_WORDS, PLACES, Floats, Habit, draw
from behaviorlm_lab.world.tables import Chain, World

WORLD_VERSION = 2

Slots = tuple[float, float, float, float]


@dataclass(frozen=True)
class Common:
    """A common behavior: weight, factors by slot of the day, on weekends and by job, where, what often comes next."""

    name: str
    weight: float
    slots: Slots
    follow_ups: tuple[str, str]
    """What often comes right after: for the first two taste groups, and for the other two."""
    weekend: float = 1.0
    jobs: tuple[float, float, float] = (1.0, 1.0, 1.0)
    place: str | None = None


COMMON = (
    Common("read messages", 22, (1.2, 1.0, 1.1, 0.8), ("open music", "read the news")),
    Common("open music", 17, (1.4, 0.7, 1.2, 0.7), ("take the bus", "play a game")),
    Common("watch a video", 13, (0.3, 0.8, 1.8, 1.6), ("play a game", "order food"), weekend=1.5),
    Common("make coffee", 11, (2.4, 1.0, 0.4, 0.1), ("read the news", "read messages")),
    Common("take the bus", 9.5, (2.2, 0.9, 1.0, 0.1), ("read messages", "open music"), weekend=0.4, place="out"),
    Common("read the news", 8.5, (2.2, 0.9, 0.5, 0.4), ("take the bus", "make coffee")),
    Common("play a game", 7.5, (0.2, 0.6, 1.8, 2.0), ("watch a video", "order food"), weekend=1.6),
    Common("order food", 6.5, (0.1, 1.6, 1.8, 0.3), ("watch a video", "open music"), weekend=1.3),
    Common("set an alarm", 6, (0.2, 0.1, 1.0, 5.0), ("read messages", "watch a video"), weekend=0.6, place="home"),
    Common("write a report", 6.5, (1.2, 1.8, 0.4, 0.1), ("make coffee", "open music"),
           weekend=0.3, jobs=(3.0, 0.5, 0.5)),
    Common("study a book", 7.5, (0.8, 1.4, 1.2, 0.6), ("make coffee", "watch a video"),
           weekend=0.7, jobs=(0.4, 3.0, 0.6)),
    Common("cook a meal", 5.5, (0.4, 1.5, 2.0, 0.1), ("watch a video", "open music"),
           weekend=1.3, jobs=(0.6, 0.4, 3.0)),
)  # fmt: skip

CHAINS = (
    (("book a flight", "pack a bag", "check in", "call a taxi"), 0.54),
    (("see a doctor", "collect medicine", "take a rest"), 0.51),
    (("plan a party", "send invitations", "bake a cake"), 0.47),
    (("report a leak", "hire a plumber", "pay a bill"), 0.54),
    (("visit the vet", "buy pet food", "walk the dog"), 0.44),
    (("block a card", "order a card", "change a password"), 0.51),
    (("view a flat", "sign a lease", "rent a van"), 0.47),
    (("join a gym", "buy running shoes", "run a race"), 0.44),
    (("buy seeds", "dig the garden", "water the plants"), 0.51),
)
"""Behaviors of each chain, and the strength of its effects; the chains' rates fall in this order."""
TAIL_PLACES = {"call a taxi": "out", "collect medicine": "out", "bake a cake": "home", "walk the dog": "out",
               "view a flat": "out", "dig the garden": "home", "run a race": "out", "take a rest": "home"}  # fmt: skip
TAIL_SLOTS: Slots = (1.0, 1.2, 1.0, 0.2)

ROOT_STRENGTH = 1.0
FIRST_RATE, RATE_EXPONENT = 0.0096, 0.3
"""Chance that the most frequent chain starts; that of the n-th is smaller by n to the exponent."""
CONTINUATION, ABANDONMENT, SILENT_SHARE = 0.95, 0.05, 0.15
TAIL_BY_ITSELF = 0.025
"""Share of usual events that are tail behaviors without a cause: noise that nobody can predict."""
FAVOR, DISFAVOR = 3.0, 0.3
"""Factors of a taste group on its three favorite common behaviors, and on the three it does not care for."""
TASTES, CHRONOTYPES = 4, 2
OWL_SHIFT = 0.6
"""Night owls do this share of everything one slot later."""
ROUTINE_SHARE = 0.7
REPEAT_COMMON, REPEAT_TAIL, FOLLOW_UP = 0.27, 0.12, 0.45
FIXED_PLACE, OUT_SHARE, AT_WORK = 0.95, 0.12, 0.8


def default_world() -> World:
    """Version 2: 12 common behaviors, 28 rare ones in nine chains, 24 personas (3 jobs, 4 tastes, 2 chronotypes)."""
    names = (
        *(behavior.name for behavior in COMMON),
        *(name for behaviors, _ in CHAINS for name in behaviors),
    )
    chains = []
    for number, (behaviors, strength) in enumerate(CHAINS, start=1):
        indices = tuple(names.index(name) for name in behaviors)
        strengths = (ROOT_STRENGTH, *(strength for _ in behaviors[1:]))
        chains.append(Chain(indices, strengths, FIRST_RATE / number**RATE_EXPONENT))
    personas = [
        (job, taste, is_owl) for job in range(len(JOBS)) for taste in range(TASTES) for is_owl in range(2)
    ]
    return World(
        version=f"main-{WORLD_VERSION}",
        names=names,
        is_common=np.arange(len(names)) < len(COMMON),
        chains=tuple(chains),
        persona_prior=np.full(len(personas), 1 / len(personas)),
        persona_job=np.array([job for job, _, _ in personas], np.int64),
        usual=np.stack([_usual(number, *persona) for number, persona in enumerate(personas)]),
        carried=np.stack([_carried(names, taste) for _, taste, _ in personas]),
        place=_places(names),
        continuation=CONTINUATION,
        abandonment=ABANDONMENT,
        silent_share=SILENT_SHARE,
        habits=_habits(),
    )


def _usual(number: int, job: int, taste: int, is_owl: int) -> Floats:
    """Own habits mixed with the routine of the slot, float64[8, K]. The routine is drawn once for the persona."""
    random = np.random.default_rng([WORLD_VERSION, number])
    ranks = np.arange(len(COMMON))
    liking = np.where(ranks % TASTES == taste, FAVOR, 1.0)
    liking = np.where(ranks % TASTES == (taste + 2) % TASTES, DISFAVOR, liking)
    weight = np.array([behavior.weight * behavior.jobs[job] for behavior in COMMON]) * liking
    weekend = np.array([behavior.weekend for behavior in COMMON])
    common_slots = np.array([behavior.slots for behavior in COMMON])
    rare = np.array([number**-RATE_EXPONENT for number, (names, _) in enumerate(CHAINS, 1) for _ in names])
    result = []
    for is_weekend in (False, True):
        for slot in range(len(SLOT_NAMES)):
            factors = common_slots[:, slot]
            if is_owl:
                factors = (1 - OWL_SHIFT) * factors + OWL_SHIFT * common_slots[:, slot - 1]
            own = weight * factors * (weekend if is_weekend else 1.0)
            own = own / own.sum()
            mixed = (1 - ROUTINE_SHARE) * own
            mixed[draw(own**2, random)] += ROUTINE_SHARE
            rate = TAIL_BY_ITSELF * TAIL_SLOTS[slot]
            result.append(np.concatenate([(1 - rate) * mixed, rate * rare / rare.sum()]))
    return np.stack(result)


def _carried(names: tuple[str, ...], taste: int) -> Floats:
    """float64[K, K] of a taste group, see `World.carried`."""
    result = np.diag(np.full(len(names), REPEAT_TAIL))
    for index, behavior in enumerate(COMMON):
        result[index, index] = REPEAT_COMMON
        result[index, names.index(behavior.follow_ups[taste >= 2])] = FOLLOW_UP
    return result


def _places(names: tuple[str, ...]) -> Floats:
    """float64[K, jobs, 2, places], see `World.place`."""
    fixed = {behavior.name: behavior.place for behavior in COMMON} | dict(TAIL_PLACES)
    result = np.zeros((len(names), len(JOBS), 2, len(PLACES)))
    home, out = PLACES.index("home"), PLACES.index("out")
    for job in range(len(JOBS)):
        for is_working in range(2):
            result[:, job, is_working, out] += OUT_SHARE
            at_work = AT_WORK * (1 - OUT_SHARE) * is_working
            result[:, job, is_working, job] += at_work
            result[:, job, is_working, home] += 1 - OUT_SHARE - at_work
    for index, name in enumerate(names):
        place = fixed.get(name)
        if place is not None:
            result[index] *= 1 - FIXED_PLACE
            result[index, :, :, PLACES.index(place)] += FIXED_PLACE
    return result


def _habits() -> tuple[Habit, ...]:
    """What the tables say, in words: usual slot, weekends, fixed place, and what a job does more than others."""
    habits = []
    for behavior in COMMON:
        slot = SLOT_NAMES[int(np.argmax(behavior.slots))]
        habits.append(Habit(behavior.name, "slot", slot))
        if behavior.weekend != 1:
            habits.append(
                Habit(behavior.name, "day", "on weekends" if behavior.weekend > 1 else "on weekdays")
            )
        if behavior.place is not None:
            habits.append(Habit(behavior.name, "place", PLACE_WORDS[behavior.place]))
        if max(behavior.jobs) > 1:
            habits.append(Habit(behavior.name, "job", JOB_WORDS[int(np.argmax(behavior.jobs))]))
    habits += [Habit(name, "place", PLACE_WORDS[place]) for name, place in TAIL_PLACES.items()]
    habits += [Habit(name, "slot", "during the day") for chain, _ in CHAINS for name in chain]
    return tuple(habits)
