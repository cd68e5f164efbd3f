"""The truth: the filter equals the sum over all hidden paths, is calibrated, and a full window is the whole history."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behaviorlm.errors import DataError
from behaviorlm_lab.truth.probabilities import (
    filtered_timelines,
    windowed_timelines,
)
from behaviorlm_lab.world.clock import CELL_OF_HOUR, CELLS, HOURS, IS_WORKING_HOUR
from behaviorlm_lab.world.errands import LONGEST, ErrandsWorld, errands_world
from behaviorlm_lab.world.generator import (
    JOBS,
    PLACES,
    UNKNOWN,
    Floats,
    Generator,
    Timeline,
    simulate_user,
    timeline_of,
)
from behaviorlm_lab.world.opaque import OpaqueWorld
from behaviorlm_lab.world.process import default_world
from behaviorlm_lab.world.tables import Chain, World

BOTH = pytest.mark.parametrize("make", [default_world, errands_world], ids=["main", "errands"])


def micro_world(seed: int) -> World:
    """Two personas, two chains (of three stages and of two), seven behaviors, random tables."""
    random = np.random.default_rng(seed)
    carried = 0.8 * random.dirichlet(np.ones(8), (2, 7))[..., :7]
    return World(
        version="micro",
        names=tuple("abcdefg"),
        is_common=np.arange(7) < 2,
        chains=(Chain((2, 3, 4), (0.9, 0.5, 0.4), 0.2), Chain((5, 6), (1.0, 0.6), 0.1)),
        persona_prior=random.dirichlet(np.ones(2)),
        persona_job=np.array([0, 2]),
        usual=random.dirichlet(np.ones(7), (2, CELLS)),
        carried=carried,
        place=random.dirichlet(np.ones(len(PLACES)), (7, len(JOBS), 2)),
        continuation=0.8,
        abandonment=0.15,
        silent_share=0.3,
    )


def micro_errands(seed: int) -> ErrandsWorld:
    """Two personas, three activities, five behaviors, random tables."""
    random = np.random.default_rng(seed)
    return ErrandsWorld(
        version="micro",
        names=tuple("abcde"),
        is_common=np.arange(5) < 2,
        persona_job=np.array([0, 2]),
        preference=random.dirichlet(np.ones(3), 2),
        length=random.dirichlet(np.ones(LONGEST), 3),
        emission=random.dirichlet(np.ones(5), (3, 2, CELLS)),
        place=random.dirichlet(np.ones(len(PLACES)), (3, len(JOBS))),
        repeat=random.random(5) / 2,
    )


def random_timeline(seed: int, length: int, behaviors: int) -> Timeline:
    random = np.random.default_rng(seed)
    return Timeline(
        random.integers(0, HOURS, length),
        random.integers(0, behaviors, length),
        random.integers(UNKNOWN, len(PLACES), length),
    )


def summed_over_paths_of_main(world: World, timeline: Timeline, first: int, last: int) -> Floats:
    """p* of event `last` given those from `first` on: every persona, state path and way of coming about, one by one."""
    result = np.zeros(len(world.names))

    def usual(persona: int, position: int) -> Floats:
        own = world.usual[persona, CELL_OF_HOUR[timeline.hours[position]]]
        if position == first:
            return own
        carried = world.carried[persona, timeline.behaviors[position - 1]]
        return (1 - carried.sum()) * own + carried

    def walk(persona: int, position: int, state: int, weight: float) -> None:
        if weight == 0:
            return
        strength = world.strength[state]
        if position == last:
            result[:] += weight * (1 - strength) * usual(persona, position)
            if state:
                result[world.stage_behavior[state]] += weight * strength
            return
        hour, behavior, place = (
            int(values[position]) for values in (timeline.hours, timeline.behaviors, timeline.places)
        )
        if place != UNKNOWN:
            weight *= world.place[behavior, world.persona_job[persona], IS_WORKING_HOUR[hour], place]
        for following in range(len(world.strength)):
            silent = (1 - strength) * usual(persona, position)[behavior]
            walk(persona, position + 1, following, weight * silent * world.after_silence[state, following])
            if state and behavior == world.stage_behavior[state]:
                chance = strength * world.after_emission[state, following]
                walk(persona, position + 1, following, weight * chance)

    for persona, prior in enumerate(world.persona_prior):
        for state, chance in enumerate(world.stationary):
            walk(persona, first, state, prior * chance)
    return result / result.sum()


def summed_over_paths_of_errands(world: ErrandsWorld, timeline: Timeline, first: int, last: int) -> Floats:
    """The same for the second world."""
    result = np.zeros(len(world.names))

    def row(position: int, activity: int, left: int) -> Floats:
        own = world.emission[activity, int(left == 1), CELL_OF_HOUR[timeline.hours[position]]]
        if position == first or left == 1:
            return own
        before = timeline.behaviors[position - 1]
        return (1 - world.repeat[before]) * own + world.repeat[before] * np.eye(len(own))[before]

    def walk(persona: int, position: int, activity: int, left: int, weight: float) -> None:
        if position == last:
            result[:] += weight * row(position, activity, left)
            return
        weight *= row(position, activity, left)[timeline.behaviors[position]]
        if timeline.places[position] != UNKNOWN:
            weight *= world.place[activity, world.persona_job[persona], timeline.places[position]]
        if left > 1:
            walk(persona, position + 1, activity, left - 1, weight)
            return
        for following, chance in enumerate(world.preference[persona]):
            for length, of_length in enumerate(world.length[following], start=1):
                walk(persona, position + 1, following, length, weight * chance * of_length)

    for persona in range(2):
        for state, chance in enumerate(world.stationary[persona]):
            walk(persona, first, state // LONGEST, state % LONGEST + 1, chance / 2)
    return result / result.sum()


def assert_filters_equal_sums(
    world: Generator, timeline: Timeline, seed: int, summed: Callable[..., np.ndarray]
) -> None:
    """Of the whole past, and of windows that start anywhere in it."""
    length = len(timeline)
    starts = np.random.default_rng(seed).integers(0, np.arange(length) + 1)
    whole = filtered_timelines(world, [timeline])[0]
    window = windowed_timelines(world, [timeline], [starts])[0]
    for position in range(length):
        np.testing.assert_allclose(whole[position], summed(world, timeline, 0, position), atol=1e-12)
        expected = summed(world, timeline, int(starts[position]), position)
        np.testing.assert_allclose(window[position], expected, atol=1e-12)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), length=st.integers(1, 5))
def test_the_filter_of_the_main_world_equals_the_sum_over_all_hidden_paths(seed: int, length: int) -> None:
    timeline = random_timeline(seed, length, 7)
    assert_filters_equal_sums(micro_world(seed), timeline, seed, summed_over_paths_of_main)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), length=st.integers(1, 4))
def test_the_filter_of_the_second_world_equals_the_sum_over_all_hidden_paths(seed: int, length: int) -> None:
    timeline = random_timeline(seed, length, 5)
    assert_filters_equal_sums(micro_errands(seed), timeline, seed, summed_over_paths_of_errands)


@BOTH
def test_the_state_is_stationary_so_that_windows_start_like_timelines(make: Callable[[], Generator]) -> None:
    world = make()
    if isinstance(world, World):
        move = (
            world.strength[:, None] * world.after_emission
            + (1 - world.strength)[:, None] * world.after_silence
        )
        np.testing.assert_allclose(world.stationary @ move, world.stationary, atol=1e-12)
        np.testing.assert_allclose(move.sum(axis=1), 1, atol=1e-12)
    elif isinstance(world, ErrandsWorld):
        moved = np.matmul(world.stationary[:, None], world.transition)[:, 0]
        np.testing.assert_allclose(moved, world.stationary, atol=1e-12)
    assert world.initial_belief().sum() == pytest.approx(1, abs=1e-12)


@BOTH
def test_logs_are_drawn_from_the_truth(make: Callable[[], Generator]) -> None:
    """For each behavior: targets against the sum of p*, within 4.5 standard deviations under p*; log loss within 4."""
    world = make()
    timelines = [timeline_of(world, simulate_user(world, 11, user)) for user in range(250)]
    p = np.concatenate(filtered_timelines(world, timelines))
    targets = np.concatenate([timeline.behaviors for timeline in timelines])
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)
    z = (np.bincount(targets, minlength=p.shape[1]) - p.sum(axis=0)) / np.sqrt((p * (1 - p)).sum(axis=0))
    assert np.abs(z).max() < 4.5
    assert 0.4 < (z**2).mean() < 2.0  # like chi-square, with one degree of freedom for each behavior
    log_p = np.log(np.maximum(p, 1e-300))
    mean = (p * log_p).sum(axis=1)
    deviation = np.sqrt(((p * log_p**2).sum(axis=1) - mean**2).sum())
    assert abs((log_p[np.arange(len(targets)), targets] - mean).sum()) < 4 * deviation


@BOTH
def test_what_the_truth_says_is_sure_happens_as_often_as_it_says(make: Callable[[], Generator]) -> None:
    world = make()
    timelines = [timeline_of(world, simulate_user(world, 12, user)) for user in range(250)]
    p = np.concatenate(filtered_timelines(world, timelines))
    hit = p.argmax(axis=1) == np.concatenate([timeline.behaviors for timeline in timelines])
    chance = p.max(axis=1)
    for low, high in ((0.0, 0.3), (0.3, 0.45), (0.45, 0.6), (0.6, 1.0)):
        inside = (chance >= low) & (chance < high)
        deviation = np.sqrt((chance * (1 - chance))[inside].sum())
        assert abs((hit - chance)[inside].sum()) <= 4 * deviation


@BOTH
def test_a_window_over_everything_is_the_whole_history_and_batches_change_nothing(
    make: Callable[[], Generator],
) -> None:
    world = make()
    events = [simulate_user(world, 3, user, (1, 30)) for user in range(12)]
    together = filtered_timelines(world, [timeline_of(world, timeline) for timeline in events])
    for timeline, expected in zip(events, together, strict=True):
        alone = [timeline_of(world, timeline)]
        np.testing.assert_allclose(filtered_timelines(world, alone)[0], expected, atol=1e-14)
        window = windowed_timelines(world, alone, [np.zeros(len(timeline), np.int64)])
        np.testing.assert_allclose(window[0], expected, atol=1e-14)


def test_a_window_knows_only_its_events_and_wrong_starts_are_refused() -> None:
    world = default_world()
    timeline = timeline_of(world, simulate_user(world, 3, 1, (30, 30)))
    starts = (np.arange(30) // 6) * 6
    window = windowed_timelines(world, [timeline], [starts])[0]
    cut = Timeline(timeline.hours[12:], timeline.behaviors[12:], timeline.places[12:])
    np.testing.assert_allclose(window[12:18], filtered_timelines(world, [cut])[0][:6], atol=1e-13)
    with pytest.raises(ValueError, match="starts"):
        windowed_timelines(world, [timeline], [np.arange(30) + 1])


def test_a_timeline_that_the_world_cannot_bring_about_is_refused() -> None:
    world = errands_world()
    ending = world.names.index("feed the ducks")
    timeline = Timeline(np.full(2, 12), np.full(2, ending), np.full(2, UNKNOWN))  # no ending follows another
    with pytest.raises(DataError, match="probability 0"):
        filtered_timelines(world, [timeline])


def test_codes_instead_of_names_change_neither_lives_nor_truth() -> None:
    world = default_world()
    opaque = OpaqueWorld(world, 5)
    plain, coded = simulate_user(world, 1, 4), simulate_user(opaque, 1, 4)
    assert [opaque.code_of_name[event.behavior] for event in plain] == [event.behavior for event in coded]
    one, other = timeline_of(world, plain), timeline_of(opaque, coded)
    np.testing.assert_array_equal(filtered_timelines(world, [one])[0], filtered_timelines(opaque, [other])[0])
    assert len(set(opaque.names)) == len(world.names) and len({len(name) for name in opaque.names}) > 2
    assert OpaqueWorld(world, 5).names == opaque.names != OpaqueWorld(world, 6).names
    assert not [name for name in opaque.names if name in " ".join(world.names)]
