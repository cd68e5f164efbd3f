"""The benchmark of label scores counts what is asked for, and runs both ways on the same prompts."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from behaviorlm.trees.closed_trie import build_closed_trie
from behaviorlm.trees.label_trie import build_tries
from behaviorlm_ray.costs.operations import model_work
from benchmarks import records
from benchmarks.bench_label_scoring import PEERS, main, names_of
from benchmarks.gpu_shapes import drawn_model, shapes
from benchmarks.label_scoring_floor import needed_nodes, needed_operations
from benchmarks.records import operations_of


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ceiling that does not drift: no test rests on a clock."""
    monkeypatch.setattr(records, "product_teraflops", lambda: 1.0)


def write_names(path: Path, names: list[str]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["other", "name"], *[["x", name] for name in names]])
    return f"{path}:name"


def test_names_are_those_of_the_logs_in_turn_the_most_frequent_first(tmp_path: Path) -> None:
    first = write_names(tmp_path / "first.csv", ["lamp on", "music", "music", ""])
    second = write_names(tmp_path / "second.csv", ["door", "lamp on"])
    assert names_of([first, second]) == ["music", "lamp on", "door"]


def test_a_row_for_each_number_of_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_names(
        tmp_path / "log.csv", [f"turn {what} {state}" for what in "abc" for state in ("on", "off")]
    )
    short = ["--prompt-tokens=12", "--prompts=2", "--rounds=2", "--labels", "1", "6", "99"]
    assert main([f"--log={log}", *short]) == 0
    head, one, six, too_many = capsys.readouterr().out.splitlines()
    assert head.count("|") == one.count("|") == six.count("|") == 8
    # an only label takes nothing
    assert [cell.strip() for cell in one.split("|")][4:6] == ["0", "0"]
    nodes = [int(cell.replace(",", "")) for cell in six.split("|")[1:6]]
    assert nodes[0] == nodes[1] > nodes[3] > 0 and nodes[2] > 100 * nodes[4]
    assert too_many == "99: the logs have 6 names"


@pytest.mark.parametrize("option", ["--shared=1", "--rounds=0"])
def test_options_that_mean_nothing_are_refused(option: str) -> None:
    with pytest.raises(SystemExit):
        main(["--log=a.csv:b", option])


def test_peers_give_the_scores_of_full_normalization_and_results_are_replaced_by_name(tmp_path: Path) -> None:
    log = write_names(
        tmp_path / "log.csv", [f"turn {what} {state}" for what in "abc" for state in ("on", "off")]
    )
    file = tmp_path / "results" / "here.json"
    asked = [
        f"--log={log}",
        "--prompt-tokens=12",
        "--prompts=3",
        "--rounds=2",
        f"--write={file}",
        "--peers",
        *PEERS,
    ]
    for labels in ("5", "6", "6"):
        assert main([*asked, "--lm-eval-labels=2", "--labels", labels]) == 0
    found = {record["name"]: record for record in json.loads(file.read_text())["benchmarks"]}
    assert len(found) == 2 * (2 * len(PEERS) + 1)
    assert all(record["equal"] or " against full, " in name for name, record in found.items())
    for record in found.values():
        assert 0 < record["ratio"]["low"] <= record["ratio"]["median"] <= record["ratio"]["high"]
        assert 0 < record["floor_share"] <= record["ceiling_share"]
        assert (
            record["nodes"] > 0
            and record["head_rows"] > 0
            and set(record["versions"]) >= {"torch", "transformers"}
        )


@pytest.mark.parametrize("seed", range(3))
def test_the_tokens_that_the_mathematics_needs_are_those_of_tries_that_are_not_cut(seed: int) -> None:
    random = np.random.default_rng(seed)
    drawn = {(*random.integers(1, 4, random.integers(1, 7)).tolist(), 0) for _ in range(40)}
    labels = [np.array(label, np.int32) for label in drawn]
    [trie] = build_tries(labels, 1 << 20)
    depths, rows = needed_nodes(labels, "full")
    assert sorted(depths) == sorted((trie.tree.depth + 1).tolist()) and rows is None
    closed = build_closed_trie(labels, 1 << 20)
    depths, rows = needed_nodes(labels, "trie")
    assert len(depths) == closed.nodes and rows == len(closed.child_token)


def test_one_sequence_needs_what_its_products_make() -> None:
    model = drawn_model(shapes(is_tiny=True)["8B"], torch.device("cpu"), torch.float32)
    work, width, vocabulary = model_work(model, is_trained=False), 32, 2048
    assert work is not None
    found = needed_operations(model, [np.array([5, 6, 0], np.int32)], "full", 1, (0, 7))
    # nine tokens, each with those before it; the head at the last of the prompt and at both of the name
    assert found == 9 * work.per_token + 45 * work.per_attention_pair + 3 * 2 * width * vocabulary
    with torch.inference_mode():
        ran = operations_of(lambda: model(torch.arange(1, 10)[None], logits_to_keep=3))
    assert ran == 9 * work.per_token + 81 * work.per_attention_pair + 3 * 2 * width * vocabulary


@pytest.mark.slow
def test_another_checkout_runs_beside_ours_on_the_same_prompts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = write_names(tmp_path / "log.csv", ["lamp on", "lamp off", "door"])
    asked = [f"--log={log}", "--prompt-tokens=12", "--prompts=3", "--rounds=2"]
    assert main([*asked, f"--before={Path(__file__).parents[2]}"]) == 0
    head, row = capfd.readouterr().out.splitlines()
    assert head.endswith("full before / full | trie before / trie") and head.count("|") == row.count("|")
    with pytest.raises(SystemExit, match="has no package behaviorlm"):
        main([*asked, f"--before={tmp_path}"])
