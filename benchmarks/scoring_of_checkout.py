"""Label scores by the code of another checkout of this repository, timed in a process of its own: before and after.

`OfCheckout` starts this file with that checkout's packages; what it is asked and answers are lines of JSON. Both sides
get the same tokens, and one of them works at a time.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

try:
    from benchmarks.sides import CheckoutSide, timed
except ImportError:  # with the other checkout's packages
    from sides import CheckoutSide, timed  # type: ignore[import-not-found,no-redef]

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


class OfCheckout(CheckoutSide):
    """Scores of prompts that begin alike, by the other checkout's model."""

    def __init__(
        self,
        folder: Path,
        *,
        base: str,
        dtype: str,
        max_tokens: int,
        labels: Sequence[Int32],
        beginning: Int32,
        rest: Int32,
    ) -> None:
        super().__init__(
            folder,
            Path(__file__),
            base=base,
            dtype=dtype,
            max_tokens=max_tokens,
            labels=[label.tolist() for label in labels],
            beginning=beginning.tolist(),
            rest=rest.tolist(),
        )

    def scores(self, normalization: str) -> Float32:
        """Label scores of all prompts, float32 [prompts, K]."""
        return np.array(self.answer(scores=normalization), np.float32)

    def seconds(self, normalization: str) -> tuple[float, float]:
        """CPU and wall seconds of scoring them once more."""
        cpu, wall = self.answer(seconds=normalization)
        return cpu, wall


def _serve() -> None:
    from transformers.utils.logging import disable_progress_bar

    import behaviorlm
    from behaviorlm.model.attention_choice import choose_attention
    from behaviorlm.model.base_model import load_model
    from behaviorlm.model.config import ModelConfig
    from behaviorlm.scoring.label_scoring import label_scorer
    from behaviorlm.trees.token_tree import TreeWriter

    disable_progress_bar()
    torch.set_num_threads(1)
    told = json.loads(sys.stdin.readline())
    config = ModelConfig(base=told["base"], dtype=told["dtype"])
    model: Any = load_model(config).requires_grad_(False)
    attention = choose_attention(model)
    labels = [np.array(label, np.int32) for label in told["labels"]]
    beginning, rest = np.array(told["beginning"], np.int32), np.array(told["rest"], np.int32)

    def write(writer: TreeWriter) -> list[int]:
        writer.open(beginning)
        return [writer.leaf(ids) for ids in rest]

    scorers: dict[str, Any] = {
        name: label_scorer(model, attention, labels, told["max_tokens"], name) for name in ("full", "trie")
    }
    print(json.dumps({"code": behaviorlm.__file__}), flush=True)
    for line in sys.stdin:
        [(what, name)] = json.loads(line).items()
        scorer = scorers[name]
        found = scorer.score(write).tolist() if what == "scores" else timed(lambda: scorer.score(write))  # noqa: B023
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _serve()
