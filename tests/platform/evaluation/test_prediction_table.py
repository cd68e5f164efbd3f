"""predictions.parquet: the endpoint computed again from it, with tools of others, is that of results.json."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, recall_score

from behaviorlm.scoring.model_names import RULES, split_model_name
from behaviorlm.timelines.sample_ids import id_keys
from behaviorlm_ray.evaluation import prediction_table
from behaviorlm_ray.evaluation.comparison import Comparison
from behaviorlm_ray.evaluation.prediction_table import PredictionTable
from behaviorlm_ray.preparation.prepared_log import PreparedLog, gather
from tests.behaviorlm.random_parts import prompt_tokens, vocabulary
from tests.platform.evaluation.in_memory import samples_of
from tests.platform.evaluation.made_logs import made_scores, streamed, write_log
from tests.platform.sample_groups import group_names


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedLog, Comparison, Path]:
    folder = tmp_path_factory.mktemp("log")
    log = write_log(folder, [[60, 45, 30, 25], [70, 40]], vocabulary(), prompt_tokens(0), 0.1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(prediction_table, "ROWS", 50)
        with PredictionTable(folder / "predictions.parquet", log, samples_of(log).test) as table:
            found = streamed(log, made_scores(log), 16, table.write)
    return log, found, folder / "predictions.parquet"


def test_the_endpoint_of_every_model_can_be_computed_again(
    written: tuple[PreparedLog, Comparison, Path],
) -> None:
    _, found, path = written
    table = pd.read_parquet(path)
    models = found.results["models"]
    for model in models:
        predictor, rule = split_model_name(model)
        rows = table[table["predictor"] == predictor]
        chosen, target = rows[f"chosen_{rule}"], rows["target"].fillna("(unseen)")
        of_anchors = rows["target_group"] == "anchor"
        accuracy = accuracy_score(target[of_anchors], chosen[of_anchors])
        assert accuracy == pytest.approx(models[model]["anchor"]["accuracy"]["value"], abs=1e-12)
        of_tail = rows.loc[~of_anchors, "target"].value_counts()
        counted = sorted(of_tail[of_tail >= 10].index)
        recall = recall_score(target, chosen, labels=counted, average="macro", zero_division=0)
        assert len(counted) > 1
        assert recall == pytest.approx(models[model]["tail"]["macro_recall_at_least_10"]["value"], abs=1e-12)
        if rule == "plain":
            rank = (1 / rows["target_place"]).fillna(0).mean()
            assert rank == pytest.approx(models[model]["all"]["mrr"]["value"], abs=1e-12)
            changes = ~rows["is_repeat"]
            assert accuracy_score(target[changes], chosen[changes]) == pytest.approx(
                models[model]["changes"]["accuracy"]["value"], abs=1e-12
            )


def test_each_sample_is_there_once_for_each_predictor_and_no_user_is_named(
    written: tuple[PreparedLog, Comparison, Path],
) -> None:
    log, found, path = written
    test = samples_of(log).test
    names, samples = group_names(log, test), found.results["samples"]
    table = pd.read_parquet(path)
    assert set(table["predictor"]) == found.details["rules"].keys()
    sample_id = gather(log, test, "sample_id")
    for _, rows in table.groupby("predictor"):
        assert [bytes(one) for one in rows["sample_id"]] == [bytes(one) for one in sample_id]
        assert (
            rows["group"].nunique() == samples["groups"] and rows["target"].isna().sum() == samples["unseen"]
        )
    assert len(np.unique(id_keys(sample_id))) == samples["all"] == len(table) / table["predictor"].nunique()
    told = {str(value) for name in table.columns for value in table[name]}
    assert told & set(log.vocabulary.names) and not told & {str(name) for name in names}
    assert pq.ParquetFile(path).num_row_groups > table["predictor"].nunique()


def test_the_first_behaviors_and_the_target_have_their_probabilities(
    written: tuple[PreparedLog, Comparison, Path],
) -> None:
    log, _, path = written
    table = pd.read_parquet(path)
    scores = made_scores(log)["one_stage"]["test"].astype(np.float64)
    said = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    rows = table[table["predictor"] == "one_stage"]
    places = {name: place for place, name in enumerate(log.vocabulary.names)}
    for own, (_, row) in zip(said, rows.iterrows(), strict=True):
        assert row["top"][0] == row["chosen_plain"]
        assert row["top_probabilities"] == pytest.approx([own[places[name]] for name in row["top"]], abs=1e-9)
        if pd.notna(row["target"]):
            assert row["target_probability"] == pytest.approx(own[places[row["target"]]], abs=1e-9)
            assert row["top"][int(row["target_place"]) - 1] == row["target"]
    untuned = table[table["predictor"] == "untuned"]
    assert untuned[[f"chosen_{rule}" for rule in RULES]].notna().all(axis=None)
    assert rows["chosen_pmi"].isna().all() and rows["chosen_per_token"].isna().all()
