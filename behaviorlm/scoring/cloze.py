"""Questions that tell whether a model knows something: is the right continuation likelier to it than wrong ones?

Our choice. A continuation's score is the sum of the log-probabilities of its tokens after the prefix.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from behaviorlm.errors import DataError
from behaviorlm.files.input_files import open_bytes
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.training.schedule import fit_packs
from behaviorlm.trees.token_tree import TreeWriter

PACK_TOKENS = 1024
"""Tokens that go through the model together (our choice)."""


@dataclass(frozen=True)
class ClozeQuestion:
    """A prefix and continuations, each with its leading space. Right if the right one scores highest.

    kind: accuracies are reported for each kind too.
    """

    kind: str
    prefix: str
    right: str
    wrong: tuple[str, ...]


def read_cloze(path: str | Path) -> list[ClozeQuestion]:
    """Questions from JSON lines: {"prefix", "right", "wrong": [...]} and optionally "kind".

    Raises DataError naming file, line and what is wrong.
    """
    try:
        with open_bytes(str(path)) as stream:
            lines = stream.read().decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from None
    questions = [
        _question(f"{path}, line {number}", line) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not questions:
        raise DataError(f"{path}: there is no question in it")
    return questions


def write_cloze(path: str | Path, questions: Sequence[ClozeQuestion]) -> int:
    """Write what `read_cloze` reads. Returns the number of questions."""
    text = "".join(json.dumps(asdict(question), ensure_ascii=False) + "\n" for question in questions)
    Path(path).write_text(text, encoding="utf-8")
    return len(questions)


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
                writer.predicted_leaf(np.zeros(0, np.int32), answer, weight=0.0, part=0, item=item)
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


def _question(where: str, line: str) -> ClozeQuestion:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error})") from None
    texts = [found.get("prefix"), found.get("right")] if isinstance(found, dict) else [None]
    wrong = found.get("wrong") if isinstance(found, dict) else None
    if not all(isinstance(text, str) and text for text in texts) or not isinstance(wrong, list) or not wrong:
        raise DataError(
            f'{where}: a question is {{"prefix": text, "right": text, "wrong": [text, ...]}}, got {line[:80]}'
        )
    if not all(isinstance(text, str) and text for text in wrong) or found["right"] in wrong:
        raise DataError(
            f"{where}: wrong continuations must be texts other than the right one, got {wrong!r:.80}"
        )
    return ClozeQuestion(str(found.get("kind", "question")), found["prefix"], found["right"], tuple(wrong))


def _encoded(
    tokenizer: PreTrainedTokenizerBase, question: ClozeQuestion
) -> tuple[np.ndarray, list[np.ndarray]]:
    prefix = tokenizer.encode(question.prefix)
    answers = [tokenizer.encode(text, add_special_tokens=False) for text in (question.right, *question.wrong)]
    return np.array(prefix, np.int32), [np.array(answer, np.int32) for answer in answers]
