"""Knowledge retention: how well a model still predicts general conversations it was never trained on."""

from collections.abc import Sequence

import numpy as np
import ray

from behaviorlm.conversations import Conversation
from behaviorlm.schedule import fit_packs
from behaviorlm.token_tree import TreeWriter
from behaviorlm.tree_model import TreeModel, pack_tensors
from behaviorlm_ray.scoring import TREE_TOKENS, ScoringTask, open_model


def conversation_losses(task: ScoringTask, conversations: Sequence[Conversation]) -> dict[str, float]:
    """Mean negative log-likelihood in nats: {"loss": by assistant token, "conversation_loss": mean of means}."""
    remote = _losses.options(
        num_cpus=task.threads,
        num_gpus=1 if task.use_gpu else 0,
        scheduling_strategy="DEFAULT",  # not in the resources that a Tune trial holds for itself
    )
    return ray.get(remote.remote(task, list(conversations)))


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
