"""The same label scores for a model that takes no trees: one plain sequence for each prompt and label, or beginning."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.lm_head import target_log_probabilities
from behaviorlm.model.tree_model import pack_tensors, read_out_states
from behaviorlm.trees.closed_trie import ClosedPiece, ClosedTrie
from behaviorlm.trees.token_tree import Int32, TreeWriter

PLAIN = TreeAttention("plain")


def plain_label_scores(
    model: nn.Module, prompt: Int32, label_ids: Sequence[Int32], max_tokens: int
) -> NDArray[np.float64]:
    """Label scores over the whole vocabulary after a prompt, in batches of `max_tokens`; float64 [K]."""
    scores = np.zeros(len(label_ids))
    longest = len(prompt) + max(len(label) for label in label_ids)
    step = max(1, max_tokens // longest)
    for start in range(0, len(label_ids), step):
        writer = TreeWriter()
        writer.open(prompt)
        for item, label in enumerate(label_ids[start : start + step]):
            writer.chain(label, weight=1.0, part=0, item=item)
        batch = pack_tensors(writer.finish(), next(model.parameters()).device, row_tokens=None)
        states = read_out_states(model, batch, PLAIN)
        values = target_log_probabilities(model, states, batch.target).cpu().numpy()
        np.add.at(scores, start + batch.tree.item, values)
    return scores


def plain_piece_states(model: nn.Module, prompt: Int32, trie: ClosedTrie) -> Iterator[Tensor]:
    """For each piece the states of the prompt's end and of its branching nodes, where those of all its M tokens would
    be; [1, 1 + M, width].
    """
    end = _states(model, [prompt])[None]
    for piece in trie.pieces:
        yield torch.cat([end, _states_of(model, prompt, piece)], dim=1)


def _states_of(model: nn.Module, prompt: Int32, piece: ClosedPiece) -> Tensor:
    places = piece.places[piece.places >= 0]
    beginnings = [piece.tree.token_ids[piece.tree.path_to(int(place))] for place in places]
    found = _states(model, [np.concatenate([prompt, ids]) for ids in beginnings])
    states = found.new_zeros(1, len(piece.tree), found.shape[-1])
    states[0, torch.from_numpy(places).to(found.device)] = found
    return states


def _states(model: nn.Module, sequences: Sequence[Int32]) -> Tensor:
    """The last hidden state at the end of each of n sequences; [n, width]."""
    writer = TreeWriter()
    for item, ids in enumerate(sequences):
        writer.read_out(np.array([writer.leaf(ids)]), np.zeros(1, np.int32), np.zeros(1), part=0, item=item)
    batch = pack_tensors(writer.finish(), next(model.parameters()).device, row_tokens=None)
    return read_out_states(model, batch, PLAIN)
