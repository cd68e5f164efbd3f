"""Every exhibit of a small paper, its numbers computed again from what its runs wrote; what is reused and missing."""

import csv
import json
import shutil
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from transformers import AutoModelForCausalLM

from behaviorlm.config import load_settings
from behaviorlm_lab.paper import runs as paper_runs
from behaviorlm_lab.paper.finished import PaperRun
from behaviorlm_lab.paper.making import exhibits_folder, make_paper, plan_paper
from behaviorlm_lab.paper.settings import PaperSettings
from behaviorlm_ray.commands.report import main as report
from behaviorlm_ray.pipeline.prepare import open_log
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, count, gather, rows_of_split, whole_split
from behaviorlm_ray.report.content import Results
from behaviorlm_ray.report.forms import Forms
from behaviorlm_ray.report.results import shown_retention
from behaviorlm_ray.report.results_table import results_table
from behaviorlm_ray.stages.finding import output_in
from behaviorlm_ray.stages.manifests import FileRecord, Manifest, read_manifest
from tests.platform.export.finished_runs import without_ray
from tests.platform.lab.paper.papers import EXHIBITS, METHODS, small_paper
from tests.platform.report.random_reports import random_report

ENDS = {"anchor accuracy": ("anchor", "accuracy"), "tail macro recall": ("tail", "macro_recall_at_least_10")}


@pytest.fixture(scope="module")
def paper(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> PaperSettings:
    """Made once; whoever uses it leaves it as it is."""
    settings = small_paper(tmp_path_factory.mktemp("paper"), small_base)
    with pytest.MonkeyPatch.context() as monkeypatch:
        without_ray(monkeypatch)
        monkeypatch.setattr(paper_runs, "connected", nullcontext)
        told = make_paper(settings)
    assert not [line for line in told if "not made" in line], told
    return settings


def rows_of(paper: PaperSettings, name: str) -> list[dict[str, str]]:
    with (exhibits_folder(paper) / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def said(paper: PaperSettings, run: str, what: str = "results") -> dict[str, Any]:
    """A JSON file of a run's folder."""
    found: dict[str, Any] = json.loads((Path(paper.root) / f"small-{run}" / f"{what}.json").read_text())
    return found


def same(text: str, value: float | None) -> bool:
    return text == ("" if value is None else repr(value))


def log_of(paper: PaperSettings, run: str) -> PreparedLog:
    settings = RunSettings.model_validate(said(paper, run, "report")["configuration"])
    asked = said(paper, run, "stages")["finished"]
    [name] = [name for name in asked if name.startswith("prepare-")]
    folder = Path(paper.root) / "stages" / name
    manifest = read_manifest(folder)
    return open_log(output_in(folder / "attempts" / manifest.attempt, manifest, reused=True), settings)


def test_the_distribution_is_that_of_all_training_targets(paper: PaperSettings) -> None:
    log, rows = log_of(paper, "main"), rows_of(paper, "figure_1a")
    counts = np.bincount(gather(log, whole_split(log, "train"), "behavior"), minlength=len(log.vocabulary))
    names = log.vocabulary.names
    assert {row["behavior"]: int(row["training targets"]) for row in rows} == dict(
        zip(names, counts.tolist(), strict=True)
    )
    shares = np.array([float(row["share"]) for row in rows])
    np.testing.assert_allclose(shares, np.sort(counts / counts.sum())[::-1])
    assert [row["group"] == "anchor" for row in rows] == (shares > 0.09).tolist()


def test_the_map_is_the_principal_plane_of_the_names_last_states(paper: PaperSettings) -> None:
    log, rows = log_of(paper, "main"), rows_of(paper, "figure_1b")
    model = AutoModelForCausalLM.from_pretrained(
        said(paper, "main", "report")["configuration"]["model"]["base"]
    ).eval()
    states = []
    for ids in log.prompt.label_ids:
        with torch.no_grad():
            found = model(torch.tensor(np.array(ids))[None], output_hidden_states=True)
        states.append(found.hidden_states[-1][0, -1].double().numpy())
    names = log.vocabulary.names
    at = {(row["method"], row["behavior"]): (float(row["x"]), float(row["y"])) for row in rows}
    before, after = (np.array([at[method, name] for name in names]) for method in ("before", "after"))
    expected = PCA(2).fit_transform(np.array(states))
    np.testing.assert_allclose(np.abs(before), np.abs(expected), atol=1e-4)
    assert len(rows) == 2 * len(names) and not np.allclose(before, after, atol=1e-2)


@pytest.mark.parametrize(
    "name", ["figure_1c", "figure_5", "table_main", "table_ablations", "table_sensitivity"]
)
def test_every_measured_number_is_that_of_the_predictor_in_results(paper: PaperSettings, name: str) -> None:
    rows = rows_of(paper, name)
    assert rows
    for row in rows:
        run = {"50%": "half", "100%": "main"}.get(row.get("share", ""), "varied" if "key" in row else "main")
        of = said(paper, run)["models"][row["predictor"]]
        shown = {"value": ENDS[row["metric"]]} if "metric" in row else ENDS
        shown = {"accuracy": (row["group"], "accuracy")} if name == "figure_1c" else shown
        for column, (group, metric) in shown.items():
            found = of[group][metric]
            assert same(row[column], found["value"]) and same(row[f"{column} low"], found["low"])
            assert same(row[f"{column} high"], found["high"])


def test_preferred_is_what_validation_says_and_counting_does_without_a_model(paper: PaperSettings) -> None:
    objectives = said(paper, "main", "details")["validation"]
    arms = said(paper, "main", "report")["configuration"]["evaluation"]["arms"]
    shown = {row["method"]: row["predictor"] for row in rows_of(paper, "figure_1c")}
    assert list(shown) == list(METHODS.values())

    def best(among: list[str]) -> tuple[str, str]:
        every = [(arm, rule, value) for arm in among for rule, value in objectives[arm].items()]
        top = max(value for *_, value in every if value is not None)
        return next(
            (arm, rule) for arm, rule, value in every if value is not None and abs(value - top) < 1e-9
        )

    others = {*arms, "gru4rec"}
    counting = [name for name in objectives if name not in others and not name.endswith("+counts")]
    for label, among in (("counting", counting), ("one stage", ["one_stage"]), ("A → B", ["ab_tuned"])):
        arm, rule = best(among)
        assert shown[label] == (arm if rule == "plain" else f"{arm}+{rule}")


def test_an_ablation_is_held_against_the_whole_on_the_same_samples(paper: PaperSettings) -> None:
    whole, other = rows_of(paper, "table_ablations")
    assert whole["A → B less it, anchor accuracy, plain"] == ""
    models = said(paper, "main")["models"]
    difference = [models[arm]["anchor"]["accuracy"]["value"] for arm in ("ab_tuned", "a_tuned")]
    assert float(other["A → B less it, anchor accuracy, plain"]) == pytest.approx(
        difference[0] - difference[1]
    )


def test_half_of_the_data_is_what_is_counted_and_told(paper: PaperSettings) -> None:
    log = log_of(paper, "half")
    used, there = count(rows_of_split(log, "train")), count(whole_split(log, "train"))
    assert 0.4 < used / there < 0.6
    assert said(paper, "half")["few_shot"]["train"]["all"] == used
    assert "50% of all" in (exhibits_folder(paper) / "figure_5.md").read_text(encoding="utf-8")


def test_the_framework_and_the_cost_are_sums_over_manifests(paper: PaperSettings) -> None:
    folder = Path(paper.root) / "stages"
    asked = said(paper, "main", "stages")["finished"]
    manifests = {
        name.rpartition("-")[0]: json.loads((folder / name / "manifest.json").read_text()) for name in asked
    }
    stages = {row["stage"]: row for row in rows_of(paper, "figure_2")}
    way = {"prepare", "score", "a_tune", "select", "b_tune", "predict_ab_tuned"}
    assert stages.keys() == {*way, "evaluate"}
    assert stages["b_tune"]["reads"] == "a_tune, prepare, select" and stages["prepare"]["reads"] == ""
    for name, row in stages.items():
        assert float(row["seconds"]) == manifests[name]["duration_seconds"]
    cost = {row["method"]: row for row in rows_of(paper, "table_cost")}
    assert {"untuned", "one_stage", "a_tuned", "ab_tuned"} <= set(cost)
    tuned = ("a_tune", "b_tune")
    assert int(cost["ab_tuned"]["tuning steps"]) == sum(manifests[name]["rows"]["steps"] for name in tuned)
    assert int(cost["ab_tuned"]["tokens tuned on"]) == sum(
        manifests[name]["cost"]["tokens"] for name in tuned
    )
    seconds = sum(manifests[name]["duration_seconds"] for name in way)
    assert float(cost["ab_tuned"]["seconds of all"]) == pytest.approx(seconds)
    assert int(cost["untuned"]["tuning steps"]) == 0
    fitted = manifests["oppose_gru4rec"]["duration_seconds"]
    assert float(cost["gru4rec"]["seconds of tuning or fitting"]) == fitted
    assert float(cost["gru4rec"]["seconds of all"]) == pytest.approx(
        fitted + manifests["prepare"]["duration_seconds"]
    )
    assert cost.keys() == {"untuned", "one_stage", "a_tuned", "ab_tuned", "gru4rec", *mixed(cost)}


def mixed(names: Iterable[str]) -> set[str]:
    """Those of models mixed with counting, which cost what the model does."""
    return {name for name in names if name.endswith("+counts")}


def test_an_endpoint_has_a_way_of_its_own_and_counting_has_none() -> None:
    def stage(name: str, **inputs: str) -> Manifest:
        file = FileRecord(bytes=1, sha256=name)
        return Manifest(
            stage=name,
            version=1,
            fingerprint=name,
            attempt="",
            config={},
            inputs=inputs,
            files={"scores": file},
            rows={},
            metrics={},
            warnings=[],
            versions={},
            started="",
            duration_seconds=1.0,
            cost={},
        )

    prepared = stage("prepare")
    asked = stage("ask", prepared=prepared.content_hash)
    evaluated = stage("evaluate", **{"endpoint.chat": asked.content_hash})
    nothing: dict[str, Any] = {}
    settings = RunSettings.model_construct(**nothing)
    run = PaperRun(Path(), {}, settings, random_report(0), Forms([], [], None, None, False))
    run.__dict__["manifests"] = [prepared, asked, evaluated]
    assert [one.stage for one in run.way_to("chat")] == ["prepare", "ask"]
    assert run.has_way_to("chat") and not run.has_way_to("markov")


def test_tables_of_data_and_behaviors_say_what_the_log_holds(paper: PaperSettings) -> None:
    [data] = rows_of(paper, "table_data")
    samples, log = said(paper, "main")["samples"], log_of(paper, "main")
    assert int(data["test samples measured"]) == samples["all"] == count(rows_of_split(log, "test"))
    assert int(data["train samples"]) == count(whole_split(log, "train"))
    assert int(data["anchors"]) == log.vocabulary.is_anchor.sum()
    predictor = {row["method"]: row["predictor"] for row in rows_of(paper, "figure_1c")}["A → B"]
    recalls = said(paper, "main", "details")["per_behavior"][predictor]
    by_name = {row["behavior"]: row["recall"] for row in recalls if row["behavior"] is not None}
    assert {row["behavior"]: row["recall, A → B"] for row in rows_of(paper, "table_behaviors")} == {
        name: "" if value is None else repr(value) for name, value in by_name.items()
    }


def test_it_is_told_how_many_tail_behaviors_count(paper: PaperSettings) -> None:
    log = log_of(paper, "main")
    targets = np.bincount(gather(log, rows_of_split(log, "test"), "behavior"), minlength=len(log.vocabulary))
    tail = targets[~log.vocabulary.is_anchor]
    for name in ("figure_5", "table_main", "table_ablations", "table_sensitivity"):
        page = (exhibits_folder(paper) / f"{name}.md").read_text(encoding="utf-8")
        assert f"10 test targets or more, which are {(tail >= 10).sum()} of {len(tail)}." in page


def test_a_run_of_another_checkout_is_drawn_with_the_base_of_this_one(
    paper: PaperSettings, tmp_path: Path
) -> None:
    root = shutil.copytree(paper.root, tmp_path / "runs")
    report_data = root / "small-main" / "report.json"
    data = json.loads(report_data.read_text())
    data["configuration"]["model"]["base"] = str(tmp_path / "gone")
    report_data.write_text(json.dumps(data))
    moved = {"root": str(root), "only": ["figure_1b"], "run_missing": False}
    told = make_paper(load_settings(PaperSettings, None, (), paper.model_dump() | moved))
    assert told[0].startswith("figure_1b: ") and "not made" not in told[0]


def test_every_page_says_what_it_is_of_and_that_it_is_not_the_papers(paper: PaperSettings) -> None:
    folder = exhibits_folder(paper)
    for name, exhibit in EXHIBITS.items():
        page = (folder / f"{name}.md").read_text(encoding="utf-8")
        runs = ", ".join(f"small-{run}" for run in exhibit.get("runs", {"main": {}}))
        made = (f"From {runs}, which ", f"{name}.yaml asks for", "run.yaml", f"`--only='[{name}]'` at commit")
        for told in ("small log", "Base:", "test,", "Seeds: 0", *made):
            assert told in page, (name, told)
        has_intervals = exhibit["shows"] in ("accuracy", "lines", "main", "ablations", "sensitivity")
        assert ("95 % intervals, a bootstrap of 50" in page) == has_intervals
        assert ("no number in it is the paper's" in page) == ("manner" in exhibit)
        has_picture = exhibit["shows"] in ("distribution", "map", "accuracy", "framework", "lines")
        assert (folder / f"{name}.svg").exists() == has_picture
        head, numbers, _ = page.partition("## The numbers\n")
        index = (folder / "index.md").read_text(encoding="utf-8")
        assert head[2:] in index and (f"[The numbers]({name}.md)" in index) == bool(numbers) == has_picture
        assert page.split("\n")[2].startswith("**"), name


def test_what_is_finished_is_reused_and_needs_no_cluster(
    paper: PaperSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise AssertionError("nothing has to run")

    monkeypatch.setattr(paper_runs, "connected", refuse)
    before = {path: path.stat().st_mtime_ns for path in Path(paper.root).glob("small-*/report.json")}
    name = "table_data"
    told = make_paper(load_settings(PaperSettings, None, (), paper.model_dump() | {"only": [name]}))
    assert told[0] == f"{name}: 1 rows"
    assert before == {path: path.stat().st_mtime_ns for path in before}
    plan = plan_paper(paper)
    assert [line for line in plan if line.startswith("  main")] == ["  main: finished"]
    assert plan[plan.index("to do") + 1] == "  nothing"


def test_an_exhibit_without_its_runs_says_so_and_leaves_the_others(
    paper: PaperSettings, tmp_path: Path, small_base: Path
) -> None:
    shutil.copytree(Path(paper.root).parent, tmp_path / "copy")
    missing = EXHIBITS["figure_1c"] | {"runs": {"other": {"values": {"evaluation.bootstrap_samples": 60}}}}
    exhibits = {"lacking": missing, "table_data": EXHIBITS["table_data"]}
    for old in (tmp_path / "copy" / "exhibits").glob("*.yaml"):
        old.unlink()
    # the same log and run, so that what main made is found
    settings = small_paper(tmp_path / "copy", small_base, exhibits, run_missing=False)
    told = make_paper(settings)
    assert (
        "not made: run other: 1 of" in told[0] and "evaluate" in told[0] and "--only='[lacking]'" in told[0]
    )
    assert told[1] == "table_data: 1 rows"
    page = (exhibits_folder(settings) / "lacking.md").read_text(encoding="utf-8")
    assert "Not made" in page and "--only='[lacking]'" in page
    plan = plan_paper(settings)
    assert any("lacking: waits for other" in line for line in plan)
    assert plan[plan.index("to do") + 1] == "  1 evaluation"


def test_a_record_keeps_every_predictor_and_what_it_was_made_by(
    paper: PaperSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, to = Path(paper.root) / "small-main", tmp_path / "record.json"
    monkeypatch.chdir(Path(paper.root).parent)
    assert report([str(run), "--record", str(to), "--command", "make it"]) == 0
    found, results = json.loads(to.read_text()), said(paper, "main")
    made = found.pop("made")
    assert found.keys() == results.keys() and found["models"].keys() == results["models"].keys()
    for name, groups in results["models"].items():
        for group, metrics in groups.items():
            for metric, of in metrics.items():
                assert found["models"][name][group][metric] == pytest.approx(of, abs=5.1e-6)
    assert made["command"] == "make it" and made["seeds"] == [0] and made["commit"]
    settings = RunSettings.model_validate({"name": "again", **made["config"]})
    assert settings.evaluation.arms == ["untuned", "one_stage", "a_tuned", "ab_tuned"]
    Results.model_validate(found | {"retention": shown_retention(found["retention"])})
    assert len(results_table(found)) > len(found["models"])
    assert made["versions"]["torch"] == torch.__version__ and made["stages"].keys() >= {"prepare", "evaluate"}
    assert made["config"]["events"]["paths"] == ["log.csv"]
    assert str(Path(paper.root).parent) not in to.read_text()
    assert report([str(run), "--record", str(to)]) == 2
