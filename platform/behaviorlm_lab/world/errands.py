"""A second, different world behind the same interface: people go through activities, each of a random duration.

Synthetic, and our choice throughout. A hidden semi-Markov process: an activity (commuting, cleaning, ...) is chosen
by the persona's preferences, lasts two to six events, and shows common behaviors until its last event, which may be
one of its two rare endings. There are no bursts and no chains: a rare behavior is foreseen by telling which activity
is going on and for how long. It guards against conclusions that hold in the main world only.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from behaviorlm_lab.world.clock import CELL_OF_HOUR, CELLS, SLOT_NAMES
from behaviorlm_lab.world.generator import (
    JOB_WORDS,
    JOBS,
    PLACE_WORDS,
    PLACES,
    UNKNOWN,
    Floats,
    Habit,
    Integers,
    Life,
    Moments,
    draw,
    normalized,
    simulated,
)

ERRANDS_VERSION = 1

COMMON_SLOTS = {
    "check the inbox": (1.6, 1.2, 0.8, 0.4),
    "browse a shop": (0.5, 1.4, 1.2, 0.6),
    "listen to a podcast": (1.3, 0.8, 1.1, 0.9),
    "walk outside": (1.0, 1.3, 1.0, 0.3),
    "ride the train": (1.6, 0.7, 1.3, 0.3),
    "chat with friends": (0.5, 0.9, 1.6, 1.4),
    "scroll through photos": (0.5, 0.8, 1.2, 1.8),
    "write notes": (1.3, 1.4, 0.7, 0.5),
    "drink tea": (1.5, 0.9, 1.0, 0.8),
    "watch the match": (0.2, 0.6, 2.0, 1.2),
    "tidy the room": (1.0, 1.0, 1.1, 0.5),
}
"""Common behaviors, with factors by slot of the day."""
ACTIVITIES = (
    ("commuting", "ride the train", "listen to a podcast", "check the inbox",
     "buy a ticket", "report a delay", 3, "out"),
    ("working", "check the inbox", "write notes", "drink tea",
     "print a contract", "book a room", 5, "job"),
    ("shopping", "browse a shop", "chat with friends", "walk outside",
     "use a coupon", "return a jacket", 4, "out"),
    ("resting", "watch the match", "scroll through photos", "chat with friends",
     "order a pizza", "dim the lights", 4, "home"),
    ("cleaning", "tidy the room", "listen to a podcast", "drink tea",
     "empty the bin", "start the washer", 3, "home"),
    ("strolling", "walk outside", "scroll through photos", "ride the train",
     "feed the ducks", "rent a bike", 3, "out"),
    ("learning", "write notes", "drink tea", "browse a shop",
     "borrow a novel", "sit an exam", 5, "job"),
    ("meeting", "chat with friends", "drink tea", "watch the match",
     "send a gift", "cut the cake", 4, "home"),
    ("sorting", "scroll through photos", "write notes", "tidy the room",
     "print a picture", "clear the storage", 3, "home"),
    ("traveling", "ride the train", "check the inbox", "walk outside",
     "show a passport", "exchange money", 4, "out"),
    ("training", "walk outside", "watch the match", "listen to a podcast",
     "stretch the legs", "buy a jersey", 3, "out"),
)  # fmt: skip
"""Name, three common behaviors from typical to less so, two rare endings, usual number of events, place."""
LIKED_BY_JOB = ("working", "learning", "cleaning")
"""The activity that somebody of each of the JOBS chooses more often."""
TYPICAL = (0.55, 0.30, 0.15)
ENDING_SHARE, FIRST_ENDING = 0.58, 0.52
RATE_EXPONENT, LIKED, KINDS = 0.05, 2.0, 2
LENGTH_SHARES = {-1: 0.1, 0: 0.8, 1: 0.1}
REPEAT = 0.15
AT_PLACE, SOMEWHERE = 0.82, 0.06
INTERRUPTED = 0.04
"""Share of events that are any common behavior: whatever is observed stays possible, in windows too."""
LONGEST = 6


@dataclass(frozen=True, eq=False)
class ErrandsWorld:
    """The tables; A activities, P personas. State = activity x LONGEST + (events left - 1), so Z = A x LONGEST."""

    version: str
    names: tuple[str, ...]
    is_common: NDArray[np.bool_]
    persona_job: Integers
    """int64[P], index into JOBS"""
    preference: Floats
    """float64[P, A]: chance of each activity when one begins"""
    length: Floats
    """float64[A, LONGEST]: chance that an activity takes 1, 2, ... events"""
    emission: Floats
    """float64[A, 2, 8, K]: what is done before the last event of an activity and at it, by clock cell"""
    place: Floats
    """float64[A, jobs, places]"""
    repeat: Floats
    """float64[K]: chance before the last event that this behavior is done again if it was the previous one"""
    links: tuple[tuple[str, str], ...] = ()
    habits: tuple[Habit, ...] = ()

    @cached_property
    def transition(self) -> Floats:
        """float64[P, Z, Z]: one event less to go, or another activity."""
        activities = self.preference.shape[1]
        begin = self._beginnings()
        result = np.zeros((len(self.preference), activities * LONGEST, activities * LONGEST))
        for activity in range(activities):
            first = activity * LONGEST
            result[:, first] = begin
            for left in range(1, LONGEST):
                result[:, first + left, first + left - 1] = 1.0
        return result

    @cached_property
    def stationary(self) -> Floats:
        """float64[P, Z]: an activity is in each of its events equally often."""
        lasting = self.length[:, ::-1].cumsum(axis=1)[:, ::-1]
        weight = self.preference[:, :, None] * lasting[None]
        weight /= weight.sum(axis=(1, 2), keepdims=True)
        return weight.reshape(len(weight), -1)

    def initial_belief(self) -> Floats:
        """Personas are equally likely, the state is stationary given the persona, float64[P, Z]."""
        return self.stationary / len(self.stationary)

    def row_probabilities(self, hours: Integers, previous: Integers) -> Floats:
        """What is done in each activity before and at its last event, float64[U, A, 2, K]."""
        rows = np.ascontiguousarray(self.emission.transpose(2, 0, 1, 3))[CELL_OF_HOUR[hours]]
        follows = np.flatnonzero(previous != UNKNOWN)
        again = self.repeat[previous[follows]][:, None]
        rows[follows, :, 0] *= 1 - again[:, :, None]
        rows[follows, :, 0, previous[follows]] += again
        return rows

    def hidden_probabilities(self, persona: int, state: int, hour: int, previous: int) -> Floats:
        """Probability of each behavior, float64[K]; the persona matters only for what comes after."""
        rows = self.row_probabilities(np.array([hour]), np.array([previous]))[0]
        result: Floats = rows[state // LONGEST, int(state % LONGEST == 0)]
        return result

    def filter_step(self, belief: Floats, moments: Moments) -> tuple[Floats, Floats]:
        """See `Generator.filter_step`."""
        users, personas, states = belief.shape
        rows = self.row_probabilities(moments.hours, moments.previous)
        by_left = belief.sum(axis=1).reshape(users, -1, LONGEST)
        last = by_left[:, :, 0]
        mass = np.stack([by_left.sum(axis=2) - last, last], axis=2)
        predicted: Floats = np.matmul(mass.reshape(users, 1, -1), rows.reshape(users, mass[0].size, -1))[:, 0]

        likelihood = rows[np.arange(users), :, :, moments.behaviors]  # [U, A, 2]
        at_state = np.repeat(likelihood[:, :, :1], LONGEST, axis=2)
        at_state[:, :, 0] = likelihood[:, :, 1]
        place = self.place[:, :, moments.places].transpose(2, 1, 0)  # [U, jobs, A]
        place = np.where((moments.places == UNKNOWN)[:, None, None], 1.0, place)
        weight = at_state[:, None] * place[:, self.persona_job][:, :, :, None]
        after = belief * weight.reshape(users, personas, states)
        moved = np.matmul(after.transpose(1, 0, 2), self.transition).transpose(1, 0, 2)
        return predicted, normalized(moved)

    def simulate_life(self, seed: int, user_index: int, events: tuple[int, int]) -> Life:
        """One user, from the tables above."""
        return simulated(self, seed, user_index, events, self._begin, self._step)

    def _begin(self, random: np.random.Generator) -> tuple[int, int]:
        persona = int(random.random() * len(self.persona_job))
        return persona, draw(self.stationary[persona], random)

    def _step(
        self, persona: int, state: int, hour: int, previous: int, random: np.random.Generator
    ) -> tuple[int, int, int]:
        behavior = draw(self.hidden_probabilities(persona, state, hour, previous), random)
        place = draw(self.place[state // LONGEST, self.persona_job[persona]], random)
        return behavior, place, draw(self.transition[persona, state], random)

    def _beginnings(self) -> Floats:
        """Distribution of the state when an activity begins, float64[P, Z]."""
        joint = self.preference[:, :, None] * self.length[None]
        return joint.reshape(len(joint), -1)


def errands_world() -> ErrandsWorld:
    """11 common behaviors, 22 rare endings of eleven activities, 6 personas (3 jobs of two kinds)."""
    names = (*COMMON_SLOTS, *(ending for activity in ACTIVITIES for ending in activity[4:6]))
    personas = [(job, kind) for job in range(len(JOBS)) for kind in range(KINDS)]
    numbers = np.arange(len(ACTIVITIES))
    preference = []
    for job, kind in personas:
        liked = np.array([activity[0] == LIKED_BY_JOB[job] for activity in ACTIVITIES])
        weight = (numbers + 1.0) ** -RATE_EXPONENT * np.where(liked | (numbers % KINDS == kind), LIKED, 1.0)
        preference.append(weight / weight.sum())
    length = np.zeros((len(ACTIVITIES), LONGEST))
    emission = np.zeros((len(ACTIVITIES), 2, CELLS, len(names)))
    place = np.full((len(ACTIVITIES), len(JOBS), len(PLACES)), SOMEWHERE)
    slots = np.array(list(COMMON_SLOTS.values()))
    for number, (_, first, second, third, one, other, usual_length, where) in enumerate(ACTIVITIES):
        for difference, share in LENGTH_SHARES.items():
            length[number, usual_length + difference - 1] = share
        common = [names.index(name) for name in (first, second, third)]
        for cell in range(CELLS):
            shares = np.array(TYPICAL) * slots[common, cell % len(SLOT_NAMES)]
            emission[number, :, cell, : len(COMMON_SLOTS)] = INTERRUPTED / len(COMMON_SLOTS)
            emission[number, :, cell, common] += ((1 - INTERRUPTED) * shares / shares.sum())[:, None]
        emission[number, 1] *= 1 - ENDING_SHARE
        emission[number, 1, :, names.index(one)] = ENDING_SHARE * FIRST_ENDING
        emission[number, 1, :, names.index(other)] = ENDING_SHARE * (1 - FIRST_ENDING)
        for job in range(len(JOBS)):
            place[number, job, job if where == "job" else PLACES.index(where)] = AT_PLACE
    return ErrandsWorld(
        version=f"errands-{ERRANDS_VERSION}",
        names=names,
        is_common=np.arange(len(names)) < len(COMMON_SLOTS),
        persona_job=np.array([job for job, _ in personas], np.int64),
        preference=np.stack(preference),
        length=length,
        emission=emission,
        place=place,
        repeat=np.where(np.arange(len(names)) < len(COMMON_SLOTS), REPEAT, 0.0),
        links=tuple((activity[1], ending) for activity in ACTIVITIES for ending in activity[4:6]),
        habits=_habits(),
    )


def _habits() -> tuple[Habit, ...]:
    habits = [Habit(name, "slot", SLOT_NAMES[int(np.argmax(slots))]) for name, slots in COMMON_SLOTS.items()]
    for name, first, _, _, one, other, _, place in ACTIVITIES:
        habits += [Habit(ending, "place", PLACE_WORDS[place]) for ending in (one, other)]
        if name in LIKED_BY_JOB:
            habits.append(Habit(first, "job", JOB_WORDS[LIKED_BY_JOB.index(name)]))
    return tuple(habits)
