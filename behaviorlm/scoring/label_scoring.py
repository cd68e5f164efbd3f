"""Exact label scores: log P(name, terminator | prompt) for every behavior of the vocabulary.

Two passes. The prompts of a window go through the model as one tree, history shared, and leave their keys and values.
Then the label trie goes through it once for a batch of prompts, each attending to its own path. Memory is bounded by
`max_tokens` whatever the size of the vocabulary: large vocabularies are cut into several tries.

With normalization "trie" P is that of a model that can only say names of the vocabulary: at each token a softmax over
what may follow. Then only where names part the model is asked (`ClosedTrie`), and the scores of a prompt are log
probabilities that sum to 1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.lm_head import causal_lm
from behaviorlm.model.tree_model import body_of, hidden_states, pack_tensors
from behaviorlm.scoring.closed_head import ClosedHead, closed_head
from behaviorlm.scoring.config import Normalization
from behaviorlm.scoring.kept_keys import choosing, collected, collecting
from behaviorlm.scoring.kept_prefixes import KeptPrefix, KeysValues, Known, known_of
from behaviorlm.scoring.plain_scores import plain_label_scores, plain_piece_states
from behaviorlm.scoring.prompt_runs import PromptRun, Prompts
from behaviorlm.scoring.whole_head import edge_log_probabilities
from behaviorlm.trees.closed_trie import build_closed_trie
from behaviorlm.trees.label_trie import LabelTrie, build_tries
from behaviorlm.trees.token_tree import Int32, TokenTree, TreeWriter

TRIE_NODES = 128
"""Nodes of a trie that go through the model together: a node attends to few of the others, so the masked
part of attention grows with this number, while the beginnings that several tries repeat shrink with it. On two busy
cores 128 gave 1.4 to 1.6 times the samples per second of one trie of 1,111."""

PROMPT_TOKENS = 1024
"""Tokens of prompts in one tree: dense masks grow with the square. Several trees go through the model as rows."""

CPU_TOKENS = 2048
"""More tokens at a time leave a CPU's cache: with the embedded base 8,192 took 1.16 times the CPU time of this."""

FEWEST_NODES = 64
"""Closed tries of fewer nodes do not get more prompts at a time: each brings keys and values of its own."""

PADDED = 1.25
"""How many times their tokens trees that run together may be with what pads them to the longest."""

PromptWriter = Callable[[TreeWriter], list[int]]
"""Writes prompts into a tree and returns the index of each one's last token."""


def prompt_trees(sizes: Sequence[int]) -> list[list[int]]:
    """Which neighbors of windows of so many tokens go through the model as one tree."""
    groups: list[list[int]] = []
    tokens = 0
    for index, size in enumerate(sizes):
        if not groups or tokens + size > PROMPT_TOKENS:
            groups.append([])
            tokens = 0
        groups[-1].append(index)
        tokens += size
    return groups


def alike(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Which neighbors of so many tokens run together, at most so many of them, without much to pad."""
    groups: list[list[int]] = []
    for index, size in enumerate(sizes):
        of_last = [sizes[place] for place in groups[-1]] + [size] if groups else []
        if 0 < len(of_last) <= most and len(of_last) * max(of_last) <= PADDED * sum(of_last):
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


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
        if known is None:
            return PromptRun(tree, paths, len(tree), np.arange(len(tree)), *self._run_tree(tree))
        new = np.setdiff1d(np.arange(len(tree)), known.nodes)
        order = np.concatenate([known.nodes, new])
        hidden, keys_values = self._run_nodes(tree, order, known)
        return PromptRun(tree, paths, len(new), np.argsort(order), hidden, keys_values)

    @torch.inference_mode()
    def scores(self, run: PromptRun) -> NDArray[np.float32]:
        """Label scores of prompts that were run; float32 [prompts, K]."""
        scores = np.zeros((len(run.paths), len(self.label_ids)), dtype=np.float32)
        if self.attention.kind == "plain":
            for row, path in enumerate(run.paths):
                scores[row] = self._plain_scores(run.tree.token_ids[path])
            return scores
        rows = self._rows_at_a_time
        slices = [slice(start, start + rows) for start in range(0, len(run.paths), rows)]
        # all of it is given to the device before the first result is waited for
        for taken, found in [(taken, self._choices_after(run.chosen(taken))) for taken in slices]:
            scores[taken] = self._summed(found)
        return scores

    @property
    def _rows_at_a_time(self) -> int:
        fewest = 1 if self.closed is None else FEWEST_NODES
        return max(1, self.max_tokens // max([fewest, *map(len, self._trees)]))

    @property
    def _trees(self) -> list[TokenTree]:
        """What goes through the model after each prompt."""
        return [one.tree for one in (self.tries if self.closed is None else self.closed.trie.pieces)]

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

    def _run_tree(self, tree: TokenTree) -> tuple[Tensor, KeysValues]:
        """Hidden states, keys and values of all nodes of a tree."""
        batch = pack_tensors(tree, self._device)
        cache = collecting([])
        hidden = hidden_states(self.model, batch, self.attention, cache)
        place = None if batch.rows is None or self.attention.takes_rows else batch.rows.place
        return hidden, [
            (_node_by_node(keys, place), _node_by_node(values, place)) for keys, values in collected(cache)
        ]

    def _run_nodes(
        self, tree: TokenTree, order: NDArray[np.int64], known: Known
    ) -> tuple[Tensor, KeysValues]:
        """Hidden states of the nodes that come, in an order, after those known; keys and values of all of them.

        A node attends to its ancestors, which the tree's own numbers tell wherever they stand.
        """
        first = len(known.nodes)
        cache = collecting(known.keys_values)
        index, token_ids, depth, end = (
            torch.from_numpy(array[None].astype(np.int64)).to(self._device, non_blocking=True)
            for array in (order, tree.token_ids[order], tree.depth[order], tree.end[order])
        )
        asks = index[:, first:, None]
        full = (index[:, None, :] <= asks) & (asks < end[:, None, :])
        output = body_of(self.model)(
            input_ids=token_ids[:, first:],
            position_ids=depth[:, first:],
            attention_mask=self.attention.limit(full[:, None], depth[:, first:], depth),
            past_key_values=cache,
            use_cache=True,
        )
        return output.last_hidden_state[0], collected(cache)

    def _choices_after(self, prompts: Prompts) -> list[Tensor]:
        """Log-probabilities on the device, [prompts, E]: of each trie's edges, or of all choices of the closed one."""
        states = self._states(prompts)
        if self.closed is not None:
            return [self._closed_choices(states)]
        tries = zip(self.tries, states, strict=True)
        return [
            edge_log_probabilities(self.model, of_trie, trie.edge_source + 1, trie.edge_target)
            for trie, of_trie in tries
        ]

    def _closed_choices(self, states: Iterator[Tensor]) -> Tensor:
        """states: for each piece those of the prompt's end and of its tokens, [prompts, 1 + M, width]."""
        assert self.closed is not None
        trie = self.closed.trie
        choices = torch.zeros(1, 0)  # of an only label
        for number, of_piece in enumerate(states):
            if not number:
                shape = len(of_piece), len(trie.child_token)
                choices = torch.empty(shape, device=of_piece.device, dtype=torch.float64)
            self.closed.add_log_probabilities(self.model, number, of_piece, choices)
        return choices

    def _summed(self, choices: list[Tensor]) -> NDArray[np.float64]:
        """Label scores of prompts from what `_choices_after` gives; float64 [prompts, K]."""
        if self.closed is not None:
            return self.closed.trie.label_scores(choices[0].cpu().numpy())
        scores = np.zeros((len(choices[0]), len(self.label_ids)))
        for trie, edges in zip(self.tries, choices, strict=True):
            scores[:, trie.labels] = trie.label_scores(edges.cpu().numpy())
        return scores

    def _states(self, prompts: Prompts) -> Iterator[Tensor]:
        """For each tree in turn the states of a prompt's end and of its tokens after it, [prompts, 1 + M, width].

        Where prompts are few, several trees of about one size go through the model together.
        """
        trees, ends = self._trees, prompts.ends[:, None]
        for places in alike([*map(len, trees)], max(1, self._rows_at_a_time // len(ends))):
            group = [trees[place] for place in places]
            states = self._run_trees(group, prompts) if any(map(len, group)) else None
            for number, tree in enumerate(group):
                yield ends if states is None else torch.cat([ends, states[number, :, : len(tree)]], dim=1)

    def _run_trees(self, trees: Sequence[TokenTree], prompts: Prompts) -> Tensor:
        """Hidden states of the nodes of trees after each prompt; [trees, prompts, longest, width]."""
        device = self._device
        rows, width = len(trees) * len(prompts.lengths), prompts.places.shape[-1]
        longest = max(map(len, trees))
        arrays = np.zeros((3, len(trees), longest), np.int64)
        arrays[2] = np.arange(1, longest + 1)  # padding attends to the prompt and itself
        for number, tree in enumerate(trees):
            arrays[:, number, : len(tree)] = tree.token_ids, tree.depth, tree.end
        of_trees = torch.from_numpy(arrays).to(device, non_blocking=True)
        token_ids, depth, end = of_trees.repeat_interleave(len(prompts.lengths), 1)
        lengths = prompts.lengths.repeat(len(trees))
        node = torch.arange(longest, device=device)
        depth = lengths[:, None] + depth
        past_depth = torch.arange(width, device=device)[None].expand(rows, width)
        in_prompt = (past_depth < lengths[:, None])[:, None].expand(rows, longest, width)
        in_tree = (node[None, None, :] <= node[None, :, None]) & (node[None, :, None] < end[:, None, :])
        full = torch.cat([in_prompt, in_tree], dim=-1)[:, None]
        output = body_of(self.model)(
            input_ids=token_ids,
            position_ids=depth,
            attention_mask=self.attention.limit(full, depth, torch.cat([past_depth, depth], dim=1)),
            past_key_values=choosing(prompts.keys_values, prompts.places.repeat(len(trees), 1)),
            use_cache=True,
        )
        found: Tensor = output.last_hidden_state
        return found.unflatten(0, (len(trees), -1))

    def _plain_scores(self, prompt: Int32) -> NDArray[np.float64]:
        """Label scores after one prompt of a model that takes no trees; float64 [K]."""
        if self.closed is None:
            return plain_label_scores(self.model, prompt, self.label_ids, self.max_tokens)
        choices = self._closed_choices(plain_piece_states(self.model, prompt, self.closed.trie))
        of_prompt: NDArray[np.float64] = self._summed([choices])[0]
        return of_prompt

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


def label_scorer(
    model: nn.Module,
    attention: TreeAttention,
    label_ids: Sequence[Int32],
    max_tokens: int,
    normalization: Normalization = "full",
    temperature: float = 1.0,
) -> LabelScorer:
    """A scorer for labels given as token ids with their terminator. temperature: of the softmax over the trie."""
    if next(model.parameters()).device.type == "cpu":
        max_tokens = min(max_tokens, CPU_TOKENS)
    nodes = min(TRIE_NODES, max_tokens)
    if normalization == "full":
        return LabelScorer(model, attention, label_ids, build_tries(label_ids, nodes), max_tokens)
    closed = closed_head(model, build_closed_trie(label_ids, nodes), temperature)
    return LabelScorer(model, attention, label_ids, (), max_tokens, closed)


def _node_by_node(values: Tensor, place: Tensor | None) -> Tensor:
    """[rows, heads, W, width of a head] to [1, heads, L, width of a head]; place: of each node among the rows."""
    return values if place is None else values.transpose(0, 1).flatten(1, 2)[None, :, place]
