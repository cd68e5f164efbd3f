"""Exact label scores: log P(name, terminator | prompt) for every behavior of the vocabulary.

Two passes. The prompts of a window go through the model as one tree, history shared, and leave their keys and values.
Then the label trie goes through it once for a batch of prompts, each attending to its own path. Memory is bounded by
`max_tokens` whatever the size of the vocabulary: large vocabularies are cut into several tries.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache

from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.tree_model import (
    HEAD_ROWS,
    body_of,
    head_logits,
    pack_tensors,
    read_out_log_probabilities,
)
from behaviorlm.scoring.kept_prefixes import KeptPrefix, KeysValues, Known, known_of
from behaviorlm.scoring.prompt_runs import PromptRun, Prompts
from behaviorlm.trees.label_trie import LabelTrie, build_tries
from behaviorlm.trees.token_tree import Int32, TokenTree, TreeWriter

TRIE_NODES = 128
"""Nodes of a trie that go through the model together: a node attends to few of the others, so the masked
part of attention grows with this number, while the beginnings that several tries repeat shrink with it. On two busy
cores 128 gave 1.4 to 1.6 times the samples per second of one trie of 1,111."""

PROMPT_TOKENS = 1024
"""Tokens of prompts that go through the model as one tree: dense masks grow with the square."""

PromptWriter = Callable[[TreeWriter], list[int]]
"""Writes prompts into a tree and returns the index of each one's last token."""


@dataclass(frozen=True)
class LabelScorer:
    """Scores a closed vocabulary with one model.

    model: a causal LM, peft-wrapped or not, in eval mode. max_tokens: tokens of a batch (prompts x nodes of a trie).
    """

    model: nn.Module
    attention: TreeAttention
    label_ids: Sequence[Int32]
    tries: Sequence[LabelTrie]
    max_tokens: int

    def score(self, write_prompts: PromptWriter) -> NDArray[np.float32]:
        """Label scores of the prompts that `write_prompts` hangs into one tree; float32 [prompts, K]."""
        return self.score_counted(write_prompts)[0]

    def score_counted(self, write_prompts: PromptWriter) -> tuple[NDArray[np.float32], int]:
        """The same scores, and how many tokens went through the model for them: prompts, and tries for each prompt."""
        run = self.run(write_prompts)
        if self.attention.kind == "plain":
            labels = sum(len(label) for label in self.label_ids)
            return self.scores(run), sum(len(path) * len(self.label_ids) + labels for path in run.paths)
        return self.scores(run), run.computed + len(run.paths) * sum(len(trie) for trie in self.tries)

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
            return self._score_plain(run.tree, run.paths)
        scores = np.zeros((len(run.paths), len(self.label_ids)), dtype=np.float32)
        rows = max(1, self.max_tokens // max(1, *(len(trie) for trie in self.tries)))
        for start in range(0, len(run.paths), rows):
            prompts = run.gathered(slice(start, start + rows))
            for trie in self.tries:
                edges = self._score_trie(trie, prompts)
                scores[start : start + rows, trie.labels] = trie.label_scores(edges)
        return scores

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

    def _score_trie(self, trie: LabelTrie, prompts: Prompts) -> NDArray[np.float32]:
        """Log-probability of each edge of the trie after each prompt; float32 [prompts, E]."""
        states = prompts.ends[:, None]
        if len(trie):
            states = torch.cat([states, self._run_trie(trie, prompts)], dim=1)
        return self._edge_log_probabilities(trie, states).cpu().numpy()

    def _run_trie(self, trie: LabelTrie, prompts: Prompts) -> Tensor:
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

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


def label_scorer(
    model: nn.Module, attention: TreeAttention, label_ids: Sequence[Int32], max_tokens: int
) -> LabelScorer:
    """A scorer for labels given as token ids with their terminator."""
    return LabelScorer(
        model, attention, label_ids, build_tries(label_ids, min(TRIE_NODES, max_tokens)), max_tokens
    )
