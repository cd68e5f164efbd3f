"""What is told of scoring before it is done, held against what scorers count, and bases that take no trees."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from behaviorlm.errors import ModelError
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.scoring.config import Normalization
from behaviorlm.scoring.label_scoring import LabelScorer, label_scorer
from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm_ray.pipeline.scoring_work import check_plain_allowed, described_work, plain_warnings
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import rows_of_split
from tests.behaviorlm.tiny_models import CONFIGS, RECURRENT, tiny_model
from tests.platform.preparation.test_prepared_log import random_log
from tests.platform.small_runs import run_settings


def settings_of(tmp_path: Path, name: str, *overrides: str) -> RunSettings:
    """Of a run with a tiny base: no weights are asked for."""
    base = tmp_path / name
    (CONFIGS | {"mamba": RECURRENT})[name].save_pretrained(base)
    drawn = ("model.random_init=true", *overrides)
    return run_settings(tmp_path / "runs", base, tmp_path / "log.csv", overrides=drawn)


@pytest.mark.parametrize("normalization", ["full", "trie"])
def test_what_is_told_is_what_a_scorer_counts(normalization: Normalization, tmp_path: Path) -> None:
    log = random_log(1, [[30, 20], [40, 3, 9]])
    settings = settings_of(tmp_path, "llama", f"scoring.normalization={normalization}")
    model = tiny_model(CONFIGS["llama"])
    labels = [ids % 97 for ids in labels_with_terminator(log.prompt)]
    assert len({label.tobytes() for label in labels}) == len(log.vocabulary)
    scorer = label_scorer(model, choose_attention(model), labels, 100_000, normalization)
    _, work = scorer.score_counted(lambda writer: [writer.leaf(np.arange(5, dtype=np.int32))])
    told = described_work(settings, log)
    assert f"normalization {normalization}: {work.nodes} " in told and f" {work.head_rows:,} rows" in told


@pytest.mark.parametrize("normalization", ["full", "trie"])
def test_the_factor_of_plain_sequences_is_what_a_scorer_counts(
    normalization: Normalization, tmp_path: Path
) -> None:
    log = random_log(1, [[30, 20], [40, 3, 9]])
    settings = settings_of(tmp_path, "mamba", f"scoring.normalization={normalization}")
    (told,) = plain_warnings(settings, log)
    prompts = [
        len(log.prompt.instruction_ids)
        + int(part.lines.offsets[row] - part.lines.offsets[part.window_start[row]])
        + int(part.questions.lengths()[row])
        for part, rows in zip(log.parts, rows_of_split(log, "train"), strict=True)
        for row in rows
    ]
    counted = []
    for config in (RECURRENT, CONFIGS["llama"]):
        model = tiny_model(config)
        labels = [ids % 97 for ids in labels_with_terminator(log.prompt)]
        scorer = label_scorer(model, choose_attention(model), labels, 100_000, normalization)
        counted.append(sum(n * tokens_of(scorer, length) for length, n in Counter(prompts).items()))
    assert f"about {counted[0] / counted[1]:,.0f} times" in told


def tokens_of(scorer: LabelScorer, length: int) -> int:
    """That go through the model for one prompt of so many tokens."""
    _, work = scorer.score_counted(lambda writer: [writer.leaf(np.arange(length, dtype=np.int32) % 97)])
    return work.tokens


def test_a_base_that_takes_no_trees_is_told_of_or_refused(tmp_path: Path) -> None:
    (told,) = plain_warnings(settings_of(tmp_path, "mamba"), None)
    assert "mamba" in told and "once for each behavior" in told
    with pytest.raises(ModelError, match=r"execution\.allow_plain is false"):
        check_plain_allowed(settings_of(tmp_path, "mamba", "execution.allow_plain=false"))
    for name, override in (("mamba", "true"), ("llama", "false")):
        check_plain_allowed(settings_of(tmp_path, name, f"execution.allow_plain={override}"))
    assert plain_warnings(settings_of(tmp_path, "llama"), None) == []
