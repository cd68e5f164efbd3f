"""Questions that tell whether a model knows something: is the right continuation likelier to it than wrong ones?

A continuation's score is the sum of the log-probabilities of its tokens after the prefix.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.scoring.cloze_questions import ClozeQuestion
from behaviorlm.training.schedule import fit_packs
from behaviorlm.trees.token_tree import TreeWriter

PACK_TOKENS = 1024
"""Tokens that go through the model together."""


@torch.no_grad()
def cloze_accuracy(
    model: TreeModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[ClozeQuestion]
) -> dict[str, float]:
    """Share of questions answered right: "accuracy", "accuracy of <kind>" for each kind, and "chance", by guessing.

    Ties count as wrong.
    """
    device = next(model.parameters()).device
    encoded = [_encoded(tokenizer, question) for question in questions]
    sizes = [len(prefix) + sum(map(len, answers)) for prefix, answers in encoded]
    is_right = np.zeros(len(questions), dtype=bool)
    for pack in fit_packs(sizes, PACK_TOKENS):
        writer = TreeWriter()
        item = 0
        for index in pack:
            prefix, answers = encoded[index]
            writer.open(prefix)
            for answer in answers:
                writer.chain(answer, weight=0.0, part=0, item=item)
                item += 1
            writer.close()
        tree = writer.finish()
        nll = model(pack_tensors(tree, device))[2].double().cpu().numpy()
        scores = np.split(
            -np.bincount(tree.item, nll), np.cumsum([len(encoded[index][1]) for index in pack])[:-1]
        )
        for index, of_question in zip(pack, scores, strict=True):
            is_right[index] = of_question[0] > of_question[1:].max()
    by_kind = defaultdict(list)
    for question, right in zip(questions, is_right, strict=True):
        by_kind[question.kind].append(right)
    chance = np.mean([1 / (1 + len(question.wrong)) for question in questions])
    return {
        "accuracy": float(is_right.mean()),
        "chance": float(chance),
        **{f"accuracy of {kind}": float(np.mean(rights)) for kind, rights in by_kind.items()},
    }


def _encoded(
    tokenizer: PreTrainedTokenizerBase, question: ClozeQuestion
) -> tuple[np.ndarray, list[np.ndarray]]:
    prefix = tokenizer.encode(question.prefix)
    answers = [tokenizer.encode(text, add_special_tokens=False) for text in (question.right, *question.wrong)]
    return np.array(prefix, np.int32), [np.array(answer, np.int32) for answer in answers]
