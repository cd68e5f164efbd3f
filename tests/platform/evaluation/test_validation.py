"""What a search chooses by, from made-up scores of a made-up log."""

from pathlib import Path

import numpy as np
import pytest

from behaviorlm.errors import DataError
from behaviorlm.prompts.encoder import PromptConfig
from behaviorlm_ray.evaluation.validation import validation_metrics
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from tests.behaviorlm.random_parts import prompt_tokens, vocabulary, write_part
from tests.platform.score_reading import in_batches


def test_the_objective_is_the_mean_of_anchor_accuracy_and_tail_macro_recall(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for number in range(2):
        write_part(tmp_path / "parts" / f"timelines-{number:05d}.arrow", number, [40, 30, 20])
    (tmp_path / "vocabulary.json").write_text(vocabulary().to_json())
    (tmp_path / "prompt.json").write_text(prompt_tokens(0).to_json())
    log = PreparedLog(tmp_path, PromptConfig())
    rows = [np.arange(5, 85), np.arange(0, 90, 2)]
    targets = np.concatenate([part.behavior[chosen] for part, chosen in zip(log.parts, rows, strict=True)])
    scores = np.random.default_rng(5).normal(size=(len(targets), 5)).astype(np.float32)
    found = validation_metrics(log, rows, in_batches(scores, 16)())

    predicted = scores.argmax(axis=1)
    anchors = targets < 2
    accuracy = np.mean(predicted[anchors] == targets[anchors])
    recalls = [np.mean(predicted[targets == behavior] == behavior) for behavior in (2, 3, 4)]
    assert min(np.bincount(targets)) >= 10
    assert found.anchor_accuracy == pytest.approx(accuracy)
    assert found.tail_macro_recall == pytest.approx(np.mean(recalls))
    assert found.objective == pytest.approx((accuracy + np.mean(recalls)) / 2)
    counts = np.bincount(targets)
    minimum = int(sorted(counts[2:])[1])
    enough = [recall for recall, count in zip(recalls, counts[2:], strict=True) if count >= minimum]
    assert 0 < len(enough) < 3
    of_enough = validation_metrics(log, rows, in_batches(scores, 16)(), minimum)
    assert of_enough.tail_macro_recall == pytest.approx(np.mean(enough))
    with pytest.raises(DataError, match=r"lack a tail behavior with 1000 targets .*max_validation_samples"):
        validation_metrics(log, rows, in_batches(scores, 16)(), 1000)
    with pytest.raises(DataError, match=r"split\.validation"):
        validation_metrics(log, [rows[0][:0], rows[1][:0]], [])
