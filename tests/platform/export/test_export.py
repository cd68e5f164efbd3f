"""Export of a finished run: the folder says what the run said, nothing else is handed over, and refusals are named."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from behaviorlm.errors import ConfigError, ModelError, StorageError
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.model import precision
from behaviorlm.predictor.answers import calibrated
from behaviorlm.predictor.artifact import Artifact, Calibration, FusedPredictor, read_artifact
from behaviorlm.predictor.behavior_model import BehaviorModel, Choices
from behaviorlm.predictor.requests import Request
from behaviorlm.scoring.model_names import DECISION_RULES, model_name
from behaviorlm_ray import storage
from behaviorlm_ray.commands.export import main
from behaviorlm_ray.export import exporting
from behaviorlm_ray.export.choice import Measured
from behaviorlm_ray.export.exporting import TOLERANCES, ExportPlan, apart, export, prepared_histories
from behaviorlm_ray.export.finished_run import FinishedRun, open_finished
from behaviorlm_ray.export.measuring import metrics_on_test
from behaviorlm_ray.export.run_folder import CONFIG_FILE
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.scoring.score_files import open_scores
from behaviorlm_ray.storage import S3Location
from tests.hardware import cpu_with
from tests.platform.export.finished_runs import finished_run


@pytest.fixture(scope="module")
def run(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    with pytest.MonkeyPatch.context() as monkeypatch:
        made: Run = finished_run(tmp_path_factory.mktemp("export"), small_base, monkeypatch)
    return open_finished(str(made.output_folder))


def exported(
    run: FinishedRun, to: Path, model: str | None = None, **options: object
) -> tuple[Artifact, list[str]]:
    lines = export(ExportPlan(str(run.folder), str(to), model, **options))  # type: ignore[arg-type]
    return read_artifact(to), lines


@pytest.mark.parametrize(
    ("name", "merged"),
    [
        ("one_stage", False),
        ("one_stage", True),
        ("untuned", False),
        ("untuned", True),
        ("one_stage+counts", False),
        ("counts", False),
    ],
)
def test_every_held_out_sample_is_scored_as_in_the_run(
    run: FinishedRun, name: str, merged: bool, tmp_path: Path
) -> None:
    artifact, _ = exported(run, tmp_path / "out", name, merged=merged)
    model = BehaviorModel.load(tmp_path / "out", device="cpu")
    rows = run.samples.test
    histories = prepared_histories(run, rows)
    arm = name.removesuffix("+counts")
    if arm in run.arms:
        behaviors = len(run.log.vocabulary)
        expected = np.empty((len(histories), behaviors), np.float32)
        held_out = [np.union1d(*both) for both in zip(run.samples.validation, rows, strict=True)]
        for batch in open_scores(run.score_folder(arm), held_out).batches(rows, behaviors):
            expected[batch.places] = batch.label_scores
        assert np.abs(model.parts.label_scores(histories) - expected).max() < 1e-4
    measured = Measured(run, 5)
    chosen = measured.choose(name)
    assert artifact.predictor == chosen.predictor and artifact.decision == chosen.rule
    best: dict[int, np.ndarray] = {}
    for batch in measured.scores(chosen).test():
        best |= dict(zip(batch.places.tolist(), np.asarray(batch.label_scores), strict=True))
    found = model.predict_histories(histories, Choices(k=99))
    for place, prediction in enumerate(found):
        exponents = np.exp(best[place] - best[place].max())
        expected_of = exponents / exponents.sum()
        assert [answer.probability for answer in prediction.answers] == pytest.approx(
            [float(expected_of[answer.id]) for answer in prediction.answers if answer.id is not None],
            abs=1e-5,
        )


def test_an_export_says_its_dtype_and_loads_without_units_for_it(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "LEAST_WIDTH", 32)
    cpu_with(monkeypatch, "avx512_bf16")
    with monkeypatch.context() as patched:
        made = finished_run(tmp_path / "made", small_base, patched)
    assert made.resolved.model.dtype == "bfloat16" and made.settings.model.dtype == "auto"
    run = open_finished(str(made.output_folder))
    rows, told = run.samples.test, []
    for flags in (("avx512_bf16",), ()):  # the second time on hardware where auto is float32
        cpu_with(monkeypatch, *flags)
        to = tmp_path / f"out {len(flags)}"
        artifact, _ = exported(run, to, "one_stage")
        assert artifact.weights is not None and artifact.verification is not None
        assert (artifact.weights.base.dtype, artifact.verification.dtype) == ("bfloat16", "bfloat16")
        caplog.clear()
        model = BehaviorModel.load(to, device="cpu")
        assert model.parts.language_model is not None
        held = {
            p.dtype for name, p in model.parts.language_model.model.named_parameters() if "lora" not in name
        }
        assert held == {torch.bfloat16 if flags else torch.float32}
        assert ("held in float32" in caplog.text) == (not flags)
        told.append(model.parts.label_scores(prepared_histories(run, rows)))
    difference = apart(told[1], told[0], "bfloat16")
    allowed, allowed_mean = TOLERANCES["bfloat16"]
    assert 0 < difference.max() <= allowed and difference.mean() <= allowed_mean


def test_a_request_in_the_logs_own_words_is_scored_as_the_prepared_one(
    run: FinishedRun, tmp_path: Path
) -> None:
    exported(run, tmp_path / "out", "one_stage+counts")
    model = BehaviorModel.load(tmp_path / "out", device="cpu")
    part, chosen = next(
        (p, rows) for p, rows in zip(run.log.parts, run.samples.test, strict=True) if len(rows)
    )
    row = int(chosen[-1])
    events = part.table.slice(int(part.user_start[row]), row - int(part.user_start[row])).to_pylist()
    asked = part.table.slice(row, 1).to_pylist()[0]

    def moment(event: dict[str, int]) -> str:
        return str(np.datetime64(event["order"], "us")) + "Z"

    history = [
        {
            "time": moment(event),
            "behavior": event["behavior"],
            "room": event["before.room"],
            "result": event["after.result"],
        }
        for event in events
    ]
    request = Request(history, {"room": asked["before.room"]}, moment(asked))
    assert model.read([request])[0].warnings == ()
    only = [np.array([row]) if one is part else np.zeros(0, np.int64) for one in run.log.parts]
    prepared = model.log_probabilities(prepared_histories(run, only))
    assert np.abs(model.log_probabilities(model.read([request])) - prepared).max() < 1e-5


def test_the_best_on_validation_is_exported_and_all_that_were_compared_are_told(
    run: FinishedRun, tmp_path: Path
) -> None:
    artifact, lines = exported(run, tmp_path / "out")
    measured, said = Measured(run, 5), run.results["recommended"]
    chosen, compared = measured.choose(None), measured.compared()
    calibrated_lines = [line for line in lines if line.startswith("expected calibration error on test")]
    assert len(calibrated_lines) == (artifact.uncalibrated is not None)
    assert [one.name for one in compared][:3] == ["counts", "untuned", "one_stage"] and len(compared) == 4
    assert artifact.origin.predictor == chosen.name == said["predictor"]
    assert (chosen.rule_name, chosen.objective) == (said["rule"], said["objective"])
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"\nRecommended by the run: {said['reason']}. What it compared has" in card
    assert lines[0].startswith(f"{said['predictor']} is exported (recommended by the run: {said['reason']});")
    for one in compared:
        assert any(line.startswith(f"  {one.name}: {one.objective:.3f}") for line in lines)
        assert f"- {one.name}: {one.objective:.3f}" in card
    # what was measured of the folder on test is what the run's results say of the same predictor and rule
    expected = run.results["models"][said["model"]]
    for group, metric in (("all", "accuracy"), ("tail", "macro_recall_at_least_10"), ("all", "mrr")):
        assert artifact.metrics[group][metric] == pytest.approx(expected[group][metric], abs=1e-9)


@pytest.mark.parametrize("rule", DECISION_RULES)
@pytest.mark.parametrize("name", ["one_stage", "counts"])
def test_every_rule_can_be_named_and_answers_as_the_runs_predictions_say(
    run: FinishedRun, name: str, rule: str, tmp_path: Path
) -> None:
    exported(run, tmp_path / "out", f"{name}+{rule}")
    model = BehaviorModel.load(tmp_path / "out", device="cpu")
    assert model.artifact.decision.kind == {"adjusted": "logit_adjusted"}.get(rule, rule)
    table = pd.read_parquet(run.folder / "predictions.parquet")
    table = table[table["predictor"] == name]
    found = model.predict_histories(prepared_histories(run, run.samples.test), Choices(k=3))
    assert [one.answers[0].behavior for one in found] == table[f"chosen_{rule}"].tolist()


def assert_coverage_is_that_of_a_plain_loop(run: FinishedRun, artifact: Artifact) -> None:
    measured = Measured(run, 5)
    chosen, answered = measured.choose(artifact.origin.predictor), []
    is_anchor = artifact.is_anchor
    for batch in measured.scores(chosen).validation():
        said = normalize_label_scores(batch.label_scores)
        ranked, shown = measured.ranked_by(chosen, said), calibrated(said, is_anchor, artifact.calibration)
        for place, row, own in zip(batch.places, ranked, shown, strict=True):
            order = sorted(range(len(row)), key=lambda k: (-row[k], k))
            answered.append((np.exp(own[order[0]]), order.index(run.facts.validation[place])))
    for point in artifact.thresholds:
        ranks = [rank for probability, rank in answered if probability >= point.min_probability]
        assert point.coverage == pytest.approx(len(ranks) / len(answered))
        assert point.precision == (pytest.approx(ranks.count(0) / len(ranks)) if ranks else None)
        among = sum(rank < 5 for rank in ranks)
        assert point.recall_at_5 == (pytest.approx(among / len(ranks)) if ranks else None)


def test_calibration_on_test_is_told_before_and_after_by_group_with_intervals_over_groups(
    run: FinishedRun,
) -> None:
    measured, calibration = Measured(run, 5), Calibration(anchor_temperature=2.5, tail_shift=1.0)
    chosen = measured.choose("one_stage+plain")
    after, before = metrics_on_test(measured, chosen, calibration)
    error = "expected_calibration_error"
    facts, evaluation = run.facts, run.settings.evaluation
    for found, of in ((before, None), (after, calibration)):
        confidence, right = np.empty(len(facts.targets)), np.empty(len(facts.targets), bool)
        for batch in measured.scores(chosen).test():
            said = normalize_label_scores(batch.label_scores)
            first = said.argmax(axis=1)
            shown = calibrated(said, facts.vocabulary.is_anchor, of)
            confidence[batch.places] = np.exp(shown[np.arange(len(first)), first])
            right[batch.places] = first == facts.targets[batch.places]
        of_anchor = np.append(facts.vocabulary.is_anchor, False)[facts.targets]
        for group, members in (("all", of_anchor | True), ("anchor", of_anchor), ("tail", ~of_anchor)):
            assert found[group][error]["value"] == pytest.approx(
                calibration_error(confidence[members], right[members])
            )
        # whole groups are drawn, as many as there are
        names = np.unique(facts.groups)
        random = np.random.default_rng(evaluation.seed)
        drawn = []
        for _ in range(evaluation.bootstrap_samples):
            chosen_groups = names[random.integers(0, len(names), len(names))]
            rows = np.concatenate([np.flatnonzero(facts.groups == name) for name in chosen_groups])
            drawn.append(calibration_error(confidence[rows], right[rows]))
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert (found["all"][error]["low"], found["all"][error]["high"]) == pytest.approx((low, high))
    assert before["all"][error] != after["all"][error]
    assert before["all"][error] == pytest.approx(run.results["models"]["one_stage"]["all"][error])


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Fifteen bins of equal width, right edge included."""
    edges = np.linspace(0, 1, 16)
    gaps = [
        abs((confidence[inside] - right[inside]).sum())
        for low, high in pairwise(edges)
        if (inside := (confidence > low) & (confidence <= high)).any()
    ]
    return float(sum(gaps) / len(confidence))


def test_metrics_of_a_plain_model_are_those_of_the_runs_results(run: FinishedRun, tmp_path: Path) -> None:
    artifact, _ = exported(run, tmp_path / "out", "one_stage")
    expected = run.results["models"][model_name("one_stage", Measured(run, 5).choose("one_stage").rule_name)]
    assert artifact.metrics["all"]["accuracy"] == pytest.approx(expected["all"]["accuracy"])
    assert artifact.metrics["anchor"]["accuracy"] == pytest.approx(expected["anchor"]["accuracy"])
    assert_coverage_is_that_of_a_plain_loop(run, artifact)
    sure = artifact.thresholds
    assert sure[0].coverage == 1.0 and all(a.coverage >= b.coverage for a, b in pairwise(sure))


def test_the_card_is_readable_to_the_hub_and_the_folder_names_no_user_and_no_path(
    run: FinishedRun, tmp_path: Path
) -> None:
    exported(run, tmp_path / "out", "one_stage+counts")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["library_name"] == "peft" and metadata["model-index"][0]["results"][0]["metrics"]
    assert "Counts of histories of two and more behaviors" in card and "not users" in card
    assert "\nNamed by whoever exported it" in card
    assert "label scores are normalized as `full`: a name's probability is one among all texts" in card
    users = {name.encode() for part in run.log.parts for name in set(part.table["user"].to_pylist())}
    needles = [
        *users,
        str(tmp_path).encode(),
        str(run.folder.parent).encode(),
        str(run.settings.model.base).encode(),
    ]
    assert len(users) == 20
    (tmp_path / "out" / "planted.txt").write_text("user 3 é", encoding="utf-8")
    files = [path for path in sorted((tmp_path / "out").rglob("*")) if path.is_file()]
    found = [path.name for path in files if any(needle in path.read_bytes() for needle in needles)]
    assert found == ["planted.txt"]
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl", ".pickle")]


def test_a_folder_that_scores_otherwise_is_refused_and_leaves_nothing(
    run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = exporting._stored
    monkeypatch.setattr(exporting, "_stored", lambda *asked: original(*asked) + 0.001)
    with pytest.raises(ModelError, match="does not score as the run did"):
        exported(run, tmp_path / "out", "one_stage")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused_by_name(
    run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    assert isinstance(run.folder, Path)
    shutil.copytree(run.folder.parent, root)
    (root / "begun").mkdir()
    (root / "begun" / "stages.json").write_text(json.dumps({"stages": []}), encoding="utf-8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()

    def refused(*arguments: str) -> str:
        assert main([*arguments]) in (1, 2)
        return capsys.readouterr().err

    to = ["--to", str(tmp_path / "out")]
    assert "finished ones in" in refused("--run", str(root / "absent"), *to)
    assert "small" in refused("--run", str(root / "absent"), *to)
    assert "has not finished" in refused("--run", str(root / "begun"), *to)
    names = "there are untuned, one_stage, counts, untuned+counts, one_stage+counts"
    for unknown in ("ab_tuned", "untuned+pmi", "bigram+bayes"):
        assert names in refused("--run", str(root / "small"), *to, "--model", unknown)
    assert "holds files already" in refused("--run", str(root / "small"), "--to", str(tmp_path / "full"))
    other = shutil.copytree(run.settings.model.base, tmp_path / "other")
    (other / "generation_config.json").unlink()
    chosen = ["--run", str(root / "small"), *to, "--model", "one_stage"]
    assert "is not the base model of" in refused(*chosen, "--base", str(other))
    [tuned] = (root / "stages").glob("one_stage-*")
    shutil.rmtree(tuned)
    assert "is no longer below" in refused(*chosen)
    assert not (tmp_path / "out").exists()


def test_a_run_that_moved_is_exported_from_where_it_is_and_the_base_from_where_it_lies(
    run: FinishedRun, tmp_path: Path
) -> None:
    assert isinstance(run.folder, Path)
    shutil.copytree(run.folder.parent, tmp_path / "moved")
    base = shutil.copytree(run.settings.model.base, tmp_path / "base")
    config = tmp_path / "moved" / "small" / CONFIG_FILE
    told = config.read_text(encoding="utf-8")
    assert run.settings.model.base in told
    config.write_text(told.replace(run.settings.model.base, str(tmp_path / "gone")), encoding="utf-8")
    plan = ExportPlan(str(tmp_path / "moved" / "small"), str(tmp_path / "out"), "one_stage", base=str(base))
    export(plan)
    assert BehaviorModel.load(tmp_path / "out", device="cpu").predict().answers


def test_on_s3_it_is_written_whole_and_opened_again(
    run: FinishedRun, s3_root: S3Location, tmp_path: Path
) -> None:
    place = str(s3_root / "exported")
    export(ExportPlan(str(run.folder), place, "one_stage+counts"))
    exported(run, tmp_path / "out", "one_stage+counts")
    here = BehaviorModel.load(tmp_path / "out", device="cpu").predict([{"behavior": "door"}])
    assert BehaviorModel.load(place, device="cpu").predict([{"behavior": "door"}]) == here
    with pytest.raises(ConfigError, match="it is no exported predictor"):
        BehaviorModel.load(str(s3_root / "absent"))
    with pytest.raises((ConfigError, StorageError)):
        BehaviorModel.load("s3://no-such-bucket-at-all/x")
    assert storage.list_files(s3_root / "exported")


def test_a_mixture_weighs_counting_by_likelihood(run: FinishedRun) -> None:
    chosen = Measured(run, 5).choose("one_stage+counts")
    assert isinstance(chosen.predictor, FusedPredictor) and 0 <= chosen.predictor.counts_weight < 1
    assert chosen.predictor.tail_counts_weight is not None
    assert isinstance(run.model("one_stage"), object) and run.model("untuned") is None


def test_a_fully_tuned_model_is_exported_whole(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = finished_run(tmp_path, small_base, monkeypatch, "model.adaptation=full")
    run = open_finished(str(made.output_folder))
    artifact, lines = exported(run, tmp_path / "out", "one_stage")
    assert artifact.weights is not None and artifact.weights.form == "merged"
    assert any(line.startswith("checked on 32 held-out samples") for line in lines)
    assert not (tmp_path / "out" / "base").exists()
    assert sum(behavior.trained_on or 0 for behavior in artifact.behaviors) == sum(artifact.counts)


def test_a_temperature_of_the_loss_is_scored_with_and_exported(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ("scoring.normalization=trie", "loss={tokens: allowed, temperature: 3.0}")
    run = open_finished(str(finished_run(tmp_path, small_base, monkeypatch, *keys).output_folder))
    assert (run.temperature("one_stage"), run.temperature("untuned")) == (3.0, 1.0)
    artifact, _ = exported(
        run, tmp_path / "tuned", "one_stage"
    )  # it checks the folder's scores with the run's
    assert artifact.temperature == 3.0
    assert exported(run, tmp_path / "base", "untuned")[0].temperature == 1.0
    monkeypatch.setattr(FinishedRun, "temperature", lambda *_: 1.0)
    with pytest.raises(ModelError, match="does not score as the run did"):
        exported(run, tmp_path / "other", "one_stage")
