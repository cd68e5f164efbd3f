"""A predictor whose prompts have a profile line and the time since the last event: its folder sees what the run saw,
from histories in the log's own words and from whole logs, and says what it was not given.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from behaviorlm.predictor.behavior_model import BehaviorModel, Choices
from behaviorlm.predictor.histories import History
from behaviorlm.predictor.requests import FIRST_GAP, Request
from behaviorlm.timelines.gaps import SINCE_LAST
from behaviorlm_ray.export.exporting import ExportPlan, export, prepared_histories
from behaviorlm_ray.export.finished_run import FinishedRun, open_finished
from behaviorlm_ray.prediction.plan import Wanted
from behaviorlm_ray.prediction.positions import histories, timelines
from behaviorlm_ray.prediction.rows import CONTEXT_UNKNOWN, TIME_UNKNOWN
from behaviorlm_ray.prediction.rows import rows as predicted
from behaviorlm_ray.scoring.score_files import open_scores
from tests.platform.export.finished_runs import finished_run


@pytest.fixture(scope="module")
def run(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    with pytest.MonkeyPatch.context() as monkeypatch:
        keys = ("prompt.profile=2", "events.clock=[weekday, since_last]")
        made = finished_run(tmp_path_factory.mktemp("profiles"), small_base, monkeypatch, *keys)
    found = open_finished(str(made.output_folder))
    assert any(len(part.profiles.values) for part in found.log.parts)
    return found


@pytest.fixture(scope="module")
def model(run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> BehaviorModel:
    folder = tmp_path_factory.mktemp("exported") / "out"
    export(ExportPlan(str(run.folder), str(folder), "one_stage+counts"))
    return BehaviorModel.load(folder, device="cpu")


def scores_of(run: FinishedRun) -> np.ndarray:
    """What the run's model said of the test samples."""
    rows = run.samples.test
    behaviors = len(run.log.vocabulary)
    expected = np.empty((sum(map(len, rows)), behaviors), np.float32)
    held_out = [np.union1d(*both) for both in zip(run.samples.validation, rows, strict=True)]
    for batch in open_scores(run.score_folder("one_stage"), held_out).batches(rows, behaviors):
        expected[batch.places] = batch.label_scores
    return expected


def test_gaps_are_told_in_classes(run: FinishedRun) -> None:
    for part in run.log.parts:
        order, users = part.table["order"].to_numpy(), part.user_start
        for row, word in enumerate(part.table[SINCE_LAST].to_pylist()):
            minutes = (order[row] - order[row - 1]) / 60e6
            expected = "<1m" if minutes == 0 else "<15m" if minutes == 7 else "<3h"
            assert word == (None if users[row] == row else expected)


def test_whole_histories_are_scored_as_in_the_run_and_shorter_ones_say_what_they_lack(
    run: FinishedRun, model: BehaviorModel
) -> None:
    asked, expected = prepared_histories(run, run.samples.test), scores_of(run)
    assert np.abs(model.parts.label_scores(asked) - expected).max() < 1e-4

    def last_seven(history: History) -> History:
        cut = max(0, history.size - 7)
        return History(history.events.slice(cut), np.arange(history.size - cut), history.now, cut)

    short = [last_seven(history) for history in asked]
    assert np.abs(model.parts.label_scores(short) - expected).max() > 1e-3
    for history, prediction in zip(short, model.predict_histories(short, Choices()), strict=True):
        said = [text for text in prediction.warnings if "profile line lacks" in text]
        assert len(said) == (history.earlier > 0)
        assert not said or f"the {history.earlier} earlier events" in said[0]


def test_a_request_in_the_logs_own_words_is_scored_as_the_prepared_one(
    run: FinishedRun, model: BehaviorModel
) -> None:
    part, chosen = next(
        (p, rows) for p, rows in zip(run.log.parts, run.samples.test, strict=True) if len(rows)
    )
    row = int(chosen[-1])
    start = int(part.user_start[row])
    table = part.table.slice(start, row - start + 1).to_pylist()
    moments = [str(np.datetime64(event["order"], "us")) + "Z" for event in table]
    events = [
        {
            "time": moment,
            "behavior": event["behavior"],
            "room": event["before.room"],
            "result": event["after.result"],
        }
        for event, moment in zip(table[:-1], moments, strict=False)
    ]
    now = {"room": table[-1]["before.room"]}
    only = [np.array([row]) if one is part else np.zeros(0, np.int64) for one in run.log.parts]
    prepared = model.log_probabilities(prepared_histories(run, only))
    whole = model.read([Request(events, now, moments[-1])])
    assert whole[0].warnings == () and whole[0].now[SINCE_LAST].to_pylist() == [table[-1][SINCE_LAST]]
    assert np.abs(model.log_probabilities(whole) - prepared).max() < 1e-5
    [cut] = model.read([Request(events[3:], now, moments[-1], earlier_events=3)])
    assert FIRST_GAP in cut.warnings
    [timeless] = model.read([Request(events, now)])
    assert timeless.now[SINCE_LAST].to_pylist() == [None]


def test_predictions_for_a_whole_log_see_the_same(run: FinishedRun, model: BehaviorModel) -> None:
    mapping = run.log.as_read(run.settings.events)
    part = max(run.log.parts, key=len)
    names = [name for name in part.table.column_names if name.startswith(("before.", "after."))]
    rows = part.table.select(["user", "order", "behavior", *names])
    empty = pa.nulls(len(rows), pa.string())
    rows = rows.set_column(rows.column_names.index(SINCE_LAST), SINCE_LAST, empty)
    extra = {
        "order_remainder": pa.array(np.zeros(len(rows), np.int64)),
        "file": pa.array(np.zeros(len(rows), np.int32)),
        "row": pa.array(np.arange(len(rows))),
    }
    for name in ("group", "split_label"):
        extra[name] = rows["user"] if name == "group" else empty
    for name, values in extra.items():
        rows = rows.append_column(name, values)
    lines = timelines(rows, mapping, Wanted("every"), model.artifact)
    found = histories(lines, range(len(lines)), model.artifact)
    samples = [at for at in range(len(lines)) if lines.has_next[at] and lines.size[at] >= 1]
    expected = prepared_histories(
        run,
        [np.flatnonzero(one.is_target) if one is part else np.zeros(0, np.int64) for one in run.log.parts],
    )
    assert len(samples) == len(expected)
    scored = model.log_probabilities([found[at] for at in samples])
    assert np.abs(scored - model.log_probabilities(expected)).max() < 1e-5
    late = int(rows["order"].to_numpy().max()) + 30 * 60_000_000
    moment = str(np.datetime64(late, "us")) + "Z"
    last = timelines(rows, mapping, Wanted("latest", moment, late), model.artifact)
    latest = np.array([np.argmax(last.events["order"].to_numpy()[last.next_row - 1])])
    [of_last] = histories(last, latest.tolist(), model.artifact)
    assert of_last.now[SINCE_LAST].to_pylist() == ["<1h"]
    unasked = timelines(rows, mapping, Wanted("latest"), model.artifact)
    said = [predicted(model, of, latest, mapping, 1, None)["warnings"][0].as_py() for of in (last, unasked)]
    assert said == [[CONTEXT_UNKNOWN], [TIME_UNKNOWN, CONTEXT_UNKNOWN]]
