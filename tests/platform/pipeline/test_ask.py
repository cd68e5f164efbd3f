"""The stage `ask` against a real server over the embedded base: scores, what is compared, the key, identities."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError
from behaviorlm_ray import storage
from behaviorlm_ray.endpoints.answers import LEAST, Names, ranking_of
from behaviorlm_ray.evaluation.comparison import Comparison, Resampling, compare
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.pipeline.ask import ask, asked_of
from behaviorlm_ray.pipeline.endpoint_comparison import AskedEndpoints, endpoints_of, scores_among
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.predict import evaluated_samples
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run, open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, gather
from behaviorlm_ray.report.results import model_note
from behaviorlm_ray.stages.attempts import StageFolder
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.lease import Lease
from tests.platform.endpoints.chat_server import Answer, ChatServer, language_model, serving
from tests.platform.small_runs import run_data, write_log

BASE = Path(__file__).resolve().parents[3] / "behaviorlm" / "assets" / "base"
KEY = "sk-planted-2718281828459045"
BEHAVIORS = ("make coffee", "take the bus", "read messages", "order food", "walk the dog", "call a taxi")


@pytest.fixture(scope="module")
def model() -> Answer:
    """The embedded base."""
    return language_model(BASE)


@pytest.fixture
def server(model: Answer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PLANTED_KEY", KEY)
    with serving(model) as found:
        yield found


def settings_of(
    folder: Path, server: ChatServer, *overrides: str, **endpoints: dict[str, Any]
) -> RunSettings:
    """A run on ten users, most of whose targets the two first behaviors are."""
    random, rows = np.random.default_rng(0), []
    for user in range(10):
        time = datetime(2024, 3, 1, 6, tzinfo=UTC)
        for _ in range(14):
            time += timedelta(hours=int(random.integers(1, 9)))
            behavior = str(random.choice(BEHAVIORS, p=[0.4, 0.3, 0.1, 0.08, 0.07, 0.05]))
            rows.append({"time": f"{time:%Y-%m-%dT%H:%M:%SZ}", "user": f"user {user}", "behavior": behavior})
    data = run_data(folder / "runs", BASE, write_log(folder / "log.csv", rows))
    data["events"] |= {"context_before": [], "context_after": [], "clock": ["weekday", "hour"]}
    data["vocabulary"]["anchor_threshold"] = 0.2
    common: dict[str, Any] = {
        "url": server.url,
        "model": "embedded",
        "parameters": {"max_tokens": 12, "temperature": 0},
    }
    common |= {"key_variable": "PLANTED_KEY", "patience_seconds": 0}
    data["evaluation"] |= {
        "max_samples": 12,
        "max_validation_samples": 8,
        "tail_minimum_targets": 1,
        "endpoints": {name: common | keys for name, keys in endpoints.items()},
    }
    return load_settings(RunSettings, None, overrides, data)


def asked(settings: RunSettings, *names: str) -> tuple[Run, PreparedLog, dict[str, StageOutput]]:
    run = open_run(settings)
    runner = run.runner()
    made = {f"endpoint.{name}": runner.run(ask(run, name)) for name in names}
    return run, open_log(runner.run(prepare(run)), settings), made


def compared(
    settings: RunSettings, log: PreparedLog, made: dict[str, StageOutput]
) -> tuple[Comparison, dict[str, Any], list[str]]:
    """As `evaluate` does, without arms."""
    comparing = partial(
        compare, log, tau_grid=[0.0, 1.0], resampling=Resampling(50, 0), tail_minimum_targets=1
    )
    samples = evaluated_samples(log, settings)
    endpoints = AskedEndpoints(log, settings, made, samples)
    comparison = comparing(samples, endpoints.of_all_samples)
    endpoints.settle(comparison)
    return comparison, endpoints.results(comparing, {}), endpoints.warnings()


def said(scores: ArmScores, number: int, behaviors: int) -> np.ndarray:
    """Of the test samples; float32[n, K]."""
    found = np.empty((number, behaviors), np.float32)
    for batch in scores.test():
        found[batch.places] = batch.label_scores
    return found


def test_what_the_model_ranks_is_measured_like_any_predictor_but_for_calibration(
    server: ChatServer, model: Answer, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, server, chat={"ranked": 3, "examples": 1})
    run, log, made = asked(settings, "chat")
    assert len(server.bodies) <= 20 and set(server.keys) == {f"Bearer {KEY}"}
    samples, names = evaluated_samples(log, settings), Names(log.vocabulary.names)
    comparison, told, warnings = compared(settings, log, made)

    heard = {"answers": 0, "without": 0, "named": 0, "repeated": 0, "outside": 0, "cut": 0}
    places, firsts, body_of = [], [], {}
    for body in server.bodies:
        body_of[body["messages"][1]["content"]] = body
    for rows in (samples.validation, samples.test):
        for part, chosen in zip(log.parts, rows, strict=True):
            for row in chosen:
                history = part.table["behavior"].slice(part.window_start[row], row - part.window_start[row])
                [body] = [
                    of
                    for text, of in body_of.items()
                    if [line.partition(": ")[2] for line in text.splitlines()[:-1]] == history.to_pylist()
                    and text.splitlines()[-1]
                    == " ".join(str(part.table[name][row]) for name in ("before.weekday", "before.hour"))
                    + ":"
                ]
                answer = model(body)["choices"][0]["message"]["content"]
                ranking, one = ranking_of(answer, names)
                for key, value in asdict(one).items():
                    heard[key] += value
                first = ranking[0] if ranking else 0
                target = part.behavior[row]
                whole = ranking + [index for index in range(len(names)) if index not in ranking]
                if rows is samples.test:
                    firsts.append(first == target)
                    places.append(1 / (whole.index(target) + 1) if target >= 0 else 0.0)
    metrics = comparison.results["models"]["chat"]["all"]
    assert metrics["accuracy"]["value"] == pytest.approx(np.mean(firsts))
    assert metrics["mrr"]["value"] == pytest.approx(np.mean(places))
    assert 0 < np.mean(firsts) < 1, "the model answers by what it reads"
    for name, groups in comparison.results["models"].items():
        is_told = [of["expected_calibration_error"]["value"] is not None for of in groups.values()]
        assert not any(is_told) if name.startswith("chat") else any(is_told), name
    assert {"chat", "chat+bayes", "chat+fitted"} <= comparison.results["models"].keys()
    assert not any(name.startswith("chat") for name in comparison.details["reliability"])
    served = {option["predictor"] for option in comparison.results["recommended"]["compared"]}
    assert served == {"counts"}, "what cannot be served is not recommended"
    found = told["endpoints"]["chat"]["heard"]
    assert found | {"cut": 0} == heard and not warnings and "models" not in told["endpoints"]["chat"]
    assert told["endpoints"]["chat"]["samples"] == {"validation": 8, "test": 12}
    assert run.settings.evaluation.endpoints["chat"].examples == 1


def test_log_probabilities_of_the_first_token_are_those_of_the_model(
    server: ChatServer, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = settings_of(tmp_path, server, chat={"answer": "logprobs"})
    _, log, made = asked(settings, "chat")
    samples, tokenizer = evaluated_samples(log, settings), AutoTokenizer.from_pretrained(BASE)
    base = AutoModelForCausalLM.from_pretrained(BASE).eval()
    scores = said(scores_among(made["endpoint.chat"], log, samples, samples), 12, len(log.vocabulary))
    first = [tokenizer(f" {name}", add_special_tokens=False)["input_ids"][0] for name in log.vocabulary.names]
    expected = []
    for body in server.bodies:
        text = tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
        with torch.no_grad():
            logits = base(torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])).logits[
                0, -1
            ]
        shares = logits.softmax(-1).numpy()
        expected.append(np.where(np.isin(first, np.argsort(-shares)[:20]), shares[first], np.nan))
    for row in np.exp(scores) - LEAST:
        near = [np.nanmax(np.abs(one - row)) for one in expected if not np.isnan(one).all()]
        assert min(near) < 1e-3
    assert np.nanmax(expected) > 3 * np.nanmin(expected)
    comparison, _, _ = compared(settings, log, made)
    assert comparison.results["models"]["chat"]["all"]["expected_calibration_error"]["value"] is not None


def test_fewer_samples_are_compared_apart_on_the_same_ones_and_cost_nothing_twice(
    server: ChatServer, tmp_path: Path
) -> None:
    few = {"max_samples": 5, "max_validation_samples": 4}
    settings = settings_of(tmp_path, server, chat={}, few=few)
    _, log, made = asked(settings, "few")
    asked_first = len(server.bodies)
    assert asked_first <= 9
    _, _, all_of = asked(settings, "chat")
    assert len(server.bodies) <= 20
    kept = json.loads(storage.read_text(all_of["endpoint.chat"].folder / "heard.json"))
    assert kept["kept_from_before"] == asked_first and kept["requests"] == len(server.bodies) - asked_first
    comparison, told, [warning] = compared(settings, log, made | all_of)
    assert "chat" in comparison.results["models"] and "few" not in comparison.results["models"]
    of_few, samples = told["endpoints"]["few"], asked_of(log, settings, "few")
    assert "few was asked about 5 of 12 test samples and 4 of 8 validation samples" in warning
    assert of_few["samples"]["all"] == 5 and "few" in of_few["models"] and "most_frequent" in of_few["models"]
    of_both = [of_few["models"][name]["all"] for name in ("few", "chat")]  # the same answers
    assert of_both[0] == of_both[1], "who was asked about all is among the others"
    targets = gather(log, samples.test, "behavior")
    share = np.mean(targets == 0)
    assert of_few["models"]["most_frequent"]["all"]["accuracy"]["value"] == pytest.approx(share)
    whole, some = evaluated_samples(log, settings), samples
    of_all = said(scores_among(all_of["endpoint.chat"], log, whole, some), 5, len(log.vocabulary))
    assert np.array_equal(
        of_all, said(scores_among(made["endpoint.few"], log, some, some), 5, len(log.vocabulary))
    )


def test_the_comparison_has_them_beside_arms_that_can_be_served(server: ChatServer, tmp_path: Path) -> None:
    """The arm says what `chat` says, so that both must come out alike, on all samples and on fewer."""
    few = {"max_samples": 5, "max_validation_samples": 4}
    settings = settings_of(tmp_path, server, "evaluation.arms=[untuned]", chat={}, few=few)
    run, _, made = asked(settings, "chat", "few")
    said_by_chat = made["endpoint.chat"].folder
    assert isinstance(said_by_chat, Path)
    shutil.copytree(said_by_chat / "scores", tmp_path / "untuned" / "scores")
    (tmp_path / "untuned" / "retention.json").write_text("{}")
    arm = StageOutput(made["endpoint.chat"].manifest, tmp_path / "untuned", False)
    inputs = {"prepared": run.runner().run(prepare(run)), "untuned": arm, **made}
    (tmp_path / "out").mkdir()
    folder = StageFolder(tmp_path / "out", tmp_path / "checkpoints", cast(Lease, None))
    warnings = evaluate(run).body(folder, inputs).warnings
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    of_few = results["endpoints"]["few"]
    for models, name in ((results["models"], "chat"), (of_few["models"], "few")):
        for metric in ("accuracy", "mrr", "macro_recall"):
            assert models[name]["all"][metric] == models["untuned"]["all"][metric]
    assert "few" not in results["models"] and {"few", "counts"} <= {
        pair[side] for pair in of_few["comparisons"] for side in ("first", "second")
    }
    served = {option["predictor"] for option in results["recommended"]["compared"]}
    assert served == {"counts", "untuned", "untuned+counts"}
    assert any(text.startswith("few was asked about 5 of 12") for text in warnings)
    told = pq.read_table(tmp_path / "out" / "predictions.parquet")["predictor"].to_pylist()
    assert told.count("chat") == 12 and "few" not in told
    note = model_note("chat+bayes", {}, settings.all_arms, settings.evaluation.endpoints)
    assert note["kind"] == "opponent" and note["description"].startswith(
        "embedded, a chat model asked over HTTP, zero"
    )


def test_a_key_is_in_no_file_and_on_no_screen(
    server: ChatServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(tmp_path, server, chat={"ranked": 2})
    asked(settings, "chat")
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(files) > 20 and b"embedded" in b"".join(path.read_bytes() for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in "".join(capfd.readouterr()) + settings.model_dump_json()
    assert set(server.keys) == {f"Bearer {KEY}"}


def test_only_what_is_asked_identifies_it_and_without_endpoints_nothing_changes(
    server: ChatServer, tmp_path: Path
) -> None:
    def recipes(*overrides: str, **endpoints: dict[str, Any]) -> tuple[str, str | None]:
        run = open_run(settings_of(tmp_path, server, *overrides, **endpoints))
        found = [stage.recipe for stage in endpoints_of(run).values()]
        return evaluate(run).recipe, found[0] if found else None

    without, (with_one, first) = recipes(), recipes(chat={})
    assert without[0] != with_one and without[1] is None
    key = "evaluation.endpoints.chat"
    for same in (
        "concurrency=2",
        "patience_seconds=9",
        "max_tokens=99999",
        "key_variable=null",
        "timeout_seconds=5",
    ):
        assert recipes(f"{key}.{same}", chat={}) == (with_one, first)
    for other in (
        "model=large",
        "examples=2",
        "ranked=4",
        "answer=logprobs",
        "parameters={top_p: 0.5}",
        "max_samples=3",
    ):
        assert recipes(f"{key}.{other}", chat={})[1] != first
    for wrong in ("ab_tuned", "bigram", "Chat"):
        with pytest.raises(ConfigError, match="endpoints"):
            settings_of(tmp_path, server, **{wrong: {}})
    with pytest.raises(ConfigError, match="answers"):
        settings_of(tmp_path, server, "name=answers")
