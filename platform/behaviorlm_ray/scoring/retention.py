"""Knowledge retention: how well a model predicts conversations it was never trained on, and answers cloze questions."""

from collections.abc import Mapping, Sequence

import numpy as np
import ray
from transformers import PreTrainedTokenizerBase

from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.prompts.encoded_conversations import Conversation
from behaviorlm.scoring.cloze import cloze_accuracy
from behaviorlm.scoring.cloze_questions import ClozeQuestion
from behaviorlm.scoring.label_scoring import PROMPT_TOKENS
from behaviorlm.training.schedule import fit_packs
from behaviorlm.trees.token_tree import TreeWriter
from behaviorlm_ray.cluster.kept import make_room
from behaviorlm_ray.scoring.replica import ScoringTask, open_model

CLOZE = "cloze"
"""What the answers to cloze questions are called among the sources of conversations."""


def measure_retention(
    task: ScoringTask,
    conversations: Mapping[str, Sequence[Conversation]],
    tokenizer: PreTrainedTokenizerBase | None = None,
    questions: Sequence[ClozeQuestion] = (),
) -> dict[str, dict[str, float]]:
    """What the task's model makes of the conversations of each source, and of cloze questions if there are any.

    Of a source, mean negative log-likelihood in nats: {"loss": by assistant token, "conversation_loss": mean of means}.
    """
    talks = {name: list(of_source) for name, of_source in conversations.items() if len(of_source)}
    if not talks and not questions:
        return {}
    make_room()
    remote = _measure.options(
        num_cpus=task.threads,
        num_gpus=1 if task.use_gpu else 0,
        scheduling_strategy="DEFAULT",  # not in the resources that a Tune trial holds for itself
    )
    return ray.get(remote.remote(task, talks, tokenizer, list(questions)))


@ray.remote
def _measure(
    task: ScoringTask,
    conversations: Mapping[str, Sequence[Conversation]],
    tokenizer: PreTrainedTokenizerBase | None,
    questions: Sequence[ClozeQuestion],
) -> dict[str, dict[str, float]]:
    model, attention = open_model(task)
    tree_model = TreeModel(model, attention).eval()
    found = {name: _losses(tree_model, of_source) for name, of_source in conversations.items()}
    if tokenizer is not None and questions:
        found[CLOZE] = cloze_accuracy(tree_model, tokenizer, questions)
    return found


def _losses(tree_model: TreeModel, conversations: Sequence[Conversation]) -> dict[str, float]:
    device = next(tree_model.parameters()).device
    sums = np.zeros(len(conversations))
    tokens = np.zeros(len(conversations))
    for pack in fit_packs([len(talk.token_ids) for talk in conversations], PROMPT_TOKENS):
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
