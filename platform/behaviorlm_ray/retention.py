"""Knowledge retention: how well a model still predicts general conversations it was never trained on."""

from collections.abc import Sequence

import numpy as np
import ray

from behaviorlm.conversations import Conversation
from behaviorlm.token_tree import TreeWriter
from behaviorlm.tree_model import TreeModel, pack_tensors
from behaviorlm_ray.scoring import ScoringTask, open_model


def conversation_losses(task: ScoringTask, conversations: Sequence[Conversation]) -> dict[str, float]:
    """Mean negative log-likelihood in nats: {"loss": by assistant token, "conversation_loss": mean of means}."""
    options = {"num_cpus": task.threads, "num_gpus": 1 if task.use_gpu else 0}
    return ray.get(_losses.options(**options).remote(task, list(conversations)))


@ray.remote
def _losses(task: ScoringTask, conversations: Sequence[Conversation]) -> dict[str, float]:
    model, attention = open_model(task)
    tree_model = TreeModel(model, attention).eval()
    total, tokens, means = 0.0, 0, []
    for conversation in conversations:
        writer = TreeWriter()
        writer.chain(conversation.token_ids, conversation.is_assistant, weight=0.0, part=0, item=0)
        _, _, nll = tree_model(pack_tensors(writer.finish(), next(model.parameters()).device))
        total += float(nll.sum())
        tokens += len(nll)
        means.append(float(nll.mean()))
    return {
        "loss": total / tokens,
        "conversation_loss": float(np.mean(means)),
        "conversations": len(conversations),
    }
