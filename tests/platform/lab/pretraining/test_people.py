"""The people of the text: lives that no log has, the world's own causes as far as they are to be known, flat rates."""

from collections import Counter

import numpy as np
import pytest

from behaviorlm.errors import ConfigError
from behaviorlm_lab.pretraining.documents import EVENTS, READ
from behaviorlm_lab.pretraining.people import invented_people, spread_share
from behaviorlm_lab.truth.probabilities import filtered_timelines
from behaviorlm_lab.world.errands import errands_world
from behaviorlm_lab.world.generator import Generator, simulate_user, timeline_of
from behaviorlm_lab.world.opaque import OpaqueWorld
from behaviorlm_lab.world.process import default_world

WORLDS = pytest.mark.parametrize("world", [default_world(), errands_world()], ids=["main", "second"])


@WORLDS
@pytest.mark.parametrize("knowledge", [0.0, 0.5, 1.0])
def test_a_share_of_the_causes_is_at_work_and_none_is_new(world: Generator, knowledge: float) -> None:
    people = invented_people(world, 0, knowledge)
    assert set(people.links) <= set(world.links)
    assert (len(people.links) == 0, len(people.links) == len(world.links)) == (knowledge == 0, knowledge == 1)
    lives = [simulate_user(people, READ, number, EVENTS) for number in range(40)]
    for found in filtered_timelines(people, [timeline_of(people, life) for life in lives]):
        np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=0, atol=1e-9)


def test_what_a_cause_brings_is_what_the_links_say() -> None:
    """Within six events of a cause its effect is far above its rate, for the links that are shown and no others."""
    world = default_world()
    people = invented_people(world, 0, 0.5)
    after, causes, seen, events = Counter[tuple[str, str]](), Counter[str](), Counter[str](), 0
    for number in range(250):
        life = [event.behavior for event in simulate_user(people, READ, number, (26, 26))]
        seen.update(life)
        events += len(life)
        for at, behavior in enumerate(life[:-6]):
            causes[behavior] += 1
            after.update((behavior, other) for other in set(life[at + 1 : at + 7]))
    for cause, effect in world.links:
        share, usual = after[cause, effect] / causes[cause], 6 * seen[effect] / events
        assert (share > 0.5) == ((cause, effect) in people.links), (cause, effect, share, usual)


@pytest.mark.parametrize("knowledge", [0.0, 0.5, 1.0])
def test_rates_are_flat_whatever_is_known(knowledge: float) -> None:
    """Rare behaviors are half of what happens, in a log a seventh; the rarest is not far below the most common one."""
    world = default_world()
    people = invented_people(world, 0, knowledge)
    seen = Counter(
        event.behavior for number in range(150) for event in simulate_user(people, READ, number, EVENTS)
    )
    counts = np.array([seen[name] for name in world.names])
    assert 0.4 < counts[~world.is_common].sum() / counts.sum() < 0.55
    assert counts.min() > counts.max() / 10


def test_people_follow_their_seed_and_are_nobody_of_the_world() -> None:
    world = default_world()
    one, same, other = (invented_people(world, seed) for seed in (3, 3, 4))
    assert simulate_user(one, READ, 5, EVENTS) == simulate_user(same, READ, 5, EVENTS)
    assert simulate_user(one, READ, 5, EVENTS) != simulate_user(other, READ, 5, EVENTS)
    assert len({world.version, one.version, other.version}) == 3


def test_a_share_is_rounded_up_and_spread() -> None:
    assert spread_share("abcdefghi", 0.5) == list("acegi")
    assert spread_share("abcdefghi", 0.3) == list("adg")
    assert spread_share("abcdefghi", 0.01) == ["a"]
    assert (spread_share("ab", 0.0), spread_share("ab", 1.0)) == ([], ["a", "b"])


def test_what_there_is_no_population_of_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"knowledge=-0.1: it must lie between 0 and 1"):
        invented_people(default_world(), 0, -0.1)
    with pytest.raises(ConfigError, match=r"no text about people of the world main-2"):
        invented_people(OpaqueWorld(default_world(), 0), 0)
