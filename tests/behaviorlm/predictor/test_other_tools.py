"""What others score from an exported folder, given the prompts' token ids, is what it answers with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from tests.behaviorlm.predictor.small_artifacts import history, write_artifact

REQUESTS = [Request(history(number), {"room": "hall"}, "2024-03-03T10:00:00Z") for number in (0, 1, 4, 9)]


@pytest.fixture(scope="module")
def folder(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole weights, as any server loads them."""
    place = tmp_path_factory.mktemp("other_tools") / "merged"
    write_artifact(place, tiny_base, "model", merged=True)
    return place


@pytest.fixture(scope="module")
def asked(folder: Path) -> tuple[list[list[int]], list[list[int]], NDArray[np.float32]]:
    """Prompts and labels as ids, and the folder's label scores float32[prompts, labels]."""
    model = BehaviorModel.load(folder, device="cpu")
    language, tokens = model.parts.language_model, model.artifact.tokens
    assert language is not None and tokens is not None
    histories = model.read(REQUESTS)
    prompts = [
        [*tokens.instruction_ids, *np.concatenate([*prompt.lines, prompt.question]).tolist()]
        for prompt in language.prompts(histories, model.artifact.names)
    ]
    labels = [[*ids, *tokens.terminator_ids] for ids in tokens.label_ids]
    return prompts, labels, model.parts.label_scores(histories)


def test_plain_transformers_give_the_full_label_scores(folder: Path, asked: Any) -> None:
    prompts, labels, scores = asked
    network: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    expected = np.empty(scores.shape)
    for row, prompt in enumerate(prompts):
        for column, label in enumerate(labels):
            with torch.inference_mode():
                logits = network(torch.tensor([[*prompt, *label]])).logits[0, len(prompt) - 1 : -1]
            steps = logits.double().log_softmax(-1)[torch.arange(len(label)), torch.tensor(label)]
            expected[row, column] = steps.sum()
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)


def test_the_harness_gives_the_full_label_scores(folder: Path, asked: Any) -> None:
    prompts, labels, scores = asked
    harness = HFLM(
        pretrained=str(folder),
        device="cpu",
        tokenizer=AutoTokenizer.from_pretrained(folder),
        batch_size=8,
        max_length=512,
    )
    requests = [(("", ""), prompt, label) for prompt in prompts for label in labels]
    found = [result[0] for result in harness._loglikelihood_tokens(requests, disable_tqdm=True)]
    np.testing.assert_allclose(scores.ravel(), found, rtol=0, atol=1e-4)
