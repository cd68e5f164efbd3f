"""Label scores on one device: prompts a second, with full normalization and over the trie."""

import time
from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np

from behaviorlm.model.adapters import AdaptedModel
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.lm_head import causal_lm
from behaviorlm.scoring.config import Normalization
from behaviorlm.scoring.label_scoring import Work, label_scorer
from behaviorlm.timelines.parts import write_prompts
from behaviorlm.trees.token_tree import TreeWriter
from benchmarks.gpu_clock import Row, forget_peak, peak_gib, rounds, spread
from benchmarks.gpu_shapes import DrawnLog
from benchmarks.gpu_tuning import per_token_numel

Windows = list[np.ndarray]
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)


def measured_scoring(
    model: AdaptedModel,
    log: DrawnLog,
    normalization: Normalization,
    sizes: tuple[int, int, int],
    peaks: tuple[float | None, float],
    seconds: float = 4.0,
) -> Row:
    """Speed of scoring, several trees at a time as a replica does. sizes: tokens at a time, of prompts in a tree, and
    prompts in all.
    """
    device = next(model.parameters()).device
    max_tokens, tree_tokens, prompts = sizes
    scorer = label_scorer(model, choose_attention(model), log.label_ids, max_tokens, normalization)
    groups = prompt_groups(log, tree_tokens, prompts)
    together = max(1, scorer.max_tokens // tree_tokens)
    counted = sum(len(rows) for group in groups for rows in group)
    forget_peak(device)
    work = Work()

    def run() -> None:
        nonlocal work
        tokens = nodes = head_rows = 0
        for start in range(0, len(groups), together):
            scores, done = scorer.score_counted(prompt_writer(log, groups[start : start + together]))
            tokens, nodes = tokens + done.tokens, nodes + done.nodes
            head_rows += done.head_rows
            if not np.isfinite(scores).all():
                raise FloatingPointError("scores are not finite")
        work = Work(tokens, nodes, head_rows)

    started = time.perf_counter()
    run()
    first = time.perf_counter() - started
    taken = rounds(device, run, seconds, at_least=2)
    median = float(np.median(taken))
    width = causal_lm(model).config.hidden_size
    operations = 2 * (per_token_numel(model) * work.tokens + width * work.head_rows)
    return {
        "prompts_per_s": counted / median,
        "prompts": counted,
        "tokens_per_prompt": work.tokens / counted,
        "head_rows_per_prompt": work.head_rows / counted,
        "mfu": None if peaks[0] is None else operations / median / 1e12 / peaks[0],
        "of_ceiling": operations / median / 1e12 / peaks[1],
        "peak_gib": peak_gib(device),
        "first_s": first,
        **spread(taken),
    }


def prompt_groups(log: DrawnLog, tree_tokens: int, prompts: int) -> list[Windows]:
    """Neighboring windows that go through the model as one tree of about so many tokens, as a replica has them."""
    part = log.part
    groups: list[Windows] = []
    tokens = found = 0
    for rows in part.windows(part.targets("train")):
        lines = part.lines.offsets[rows[-1]] - part.lines.offsets[part.window_start[rows[0]]]
        size = int(lines) + int(part.questions.lengths_of(rows).sum())
        if not groups or tokens + size > tree_tokens:
            groups.append([])
            tokens = 0
        groups[-1].append(rows)
        tokens += size
        found += len(rows)
        if found >= prompts:
            break
    return groups


def prompt_writer(log: DrawnLog, groups: Sequence[Windows]) -> Callable[[TreeWriter], list[int]]:
    """Writes the prompts of some windows, a tree for each group below its instruction."""

    def write(writer: TreeWriter) -> list[int]:
        last: list[int] = []
        for group in groups:
            writer.open(log.prompt.instruction_ids)
            last += [index for rows in group for index in write_prompts(writer, log.part, rows)]
            writer.close()
        return last

    return write
