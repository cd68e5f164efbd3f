"""Breakdowns against the same counted by pandas, on random outcomes of a random log."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm.prompts.config import PromptConfig
from behaviorlm_ray.evaluation import breakdowns as of
from behaviorlm_ray.evaluation.circumstances import Circumstances, circumstances
from behaviorlm_ray.evaluation.samples import EvaluatedSamples, SampleFacts, sample_facts
from behaviorlm_ray.evaluation.user_spread import USER_SAMPLES, users, users_against
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows
from tests.behaviorlm.random_parts import prompt_tokens, vocabulary, write_part

HOURS = [f"{hour:02d}" for hour in range(24)]


@pytest.fixture(scope="module")
def random_log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    """Two parts of twelve users each, with a split and a clock."""
    folder = tmp_path_factory.mktemp("log")
    (folder / "parts").mkdir()
    random = np.random.default_rng(4)
    for number in range(2):
        path = folder / "parts" / f"timelines-{number:05d}.arrow"
        write_part(path, number, random.integers(4, 40, 12).tolist())
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        split = random.choice([0, 0, 2], len(table)).astype(np.int8)
        table = table.set_column(table.column_names.index("split"), "split", pa.array(split))
        table = table.append_column("before.hour", pa.array(random.choice(HOURS, len(table))))
        path.unlink()
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    (folder / "vocabulary.json").write_text(vocabulary().to_json())
    (folder / "prompt.json").write_text(prompt_tokens(0).to_json())
    return PreparedLog(folder, PromptConfig(max_events=12, stride=4))


@pytest.fixture(scope="module")
def rows(random_log: PreparedLog) -> SampleRows:
    return [part.targets("test") for part in random_log.parts]


@pytest.fixture(scope="module")
def facts(random_log: PreparedLog, rows: SampleRows) -> SampleFacts:
    return sample_facts(random_log, EvaluatedSamples([rows[0][:0]] * 2, rows))


@pytest.fixture(scope="module")
def outcomes(facts: SampleFacts) -> dict[str, Outcomes]:
    random, behaviors = np.random.default_rng(3), len(facts.vocabulary)

    def one() -> Outcomes:
        predicted = random.integers(0, behaviors, len(facts.targets)).astype(np.int32)
        rank = np.where(facts.targets < 0, -1, random.integers(1, behaviors, len(predicted)))
        rank = np.where(predicted == facts.targets, 0, rank).astype(np.int32)
        confidence = np.round(random.random(len(predicted)), 1)  # with ties
        return Outcomes(facts.targets, predicted, rank, confidence, behaviors)

    return {"one": one(), "two": one()}


@pytest.fixture(scope="module")
def frame(
    random_log: PreparedLog, rows: SampleRows, facts: SampleFacts, outcomes: dict[str, Outcomes]
) -> pd.DataFrame:
    """The samples as a table, read from the parts again."""
    found = []
    for part, chosen in zip(random_log.parts, rows, strict=True):
        table = part.table.select(["user", "split", "group", "before.hour"]).to_pandas()
        table["history"] = np.arange(len(table)) - part.window_start
        known = table[table.split == 0].groupby("user").size()
        table["known"] = table.user.map(known).fillna(0).astype(int)
        found.append(table.iloc[chosen])
    joined = pd.concat(found, ignore_index=True)
    joined["is_repeat"], joined["target"] = facts.is_repeat, facts.targets
    for name, predicted in outcomes.items():
        joined[f"{name}.predicted"] = predicted.predicted
        joined[f"{name}.right"] = (predicted.predicted == facts.targets) & (facts.targets >= 0)
        joined[f"{name}.confidence"] = predicted.confidence
    return joined


@pytest.fixture(scope="module")
def found(random_log: PreparedLog, rows: SampleRows, facts: SampleFacts) -> Circumstances:
    return circumstances(random_log, rows, facts)


def test_accuracy_in_classes_of_history_and_of_known_events(
    found: Circumstances, outcomes: dict[str, Outcomes], frame: pd.DataFrame
) -> None:
    told = of.slices(found, outcomes)
    for name in ("history", "known"):
        edges = [*of.CLASS_STARTS, np.inf]
        expected = frame.groupby(pd.cut(frame[name], edges, right=False), observed=True)
        assert [row["samples"] for row in told[name]] == expected.size().tolist()
        assert [row["groups"] for row in told[name]] == expected["group"].nunique().tolist()
        for model in outcomes:
            assert [row["accuracy"][model] for row in told[name]] == pytest.approx(
                expected[f"{model}.right"].mean().tolist()
            )
    changes = frame[~frame.is_repeat]
    assert told["repeat"][0]["label"] == "changes" and told["repeat"][0]["samples"] == len(changes)
    assert told["repeat"][0]["accuracy"]["one"] == pytest.approx(changes["one.right"].mean())
    hours = frame.groupby("before.hour")["two.right"].agg(["size", "mean"])
    assert [row["label"] for row in told["hour"]] == hours.index.tolist()
    assert [row["samples"] for row in told["hour"]] == hours["size"].tolist()
    assert [row["accuracy"]["two"] for row in told["hour"]] == pytest.approx(hours["mean"].tolist())


def test_what_is_taken_for_what(outcomes: dict[str, Outcomes], frame: pd.DataFrame) -> None:
    wrong = frame[frame["one.predicted"] != frame.target]
    told = of.confusions(outcomes["one"])
    assert len(told) == outcomes["one"].behaviors + 1
    for behavior, listed in enumerate(told):
        target = behavior if behavior < outcomes["one"].behaviors else -1
        expected = wrong[wrong.target == target]["one.predicted"].value_counts()
        assert [times for _, times in listed] == expected.head(of.CONFUSED).tolist()
        assert all(expected[instead] == times for instead, times in listed)


def test_coverage_takes_all_predictions_that_are_sure_enough(
    outcomes: dict[str, Outcomes], frame: pd.DataFrame
) -> None:
    told = of.coverage(outcomes["two"])
    ordered = frame.sort_values("two.confidence", ascending=False)["two.confidence"].tolist()
    for share, row in zip(of.COVERAGES, told, strict=True):
        assert row["threshold"] == ordered[round(share * len(frame)) - 1]
        taken = frame[frame["two.confidence"] >= row["threshold"]]
        assert row["samples"] == len(taken) and row["coverage"] == pytest.approx(len(taken) / len(frame))
        assert row["precision"] == pytest.approx(taken["two.right"].mean())
    assert told[-1]["coverage"] == 1


def test_users_in_numbers(found: Circumstances, outcomes: dict[str, Outcomes], frame: pd.DataFrame) -> None:
    by_user = frame.groupby("group").agg(
        size=("one.right", "size"), one=("one.right", "mean"), two=("two.right", "mean")
    )
    enough = by_user[by_user["size"] >= USER_SAMPLES]
    told = users(found, outcomes["one"])
    assert told["users"] == len(enough) and told["left_out"] == len(by_user) - len(enough)
    for at, value in told["quantiles"].items():
        assert value == pytest.approx(enough.one.quantile(float(at)))
    assert sum(told["histogram"]) == len(enough)
    assert sum(part["users"] for part in told["parts"]) == len(enough)
    worst = enough.sort_values("one", kind="stable").head(told["parts"][0]["users"])
    assert told["parts"][0]["lowest"] == pytest.approx(worst.one.min())
    assert told["parts"][0]["samples"] * told["parts"][0]["accuracy"] == pytest.approx(
        (worst["size"] * worst.one).sum()
    )
    against = users_against(found, outcomes, "one")["two"]
    assert against == {
        "better": int((enough.one > enough.two).sum()),
        "same": int((enough.one == enough.two).sum()),
        "worse": int((enough.one < enough.two).sum()),
    }


def test_the_fingerprint_names_the_samples_and_not_their_order(facts: SampleFacts) -> None:
    ids = facts.sample_ids
    whole = of.samples_fingerprint(ids)
    assert of.samples_fingerprint(np.random.default_rng(2).permutation(ids)) == whole
    assert of.samples_fingerprint(ids[1:]) != whole
