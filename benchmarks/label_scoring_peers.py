"""What others do to score labels: lm-evaluation-harness, and keys and values kept for each prompt or for a user.

All get the tokens of prompts and labels, run under the caller's `inference_mode`, and return float32 [prompts, K]:
log P(label | prompt), what full normalization says.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache, PreTrainedModel

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


class LmEval:
    """lm-evaluation-harness on tokens. State: its model, and the batch size that was the fastest.

    longest: tokens of a prompt with a label, more than which it would cut.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any, longest: int) -> None:
        from lm_eval.models.huggingface import HFLM

        self._opened: Any = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, max_length=longest)

    def use_batch(self, size: int) -> None:
        self._opened.batch_size_per_gpu = size

    def __call__(self, prompts: Sequence[Int32], labels: Sequence[Int32]) -> Float32:
        requests = [(("", ""), p.tolist(), label.tolist()) for p in prompts for label in labels]
        found = self._opened._loglikelihood_tokens(requests, disable_tqdm=True)
        return np.array([each[0] for each in found], np.float32).reshape(len(prompts), len(labels))


class KeysValues:
    """Keys and values of a prompt, labels after it in batches. State: the batch size that was the fastest.

    shared: how many tokens all prompts begin with, which go through the model once; 0: each prompt for itself.
    """

    def __init__(self, model: PreTrainedModel, shared: int) -> None:
        self._model, self._shared, self._size = model, shared, 1

    def use_batch(self, size: int) -> None:
        self._size = size

    def __call__(self, prompts: Sequence[Int32], labels: Sequence[Int32]) -> Float32:
        kept = DynamicCache()
        if self._shared:
            beginning = _batch(prompts[0][None, : self._shared])
            self._model(input_ids=beginning, past_key_values=kept, logits_to_keep=1)
        return np.stack(
            [self._after(copy.deepcopy(kept), prompt[self._shared :], labels) for prompt in prompts]
        )

    def _after(self, cache: DynamicCache, rest: Int32, labels: Sequence[Int32]) -> Float32:
        found = self._model(input_ids=_batch(rest[None]), past_key_values=cache, logits_to_keep=1)
        order = np.argsort([len(label) for label in labels], kind="stable")  # equal lengths need no padding
        scores = np.empty(len(labels), np.float32)
        for start in range(0, len(labels), self._size):
            batch = order[start : start + self._size]
            last = start + self._size >= len(labels)
            own = cache if last else copy.deepcopy(cache)
            scores[batch] = _continued(
                self._model, own, found.logits[:, -1:], [labels[label] for label in batch]
            )
        return scores


def _continued(
    model: PreTrainedModel, cache: DynamicCache, end: torch.Tensor, labels: Sequence[Int32]
) -> Float32:
    lengths = np.array([len(label) for label in labels])
    padded = np.zeros((len(labels), lengths.max()), np.int32)
    for row, label in enumerate(labels):
        padded[row, : len(label)] = label
    target = _batch(padded)
    logits = end.expand(len(labels), -1, -1)
    if padded.shape[1] > 1:
        cache.batch_repeat_interleave(len(labels))
        logits = torch.cat([logits, model(input_ids=target[:, :-1], past_key_values=cache).logits], dim=1)
    found = torch.log_softmax(logits.float(), -1).gather(-1, target[..., None])[..., 0]
    is_label = torch.from_numpy(np.arange(padded.shape[1]) < lengths[:, None])
    scores: Float32 = (found * is_label).sum(1).numpy()
    return scores


def _batch(token_ids: Int32) -> torch.Tensor:
    return torch.from_numpy(token_ids.astype(np.int64))
