"""Counts as an artifact keeps them: equal to the baseline's, without rare histories, the same after reading back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from behaviorlm.baselines import levels
from behaviorlm.baselines.markov import fit_markov
from behaviorlm.baselines.timelines import timeline_arrays
from behaviorlm.errors import DataError
from behaviorlm.predictor.counts import Counts, fit_counts, read_counts, write_counts
from behaviorlm.predictor.rare_histories import without_rare
from tests.behaviorlm.predictor.small_artifacts import NAMES, made_counts

COUNTED = made_counts()


def asked(counts: Counts) -> tuple[list[list[int]], np.ndarray]:
    """Pasts of the first 400 rows of the log, and their contexts."""
    _, timelines, table = COUNTED
    pasts = [timelines.behavior[timelines.user_start[row] : row].tolist() for row in range(400)]
    return pasts, counts.context_codes(table.slice(0, 400))


def followed(counts: Counts) -> dict[tuple[int, int, int], float]:
    """(level, key, behavior) -> events."""
    return {
        (number, int(level.keys[state]), int(level.behaviors[entry])): float(level.counts[entry])
        for number, level in enumerate(counts.markov.levels)
        for state in range(len(level.keys))
        for entry in range(level.starts[state], level.starts[state + 1])
    }


def test_unpruned_counts_predict_as_the_baseline_of_a_run() -> None:
    counts, timelines, _ = COUNTED
    baseline = fit_markov(timelines, 3, use_context=True)
    expected = baseline.predict(timelines, np.arange(400))
    assert np.abs(counts.log_probabilities(*asked(counts)) - expected).max() < 1e-6


def test_without_rare_histories_probabilities_still_sum_to_one_and_what_is_left_is_frequent() -> None:
    counts = COUNTED[0]
    pruned, kept, dropped = without_rare(counts, 5)
    assert len(followed(counts)) == kept + dropped and dropped > kept > 0
    assert np.exp(pruned.log_probabilities(*asked(pruned)).astype(np.float64)).sum(1) == pytest.approx(
        1, abs=1e-5
    )
    short = [n for n, level in enumerate(counts.markov.levels) if (level.base, level.added) == (-1, 1)]
    assert len(short) == 1
    assert all(number >= 5 or level in short for (level, _, _), number in followed(pruned).items())
    everything, all_kept, none = without_rare(counts, 1)
    assert (all_kept, none) == (kept + dropped, 0)
    same = everything.log_probabilities(*asked(everything)) - counts.log_probabilities(*asked(counts))
    assert np.abs(same).max() == 0


def test_a_share_that_is_kept_is_what_it_was() -> None:
    """P(b | h) of the longest kept history: trust times the same share, the rest from the shorter one."""
    counts = COUNTED[0]
    pruned, _, _ = without_rare(counts, 5)
    level = 2  # one behavior with its context
    before, after = counts.markov, pruned.markov
    for state, key in enumerate(after.levels[level].keys):
        base = after.levels[level].base
        assert after.levels[base].keys.tolist() == before.levels[base].keys.tolist()  # so keys mean the same
        old = int(np.flatnonzero(before.levels[level].keys == key)[0])
        for entry in range(after.levels[level].starts[state], after.levels[level].starts[state + 1]):
            number = after.levels[level].counts[entry]
            now = after.trust[level][state] * number / after.levels[level].totals[state]
            assert now == pytest.approx(before.trust[level][old] * number / before.levels[level].totals[old])


@pytest.mark.parametrize("pairs", [1, 40])
def test_histories_are_left_out_alike_however_few_are_looked_at_together(
    monkeypatch: pytest.MonkeyPatch, pairs: int
) -> None:
    whole, *numbers = without_rare(COUNTED[0], 3)
    monkeypatch.setattr(levels, "PAIRS_AT_ONCE", pairs)
    cut, *again = without_rare(COUNTED[0], 3)
    assert numbers == again
    for one, other in zip(whole.markov.levels, cut.markov.levels, strict=True):
        for name, values in vars(one).items():
            np.testing.assert_array_equal(getattr(other, name), values)
    for trust, other_trust in zip(whole.markov.trust, cut.markov.trust, strict=True):
        np.testing.assert_array_equal(other_trust, trust)


def test_a_planted_rare_history_is_found_before_and_gone_after(tmp_path: Path) -> None:
    """Of one user alone: two behaviors in a room of his own, and then what he did."""
    _, timelines, table = COUNTED
    alarm, bill = NAMES.index("alarm"), NAMES.index("pay the bill")
    rows = [3, 4, 5, 6]  # of the first user, all in training
    behavior = timelines.behavior.copy()
    behavior[rows] = [alarm, bill, alarm, bill]
    rooms = table["before.room"].to_pylist()
    rooms[6] = "planted room"
    planted = table.set_column(
        table.column_names.index("before.room"), "before.room", pa.array(rooms)
    ).set_column(2, "behavior", pa.array([NAMES[index] for index in behavior]))
    counts = fit_counts(timeline_arrays(planted, NAMES), ["before.room", "before.weekday"])
    pruned, _, _ = without_rare(counts, 5)

    def given_away(shown: Counts) -> tuple[bool, float]:
        """Whether the room is in the files, and how likely they hold the fourth event after the first three."""
        write_counts(shown, tmp_path)
        found = b"planted room" in (tmp_path / "contexts.arrow").read_bytes()
        again = read_counts(tmp_path, len(NAMES))
        unknown = np.array([again.unknown_context])
        return found, float(np.exp(again.log_probabilities([[alarm, bill, alarm]], unknown)[0, bill]))

    seen, likely = given_away(counts)
    assert seen and likely > 0.3
    seen, likely = given_away(pruned)
    short = np.exp(pruned.log_probabilities([[alarm]], np.array([pruned.unknown_context]))[0, bill])
    assert not seen and likely == pytest.approx(float(short))


def test_reading_back_gives_the_same(tmp_path: Path) -> None:
    pruned, _, _ = without_rare(COUNTED[0], 5)
    write_counts(pruned, tmp_path)
    again = read_counts(tmp_path, len(NAMES))
    assert again.contexts == pruned.contexts and again.columns == pruned.columns
    assert (
        np.abs(again.log_probabilities(*asked(again)) - pruned.log_probabilities(*asked(pruned))).max() == 0
    )
    with pytest.raises(DataError, match="cannot be read"):
        read_counts(tmp_path, len(NAMES) + 1)
    (tmp_path / "counts.arrow").write_bytes(b"no arrow")
    with pytest.raises(DataError, match="cannot be read"):
        read_counts(tmp_path, len(NAMES))


def test_an_unknown_context_falls_back_to_counts_without_one() -> None:
    counts, _, _ = made_counts()
    strange = pa.table({"before.room": ["cellar"], "before.weekday": ["Fri"]})
    assert counts.context_codes(strange).tolist() == [counts.unknown_context]
    missing = counts.context_codes(pa.table({"x": [1, 2]}))
    assert missing.tolist() == [counts.unknown_context] * 2
    found = np.exp(counts.log_probabilities([[0, 1]], missing[:1]))
    known = np.exp(counts.log_probabilities([[0, 1]], np.array([0])))
    assert found.sum() == pytest.approx(1, abs=1e-5) and np.abs(found - known).max() > 1e-4


def test_pruning_may_leave_nothing_but_the_last_behavior() -> None:
    pruned, _, _ = without_rare(COUNTED[0], 10_000)
    assert [(level.base, level.added) for level in pruned.markov.levels] == [(-1, 1)]
    assert pruned.contexts == {} and pruned.order == 1
    found = pruned.log_probabilities([[], [3], [-1]], np.array([0, 0, 0]))
    assert np.exp(found.astype(np.float64)).sum(1) == pytest.approx(1, abs=1e-5)


def test_what_a_baseline_counted_is_as_good_as_counting_again_with_room_for_the_unknown() -> None:
    _, timelines, _ = COUNTED
    columns = ["before.room", "before.weekday"]
    given = fit_counts(timelines, columns, fit_markov(timelines, 3, use_context=True)).markov
    again = fit_markov(replace(timelines, contexts=timelines.contexts + 1), 3, use_context=True)
    for level, expected in zip(given.levels, again.levels, strict=True):
        for name, value in vars(expected).items():
            np.testing.assert_array_equal(getattr(level, name), value)
    for trust, expected_trust in zip(given.trust, again.trust, strict=True):
        np.testing.assert_array_equal(trust, expected_trust)
