"""Scores of the pool, and those of plain sequences, for the fixtures of this folder."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows
from behaviorlm_ray.scoring import pool as scoring
from behaviorlm_ray.scoring.replica import ScoringTask

POOL = scoring.ScoringPool(actors=2, windows_per_batch=3, cpus_per_actor=1, use_gpu=False)


def task_of(
    settings: RunSettings, log: PreparedLog, trained: Path | None, measures: bool = False
) -> ScoringTask:
    return ScoringTask(log, settings.model, trained, measures, max_tokens=2048, threads=1, use_gpu=False)


def plain_scores(model: nn.Module, log: PreparedLog, rows: SampleRows) -> np.ndarray:
    """Label scores [n, K] of one plain sequence for each sample and label, with nothing shared."""
    labels = labels_with_terminator(log.prompt)
    scores = []
    with torch.inference_mode():
        for part, chosen in zip(log.parts, rows, strict=True):
            lines, questions = part.table["line_ids"].to_pylist(), part.table["question_ids"].to_pylist()
            for row in chosen.tolist():
                history = [token for line in lines[int(part.window_start[row]) : row] for token in line]
                prompt = [*log.prompt.instruction_ids.tolist(), *history, *questions[row]]
                found = np.empty(len(labels))
                for length in {len(label) for label in labels}:  # a batch of plain sequences of one length
                    of_length = [number for number, label in enumerate(labels) if len(label) == length]
                    ids = torch.tensor([prompt + labels[number].tolist() for number in of_length])
                    likelihood = torch.log_softmax(model(input_ids=ids).logits.float(), dim=-1)
                    told = likelihood[:, len(prompt) - 1 : -1].gather(2, ids[:, len(prompt) :, None])
                    found[of_length] = told.double().sum((1, 2)).numpy()
                scores.append(found)
    return np.array(scores).reshape(-1, len(labels))


def plain_nll(label_scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Surprise at the target over the vocabulary, float64."""
    return np.logaddexp.reduce(label_scores, axis=1) - label_scores[np.arange(len(targets)), targets]
