"""Knowledge retention: how well a model predicts conversations it was never trained on, and answers cloze questions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from transformers import PreTrainedTokenizerBase

from behaviorlm.cloze import ClozeQuestion, cloze_accuracy
from behaviorlm.conversations import Conversation
from behaviorlm.schedule import fit_packs
from behaviorlm.token_tree import TreeWriter
from behaviorlm.tree_model import TreeModel, pack_tensors
from behaviorlm_ray.scoring import TREE_TOKENS, ScoringTask, open_model

CLOZE = "cloze"
"""What the answers to cloze questions are called among the sources of conversations."""


def conversation_losses(task: ScoringTask, conversations: Sequence[Conversation]) -> dict[str, float]:
    """Mean negative log-likelihood in nats: {"loss": by assistant token, "conversation_loss": mean of means}."""
    return ray.get(_placed(_losses, task).remote(task, list(conversations)))


def cloze_accuracies(
    task: ScoringTask, tokenizer: PreTrainedTokenizerBase, questions: Sequence[ClozeQuestion]
) -> dict[str, float]:
    """`cloze_accuracy` of the task's model, on the cluster."""
    return ray.get(_placed(_answers, task).remote(task, tokenizer, list(questions)))


def _placed(function: Any, task: ScoringTask) -> Any:
    return function.options(
        num_cpus=task.threads,
        num_gpus=1 if task.use_gpu else 0,
        scheduling_strategy="DEFAULT",  # not in the resources that a Tune trial holds for itself
    )


@ray.remote
def _answers(
    task: ScoringTask, tokenizer: PreTrainedTokenizerBase, questions: Sequence[ClozeQuestion]
) -> dict[str, float]:
    model, attention = open_model(task)
    return cloze_accuracy(TreeModel(model, attention).eval(), tokenizer, questions)


@ray.remote
def _losses(task: ScoringTask, conversations: Sequence[Conversation]) -> dict[str, float]:
    model, attention = open_model(task)
    tree_model = TreeModel(model, attention).eval()
    device = next(model.parameters()).device
    sums = np.zeros(len(conversations))
    tokens = np.zeros(len(conversations))
    for pack in fit_packs([len(talk.token_ids) for talk in conversations], TREE_TOKENS):
        writer = TreeWriter()
        for item, index in enumerate(pack):
            talk = conversations[index]
            writer.chain(talk.token_ids, talk.is_assistant, weight=0.0, part=0, item=item)
        tree = writer.finish()
        _, _, nll = tree_model(pack_tensors(tree, device))
        sums[pack] = np.bincount(tree.item, nll.cpu().numpy(), minlength=len(pack))
        tokens[pack] = np.bincount(tree.item, minlength=len(pack))
    return {
        "loss": float(sums.sum() / tokens.sum()),
        "conversation_loss": float(np.mean(sums / tokens)),
        "conversations": len(conversations),
    }
