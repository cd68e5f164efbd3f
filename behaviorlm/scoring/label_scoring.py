"""Exact label scores: log P(name, terminator | prompt) for every behavior of the vocabulary.

Two passes. The prompts of a window go through the model as one tree, history shared, and leave their keys and values.
Then the label trie goes through it once for a batch of prompts, each attending to its own path. Memory is bounded by
`max_tokens` whatever the size of the vocabulary: large vocabularies are cut into several tries.

With normalization "trie" P is that of a model that can only say names of the vocabulary: at each token a softmax over
what may follow. Then only where names part the model is asked (`ClosedTrie`), and the scores of a prompt are log
probabilities that sum to 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache

from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.lm_head import HEAD_ROWS, causal_lm, head_logits
from behaviorlm.model.tree_model import (
    body_of,
    pack_tensors,
    read_out_log_probabilities,
    read_out_states,
)
from behaviorlm.scoring.closed_head import ClosedHead, closed_head
from behaviorlm.scoring.config import Normalization
from behaviorlm.scoring.kept_prefixes import KeptPrefix, KeysValues, Known, known_of
from behaviorlm.scoring.prompt_runs import PromptRun, Prompts
from behaviorlm.trees.closed_trie import ClosedPiece, build_closed_trie
from behaviorlm.trees.label_trie import LabelTrie, build_tries
from behaviorlm.trees.token_tree import Int32, TokenTree, TreeWriter

TRIE_NODES = 128
"""Nodes of a trie that go through the model together: a node attends to few of the others, so the masked
part of attention grows with this number, while the beginnings that several tries repeat shrink with it. On two busy
cores 128 gave 1.4 to 1.6 times the samples per second of one trie of 1,111."""

PROMPT_TOKENS = 1024
"""Tokens of prompts that go through the model as one tree: dense masks grow with the square."""

FEWEST_NODES = 64
"""Closed tries of fewer nodes do not get more prompts at a time: each brings keys and values of its own."""

PromptWriter = Callable[[TreeWriter], list[int]]
"""Writes prompts into a tree and returns the index of each one's last token."""


@dataclass(frozen=True)
class Work:
    """What scoring cost. tokens: that went through the model, prompts and nodes. nodes: of tries, for each prompt anew.

    head_rows: rows of the LM head's matrix that were multiplied, summed over the places where it ran.
    """

    tokens: int = 0
    nodes: int = 0
    head_rows: int = 0


@dataclass(frozen=True)
class LabelScorer:
    """Scores a closed vocabulary with one model.

    model: a causal LM, peft-wrapped or not, in eval mode. max_tokens: tokens of a batch (prompts x nodes of a trie).
    tries: of the labels, for full normalization. closed: their choices, for normalization over the trie; None for full.
    """

    model: nn.Module
    attention: TreeAttention
    label_ids: Sequence[Int32]
    tries: Sequence[LabelTrie]
    max_tokens: int
    closed: ClosedHead | None = None

    def score(self, write_prompts: PromptWriter) -> NDArray[np.float32]:
        """Label scores of the prompts that `write_prompts` hangs into one tree; float32 [prompts, K]."""
        return self.score_counted(write_prompts)[0]

    def score_counted(self, write_prompts: PromptWriter) -> tuple[NDArray[np.float32], Work]:
        """The same scores, and what they cost."""
        run = self.run(write_prompts)
        return self.scores(run), self._work(run)

    @torch.inference_mode()
    def run(self, write_prompts: PromptWriter, kept: Sequence[KeptPrefix | None] = ()) -> PromptRun:
        """Run prompts through the model, in one tree. kept: for each of them what is there of it already, or None."""
        writer = TreeWriter()
        last = write_prompts(writer)
        tree = writer.finish()
        paths = [tree.path_to(index) for index in last]
        if self.attention.kind == "plain":
            return PromptRun(tree, paths)
        known = known_of(tree, paths, kept or [None] * len(paths))
        nodes = np.zeros(0, np.int64) if known is None else known.nodes
        new = np.setdiff1d(np.arange(len(tree)), nodes)
        order = np.concatenate([nodes, new])
        hidden, keys_values = self._run_nodes(tree, order, len(nodes), known)
        place = np.empty(len(tree), np.int64)
        place[order] = np.arange(len(tree))
        return PromptRun(tree, paths, len(new), place, hidden, keys_values)

    @torch.inference_mode()
    def scores(self, run: PromptRun) -> NDArray[np.float32]:
        """Label scores of prompts that were run; float32 [prompts, K]."""
        if self.attention.kind == "plain":
            score_plain = self._score_plain if self.closed is None else self._score_closed_plain
            return score_plain(run.tree, run.paths)
        scores = np.zeros((len(run.paths), len(self.label_ids)), dtype=np.float32)
        fewest = 1 if self.closed is None else FEWEST_NODES
        rows = max(1, self.max_tokens // max([fewest, *map(len, self._trees)]))
        for start in range(0, len(run.paths), rows):
            scores[start : start + rows] = self._scores_after(run.gathered(slice(start, start + rows)))
        return scores

    @property
    def _trees(self) -> list[TokenTree | LabelTrie]:
        """What goes through the model after each prompt."""
        return [*self.tries] if self.closed is None else [piece.tree for piece in self.closed.trie.pieces]

    def _work(self, run: PromptRun) -> Work:
        paths = run.paths
        vocabulary = causal_lm(self.model).config.get_text_config().vocab_size
        if self.closed is not None:
            head_rows = self.closed.rows(vocabulary)
        else:
            head_rows = vocabulary * sum(len(np.unique(trie.edge_source)) for trie in self.tries)
        nodes = sum(map(len, self._trees))
        if self.attention.kind != "plain":
            return Work(run.computed + len(paths) * nodes, len(paths) * nodes, len(paths) * head_rows)
        lengths = [len(label) - 1 for label in self.label_ids]
        if self.closed is None:
            head_rows = vocabulary * (sum(lengths) + len(lengths))
        else:  # one sequence for the prompt and one for each branching node
            lengths = [0, *self.closed.trie.depths()]
        tokens = sum(map(len, paths)) * len(lengths) + len(paths) * sum(lengths)
        return Work(tokens, len(paths) * sum(lengths), len(paths) * head_rows)

    def _run_nodes(
        self, tree: TokenTree, order: NDArray[np.int64], first: int, known: Known | None
    ) -> tuple[Tensor, KeysValues]:
        """Hidden states of the nodes from `first` in an order, before which stand those known; keys and values of all.

        A node attends to its ancestors, which the tree's own numbers tell wherever they stand.
        """
        device = self._device
        cache = DynamicCache()
        for layer, (keys, values) in enumerate([] if known is None else known.keys_values):
            cache.update(keys, values, layer)
        index, depth, end = (
            torch.from_numpy(array.astype(np.int64)).to(device)
            for array in (order, tree.depth[order], tree.end[order])
        )
        token_ids = torch.from_numpy(tree.token_ids[order[first:]].astype(np.int64)).to(device)
        full = (index[None, :] <= index[first:, None]) & (index[first:, None] < end[None, :])
        distance = depth[first:, None] - depth[None, :]
        output = body_of(self.model)(
            input_ids=token_ids[None],
            position_ids=depth[None, first:],
            attention_mask=self.attention.limit(full[None, None], distance[None]),
            past_key_values=cache,
            use_cache=True,
        )
        layers: list[Any] = list(cache.layers)
        return output.last_hidden_state[0], [(layer.keys, layer.values) for layer in layers]

    def _scores_after(self, prompts: Prompts) -> NDArray[np.float64]:
        """Label scores after each prompt; float64 [prompts, K]."""
        if self.closed is not None:
            return self._closed_scores(prompts.ends, lambda piece: self._run_trie(piece.tree, prompts))
        scores = np.zeros((len(prompts.lengths), len(self.label_ids)))
        for trie in self.tries:
            scores[:, trie.labels] = trie.label_scores(self._score_trie(trie, prompts))
        return scores

    def _closed_scores(self, ends: Tensor, run: Callable[[ClosedPiece], Tensor]) -> NDArray[np.float64]:
        """ends: [prompts, width]. run: states of the tokens of a piece after each prompt, [prompts, M, width]."""
        assert self.closed is not None
        trie = self.closed.trie
        choices = torch.empty(len(ends), len(trie.child_token), device=ends.device, dtype=torch.float64)
        for number, piece in enumerate(trie.pieces):
            states = ends[:, None]
            if len(piece.tree):
                states = torch.cat([states, run(piece)], dim=1)
            self.closed.add_log_probabilities(self.model, number, states, choices)
        return trie.label_scores(choices.cpu().numpy())

    def _score_trie(self, trie: LabelTrie, prompts: Prompts) -> NDArray[np.float32]:
        """Log-probability of each edge of the trie after each prompt; float32 [prompts, E]."""
        states = prompts.ends[:, None]
        if len(trie):
            states = torch.cat([states, self._run_trie(trie, prompts)], dim=1)
        return self._edge_log_probabilities(trie, states).cpu().numpy()

    def _run_trie(self, trie: LabelTrie | TokenTree, prompts: Prompts) -> Tensor:
        """Hidden states of the trie's nodes after each prompt; [prompts, M, width]."""
        device = self._device
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(prompts.keys_values):
            cache.update(keys, values, layer)
        rows, width = len(prompts.lengths), prompts.keys_values[0][0].shape[-2]
        node = torch.arange(len(trie), device=device)
        end = torch.from_numpy(trie.end.astype(np.int64)).to(device)
        depth = prompts.lengths[:, None] + torch.from_numpy(trie.depth.astype(np.int64)).to(device)[None]
        past_depth = torch.arange(width, device=device)[None].expand(rows, width)
        in_prompt = (past_depth < prompts.lengths[:, None])[:, None].expand(rows, len(trie), width)
        in_trie = ((node[None, :] <= node[:, None]) & (node[:, None] < end[None, :]))[None]
        full = torch.cat([in_prompt, in_trie.expand(rows, -1, -1)], dim=-1)[:, None]
        distance = depth[:, :, None] - torch.cat([past_depth, depth], dim=1)[:, None, :]
        token_ids = torch.from_numpy(trie.token_ids.astype(np.int64)).to(device)[None].expand(rows, -1)
        output = body_of(self.model)(
            input_ids=token_ids,
            position_ids=depth,
            attention_mask=self.attention.limit(full, distance),
            past_key_values=cache,
            use_cache=True,
        )
        return output.last_hidden_state

    def _edge_log_probabilities(self, trie: LabelTrie, states: Tensor) -> Tensor:
        """states: [prompts, 1 + M, width], the prompt's end first. float32 [prompts, E]."""
        source = torch.from_numpy(trie.edge_source + 1).to(states.device)
        target = torch.from_numpy(trie.edge_target).to(states.device)
        rows, nodes, _ = states.shape
        result = torch.empty(rows, len(source), device=states.device)
        step = max(1, HEAD_ROWS // rows)
        for start in range(0, nodes, step):
            chosen = torch.nonzero((source >= start) & (source < start + step))[:, 0]
            logits = head_logits(self.model, states[:, start : start + step])
            normalizer = torch.logsumexp(logits, dim=-1)
            local = source[chosen] - start
            result[:, chosen] = logits[:, local, target[chosen]] - normalizer[:, local]
        return result

    def _score_plain(self, tree: TokenTree, paths: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """The same scores from one plain sequence for each prompt and label, in batches of `max_tokens`."""
        scores = np.zeros((len(paths), len(self.label_ids)), dtype=np.float32)
        for row, path in enumerate(paths):
            longest = len(path) + max(len(label) for label in self.label_ids)
            step = max(1, self.max_tokens // longest)
            for start in range(0, len(self.label_ids), step):
                labels = self.label_ids[start : start + step]
                writer = TreeWriter()
                writer.open(tree.token_ids[path])
                for item, label in enumerate(labels):
                    writer.predicted_leaf(np.zeros(0, np.int32), label, weight=1.0, part=0, item=item)
                batch = pack_tensors(writer.finish(), self._device, row_tokens=None)
                values = read_out_log_probabilities(self.model, batch, self.attention).cpu().numpy()
                np.add.at(scores[row], start + batch.tree.item, values)
        return scores

    def _score_closed_plain(self, tree: TokenTree, paths: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """The closed scores from one plain sequence for each prompt and branching node."""
        scores = np.zeros((len(paths), len(self.label_ids)), dtype=np.float32)
        for row, path in enumerate(paths):
            run = partial(self._plain_states_of, tree.token_ids[path])
            scores[row] = self._closed_scores(self._plain_states([tree.token_ids[path]]), run)[0]
        return scores

    def _plain_states_of(self, prompt: Int32, piece: ClosedPiece) -> Tensor:
        """States of a piece's branching nodes where `_run_trie` has those of all its tokens; [1, M, width]."""
        places = piece.places[piece.places >= 0]
        beginnings = [piece.tree.token_ids[piece.tree.path_to(int(place))] for place in places]
        found = self._plain_states([np.concatenate([prompt, ids]) for ids in beginnings])
        states = found.new_zeros(1, len(piece.tree), found.shape[-1])
        states[0, torch.from_numpy(places).to(found.device)] = found
        return states

    def _plain_states(self, sequences: Sequence[Int32]) -> Tensor:
        """The last hidden state at the end of each of n sequences; [n, width]."""
        writer = TreeWriter()
        for item, ids in enumerate(sequences):
            writer.read_out(
                np.array([writer.leaf(ids)]), np.zeros(1, np.int32), np.zeros(1), part=0, item=item
            )
        batch = pack_tensors(writer.finish(), self._device, row_tokens=None)
        return read_out_states(self.model, batch, self.attention)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


def label_scorer(
    model: nn.Module,
    attention: TreeAttention,
    label_ids: Sequence[Int32],
    max_tokens: int,
    normalization: Normalization = "full",
) -> LabelScorer:
    """A scorer for labels given as token ids with their terminator."""
    nodes = min(TRIE_NODES, max_tokens)
    if normalization == "full":
        return LabelScorer(model, attention, label_ids, build_tries(label_ids, nodes), max_tokens)
    closed = closed_head(model, build_closed_trie(label_ids, nodes))
    return LabelScorer(model, attention, label_ids, (), max_tokens, closed)
