"""What label scores cost at least: operations that the mathematics needs, whoever computes them.

The prompts' common beginning goes through the model once, and the rest of each, and after it what its trie needs: for
full normalization all tokens of names but their last, each once; over the trie the tokens above places where names
part. Attention is to what came before, and the LM head runs where something is read, over all tokens or over those
that may follow.
"""

from collections import defaultdict
from collections.abc import Sequence

from transformers import PreTrainedModel

from behaviorlm.scoring.config import Normalization
from behaviorlm.trees.token_tree import Int32
from behaviorlm_ray.costs.operations import StepWork, model_work


def needed_nodes(labels: Sequence[Int32], normalization: Normalization) -> tuple[list[int], int | None]:
    """Depths of the tokens after a prompt, from 1, and the rows of the head for all places; None: all at each place."""
    follow = defaultdict[tuple[int, ...], set[int]](set)
    for label in labels:
        tokens = tuple(label.tolist())
        for length in range(len(tokens)):
            follow[tokens[:length]].add(tokens[length])
    if normalization == "full":
        return [len(node) for node in follow if node], None
    parted = [node for node, tokens in follow.items() if len(tokens) > 1]
    above = {node[:length] for node in parted for length in range(1, len(node) + 1)}
    return [len(node) for node in above], sum(len(follow[node]) for node in parted)


def needed_operations(
    model: PreTrainedModel,
    labels: Sequence[Int32],
    normalization: Normalization,
    prompts: int,
    sizes: tuple[int, int],
) -> float | None:
    """Floating-point operations of all prompts; None where a model's are not known. sizes: common tokens, and own."""
    work = model_work(model, is_trained=False)
    if work is None:
        return None
    common, whole = sizes[0], sum(sizes)
    depths, rows = needed_nodes(labels, normalization)
    vocabulary, width = model.get_output_embeddings().weight.shape
    if rows is None:
        rows = vocabulary * (len(depths) + 1)
    own_pairs = sum(range(common + 1, whole + 1)) + sum(whole + depth for depth in depths)
    tokens = common + prompts * (sizes[1] + len(depths))
    body = StepWork(tokens, sum(range(1, common + 1)) + prompts * own_pairs, 0)
    return work.of(body) + 2.0 * width * rows * prompts
