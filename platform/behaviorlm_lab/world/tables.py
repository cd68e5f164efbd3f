"""The main world as tables: the probability of what each person does next, and how bursts with causes go on.

Our choice throughout. Two things are hidden. A **persona** is fixed for a user and decides what she usually does at
which time. A **burst** is none, or the stage of a chain that is due (book a flight, then pack a bag, ...); it goes on
by itself, whatever the clock says and whatever else happens. Simulation and truth both read the tables of this module
(`usual_probabilities`, `strength`, `after_emission`, `after_silence`), so that they cannot drift apart.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from behaviorlm_lab.world.clock import CELL_OF_HOUR, IS_WORKING_HOUR
from behaviorlm_lab.world.generator import (
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


@dataclass(frozen=True)
class Chain:
    """Behaviors that bring about one another: a root and its effects, as indices."""

    behaviors: tuple[int, ...]
    strengths: tuple[float, ...]
    """Chance of each stage at every event while it is due."""
    rate: float
    """Chance, at an event after which nothing is going on, that the chain starts."""


@dataclass(frozen=True, eq=False)
class World:
    """The tables; K behaviors, P personas, 8 clock cells, Z = 1 + number of stages states (0: no burst)."""

    version: str
    names: tuple[str, ...]
    is_common: NDArray[np.bool_]
    chains: tuple[Chain, ...]
    persona_prior: Floats
    """float64[P]"""
    persona_job: Integers
    """int64[P], index into JOBS"""
    usual: Floats
    """float64[P, 8, K]: own habits and routine of each persona in each clock cell; sums to 1"""
    carried: Floats
    """float64[P, K, K]: what the behavior right before brings by itself (the same again, or a follow-up). A row sums
    to the share of usual events that are of this kind, below 1; the rest is `usual`."""
    place: Floats
    """float64[K, jobs, 2, places]: where a behavior happens outside and inside working hours; sums to 1"""
    continuation: float
    """Chance that a stage that happened makes the next one due."""
    abandonment: float
    """Chance that a burst is dropped at an event that was not its own."""
    silent_share: float
    """Share of the bursts that start at their second stage, without the root: a cause the log does not show."""
    habits: tuple[Habit, ...] = ()

    @cached_property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Pairs (cause, effect): neighbors in a chain."""
        return tuple(
            (self.names[cause], self.names[effect])
            for chain in self.chains
            for cause, effect in zip(chain.behaviors[:-1], chain.behaviors[1:], strict=True)
        )

    @cached_property
    def stage_behavior(self) -> Integers:
        """Behavior that is due in each state, int64[Z]; UNKNOWN without a burst."""
        return np.array([UNKNOWN, *(behavior for chain in self.chains for behavior in chain.behaviors)])

    @cached_property
    def stage_of_behavior(self) -> Integers:
        """State in which a behavior is due, int64[K]; 0 for those of no chain. A behavior is in one chain at most."""
        result = np.zeros(len(self.names), np.int64)
        result[self.stage_behavior[1:]] = np.arange(1, len(self.stage_behavior))
        return result

    @cached_property
    def strength(self) -> Floats:
        """Chance in each state that the event is the burst's, float64[Z]."""
        return np.array([0.0, *(strength for chain in self.chains for strength in chain.strengths)])

    @cached_property
    def after_emission(self) -> Floats:
        """float64[Z, Z]: next state, after an event that was the burst's. Row 0 is never used."""
        result = np.zeros((len(self.strength), len(self.strength)))
        result[0, 0] = 1.0
        state = 1
        for chain in self.chains:
            for stage in range(len(chain.behaviors)):
                is_last = stage == len(chain.behaviors) - 1
                result[state, 0] = 1.0 if is_last else 1 - self.continuation
                if not is_last:
                    result[state, state + 1] = self.continuation
                state += 1
        return result

    @cached_property
    def after_silence(self) -> Floats:
        """float64[Z, Z]: next state, after an event that was not the burst's (always so in state 0)."""
        result = np.diag(np.full(len(self.strength), 1 - self.abandonment))
        result[:, 0] = self.abandonment
        result[0, 0] = 1.0
        root = 1
        for chain in self.chains:
            silent = self.silent_share if len(chain.behaviors) > 1 else 0.0
            result[0, root] = chain.rate * (1 - silent)
            if silent:
                result[0, root + 1] = chain.rate * silent
            result[0, 0] -= chain.rate
            root += len(chain.behaviors)
        return result

    @cached_property
    def stationary(self) -> Floats:
        """Distribution of the state at any event, float64[Z]: a window of a timeline starts like a timeline."""
        step = (
            self.strength[:, None] * self.after_emission + (1 - self.strength)[:, None] * self.after_silence
        )
        size = len(step)
        equations = np.vstack([step.T - np.eye(size), np.ones(size)])
        solution = np.linalg.lstsq(equations, np.append(np.zeros(size), 1.0), rcond=None)[0]
        result: Floats = np.clip(solution, 0, None) / np.clip(solution, 0, None).sum()
        return result

    def initial_belief(self) -> Floats:
        """Persona and state are independent before the first event, float64[P, Z]."""
        result: Floats = self.persona_prior[:, None] * self.stationary[None, :]
        return result

    @cached_property
    def _usual_by_cell(self) -> Floats:
        return np.ascontiguousarray(self.usual.transpose(1, 0, 2))

    @cached_property
    def _carried_by_previous(self) -> Floats:
        """float64[K + 1, P, K]; the last row, which UNKNOWN = -1 picks, is for an event that follows nothing."""
        by_previous = self.carried.transpose(1, 0, 2)
        return np.concatenate([by_previous, np.zeros_like(by_previous[:1])])

    @cached_property
    def _left_by_previous(self) -> Floats:
        """float64[K + 1, P]: the share that is left for `usual`."""
        result: Floats = 1 - self._carried_by_previous.sum(axis=2)
        return result

    def usual_probabilities(self, hours: Integers, previous: Integers) -> Floats:
        """What each persona does when no burst has its way, float64[U, P, K], by hour of week and previous behavior."""
        usual = self._usual_by_cell[CELL_OF_HOUR[hours]]
        usual *= self._left_by_previous[previous][:, :, None]
        usual += self._carried_by_previous[previous]
        return usual

    def hidden_probabilities(self, persona: int, state: int, hour: int, previous: int) -> Floats:
        """Probability of each behavior, float64[K], given persona and state."""
        usual = self.usual_probabilities(np.array([hour]), np.array([previous]))[0, persona]
        result: Floats = (1 - self.strength[state]) * usual
        if state:
            result[self.stage_behavior[state]] += self.strength[state]
        return result

    def filter_step(self, belief: Floats, moments: Moments) -> tuple[Floats, Floats]:
        """See `Generator.filter_step`: both ways in which the observed event may have come about are summed."""
        users = np.arange(len(belief))
        usual = self.usual_probabilities(moments.hours, moments.previous)
        silent = belief * (1 - self.strength)
        predicted: Floats = np.matmul(silent.sum(axis=2)[:, None, :], usual)[:, 0]
        predicted[:, self.stage_behavior[1:]] += (belief.sum(axis=1) * self.strength)[:, 1:]

        silent *= usual[users, :, moments.behaviors][:, :, None]
        after = silent @ self.after_silence
        stage = self.stage_of_behavior[moments.behaviors]
        emitted = belief[users, :, stage] * self.strength[stage][:, None]
        after += emitted[:, :, None] * self.after_emission[stage][:, None, :]
        after *= self.place_likelihood(moments)[:, :, None]
        return predicted, normalized(after)

    def place_likelihood(self, moments: Moments) -> Floats:
        """Probability of the place given the behavior, for each persona, float64[U, P]; 1 where it is unknown."""
        working = IS_WORKING_HOUR[moments.hours]
        by_job = self.place[moments.behaviors, :, working, moments.places]
        by_job = np.where((moments.places == UNKNOWN)[:, None], 1.0, by_job)
        result: Floats = by_job[:, self.persona_job]
        return result

    def simulate_life(self, seed: int, user_index: int, events: tuple[int, int]) -> Life:
        """One user, from the tables above."""
        return simulated(self, seed, user_index, events, self._begin, self._step)

    def _begin(self, random: np.random.Generator) -> tuple[int, int]:
        return draw(self.persona_prior, random), draw(self.stationary, random)

    def _step(
        self, persona: int, state: int, hour: int, previous: int, random: np.random.Generator
    ) -> tuple[int, int, int]:
        if random.random() < self.strength[state]:
            behavior = int(self.stage_behavior[state])
            state = draw(self.after_emission[state], random)
        else:
            usual = self.usual_probabilities(np.array([hour]), np.array([previous]))
            behavior = draw(usual[0, persona], random)
            state = draw(self.after_silence[state], random)
        place = draw(self.place[behavior, self.persona_job[persona], IS_WORKING_HOUR[hour]], random)
        return behavior, place, state
