"""What kills cost, from moments at which steps were seen: against runs whose costs are known."""

from pathlib import Path
from typing import Any, cast

import pytest

from behaviorlm_ray.stages.attempts import Attempt
from behaviorlm_ray.stages.finding import Identity
from behaviorlm_ray.stages.run_record import PROGRESS_FILE
from benchmarks.goodput import Watch, figures, progress_files

SPEED, EVERY, DOWN, LOST = 4.0, 100.0, 12.0, 20


def run_with_kills(kills: int) -> Watch:
    """SPEED steps a second; after each kill DOWN seconds of nothing, then LOST steps again."""
    watch, moment, done = Watch(), 0.0, 0
    watch.kills = [EVERY * (number + 0.5) for number in range(kills)]
    watch.loads, watch.cpu = [1.0] * kills, [9.0] * kills
    left = list(watch.kills)
    while moment < EVERY * kills:
        moment, done = moment + 1 / SPEED, done + 1
        if left and moment > left[0]:
            moment, done = left.pop(0) + DOWN, done - 1 - LOST
            watch.lines.append((moment - 2.0, "tuning: continuing from somewhere"))
            watch.lines.append((moment - 1.0, "tuning: 99 steps on 2 worker(s)"))
            continue
        watch.steps.append((moment, done))
    return watch


@pytest.mark.parametrize("kills", [1, 2, 3])
def test_goodput_is_what_is_left_of_the_time_after_waiting_and_repeating(kills: int) -> None:
    record = figures(run_with_kills(kills), EVERY)
    cost = DOWN + LOST / SPEED
    assert record["steps_per_second"] == pytest.approx(SPEED, rel=0.03)
    assert record["goodput"] == pytest.approx(1 - cost / EVERY, abs=0.03)
    assert record["goodput_by_cost"] == pytest.approx(1 - cost / EVERY, abs=0.01)
    for kill in record["kills"]:
        assert kill["cost"] == pytest.approx(cost, abs=2 / SPEED)
        assert kill["repeated"] == pytest.approx(LOST, abs=1)
        assert kill["resumed"] == pytest.approx(DOWN - 2, abs=0.1)
        assert kill["built"] == pytest.approx(DOWN - 1, abs=0.1)


def test_a_run_that_never_catches_up_is_told() -> None:
    watch = run_with_kills(1)
    watch.steps = [(moment, done) for moment, done in watch.steps if moment <= watch.kills[0]]
    with pytest.raises(RuntimeError, match="take a longer interval"):
        figures(watch, EVERY)


def test_steps_are_read_where_attempts_tell_them(tmp_path: Path) -> None:
    identity = Identity("a_tune", 1, {}, {}, "", tmp_path / "stages" / "a_tune-123")
    unused = cast(Any, None)
    attempt = Attempt(identity, unused, unused, unused, unused, "first")
    told = cast(Path, attempt.checkpoints) / PROGRESS_FILE
    told.parent.mkdir(parents=True)
    told.write_text("{}")
    assert progress_files(tmp_path) == [told]
