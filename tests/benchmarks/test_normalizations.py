"""The table of both normalizations says of a run's predictions what plain means over its samples say."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks.normalizations import recorded, table_lines

NAMES = ["lamp on", "lamp off", "door", "music"]
ANCHORS = {"lamp on", "lamp off"}
SAMPLES = 40


def write_run(folder: Path) -> dict[str, pa.Table]:
    """A run of four predictors, those of `_trie` with other numbers; its predictions by name."""
    random = np.random.default_rng(3)
    target = [None if number == 5 else NAMES[random.integers(4)] for number in range(SAMPLES)]
    found = {}
    for predictor in ("untuned", "untuned_trie", "one_stage", "one_stage_trie"):
        chosen = [NAMES[each] for each in random.integers(4, size=SAMPLES)]
        found[predictor] = pa.table(
            {
                "sample_id": [bytes([number] * 16) for number in range(SAMPLES)],
                "group": [f"user {number % 7}" for number in range(SAMPLES)],
                "predictor": [predictor] * SAMPLES,
                "target": target,
                "target_group": ["anchor" if name in ANCHORS else "tail" for name in target],
                "target_probability": [
                    None if name is None else p
                    for name, p in zip(target, random.random(SAMPLES), strict=True)
                ],
                "target_place": pa.array(
                    [None if name is None else int(random.integers(1, 5)) for name in target], pa.int32()
                ),
                "chosen_plain": chosen,
                "chosen_bayes": pa.nulls(SAMPLES, pa.string()),
                "top_probabilities": [[0.5, 0.2]] * SAMPLES,
            }
        )
    folder.mkdir()
    shuffled = pa.concat_tables(found.values()).take(random.permutation(4 * SAMPLES))
    pq.write_table(shuffled, folder / "predictions.parquet")
    config = {
        "name": "here",
        "events": {"dataset": "a log"},
        "model": {"base": "somewhere/a base"},
        "one_stage": {"max_steps": 3, "samples_per_step": 8},
        "evaluation": {"arms": list(found)},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return found


def test_measures_and_differences_are_plain_means_over_samples(tmp_path: Path) -> None:
    tables = write_run(tmp_path / "run")
    record = recorded(tmp_path / "run")
    assert (record["base"], record["samples"], record["groups"], record["tuned_samples"]) == (
        "a base",
        40,
        7,
        24,
    )
    full, trie = tables["one_stage"].to_pylist(), tables["one_stage_trie"].to_pylist()
    found = record["models"]["one_stage"]

    def log_loss(rows: list[dict]) -> float:
        return float(np.mean([-np.log(row["target_probability"]) for row in rows if row["target"]]))

    def tail_recall(rows: list[dict]) -> float:
        of_name = {
            name: [row["chosen_plain"] == name for row in rows if row["target"] == name] for name in NAMES[2:]
        }
        return float(
            np.mean([0.0, *(np.mean(hits) for hits in of_name.values())])
        )  # unseen: one behavior more

    for measure, by_hand in (("log_loss", log_loss), ("tail_macro_recall", tail_recall)):
        assert found[measure]["full"]["value"] == pytest.approx(by_hand(full), abs=1e-12)
        difference = found[measure]["difference"]
        assert difference["value"] == pytest.approx(by_hand(trie) - by_hand(full), abs=1e-12)
        assert difference["low"] < difference["value"] < difference["high"]
    assert not any("bayes" in name for name in found)


def test_a_row_for_each_model_and_what_differs_surely_stands_out(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    record = recorded(tmp_path / "run")
    measures = record["models"]["untuned"]
    measures["mrr"]["difference"] = {"value": -0.25, "low": -0.5, "high": -0.125}
    measures["log_loss"]["difference"] = {"value": 0.25, "low": -0.5, "high": 1.0}
    head, _, untuned, one_stage = table_lines([record])
    assert head.count("|") == untuned.count("|") == one_stage.count("|")
    assert "; +0.250 [−0.500, +1.000] |" in untuned and "; **−0.250 [−0.500, −0.125]** |" in untuned
