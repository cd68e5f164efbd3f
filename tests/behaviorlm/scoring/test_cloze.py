"""Cloze questions: files that are refused, and answers against plain log-probabilities."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from behaviorlm.errors import DataError
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.tree_model import TreeModel
from behaviorlm.scoring.cloze import cloze_accuracy
from behaviorlm.scoring.cloze_questions import ClozeQuestion, read_cloze, write_cloze
from tests.behaviorlm.tiny_models import CONFIGS, tiny_model
from tests.behaviorlm.tokenizers_for_tests import small_tokenizer


def test_questions_come_back_from_their_file(tmp_path: Path) -> None:
    questions = [ClozeQuestion("a", "b c", " d", (" e", " é")), ClozeQuestion("question", "x", "y", ("z",))]
    assert write_cloze(tmp_path / "q.jsonl", questions) == 2
    assert read_cloze(tmp_path / "q.jsonl") == questions


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: a question is"),
        (json.dumps({"prefix": "a", "right": "b"}), "line 2: a question is"),
        (json.dumps({"prefix": "a", "right": "b", "wrong": ["b"]}), "line 2: wrong continuations"),
        (json.dumps({"prefix": "a", "right": "b", "wrong": [1]}), "line 2: wrong continuations"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"prefix": "a", "right": "b", "wrong": ["c"]}) + "\n" + line + "\n")
    with pytest.raises(DataError, match=told):
        read_cloze(path)


def test_an_empty_or_missing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for name in ("empty", "missing"):
        with pytest.raises(DataError, match=name):
            read_cloze(tmp_path / name)


def test_accuracy_is_that_of_plain_sequences() -> None:
    tokenizer = small_tokenizer()
    config = CONFIGS["llama"].__class__(**{**CONFIGS["llama"].to_dict(), "vocab_size": len(tokenizer)})
    model = tiny_model(config)
    words = ["home", "light", "door", "open", "close", "on", "off", "the kitchen"]
    random = np.random.default_rng(0)
    questions = [
        ClozeQuestion(
            f"kind {n % 3}", f"{random.choice(words)} {n}", f" {right}", (f" {first}", f" {second}")
        )
        for n in range(60)
        for right, first, second in [random.choice(words, 3, replace=False)]
    ]

    def score(prefix: str, continuation: str) -> float:
        start, ids = tokenizer.encode(prefix), tokenizer.encode(continuation, add_special_tokens=False)
        with torch.no_grad():
            rows = model(input_ids=torch.tensor([start + ids])).logits[0].double().log_softmax(-1)
        return sum(float(rows[len(start) - 1 + place, token]) for place, token in enumerate(ids))

    rights = [score(q.prefix, q.right) > max(score(q.prefix, wrong) for wrong in q.wrong) for q in questions]
    found = cloze_accuracy(TreeModel(model, choose_attention(model)), tokenizer, questions)
    assert found["accuracy"] == pytest.approx(np.mean(rights)) and found["chance"] == pytest.approx(1 / 3)
    assert found["accuracy of kind 1"] == pytest.approx(np.mean(rights[1::3]))
