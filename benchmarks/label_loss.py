"""What a tuning step costs with `loss.tokens` all and labels: CPU seconds in turn, or the peak memory of one of them.

The samples of a step are random histories below one instruction, and after each a name from columns of logs. A step is
forward and backward pass and AdamW on what is trained. Steps run in both ways in turn, several rounds; told are the
medians and the median of the rounds' ratios with their range. With one way alone, its largest resident memory.

    python -m benchmarks.label_loss --log FILE.csv.gz:COLUMN [--log ...] [--base FOLDER] [--labels 194]
        [--samples 16] [--history-tokens 100] [--rounds 5] [--dtype bfloat16] [--full-tuning] [--tokens all labels]
"""

import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers.utils.logging import disable_progress_bar

from behaviorlm.model.adapters import add_adapter
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import load_model
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.tree_model import PackTensors, TreeModel, pack_tensors
from behaviorlm.trees.token_tree import Int32, TokenTree, TreeWriter
from behaviorlm_ray.console.command_line import option_parser
from benchmarks.bench_label_scoring import EMBEDDED, encoded, names_of

WAYS = ("all", "labels")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured. Returns the exit code."""
    parser = option_parser(__doc__, None)
    parser.add_argument("--log", action="append", required=True, help="a CSV file and its column")
    parser.add_argument("--base", type=Path, default=EMBEDDED, help="folder of a model")
    parser.add_argument("--labels", type=int, help="how many names (default: all)")
    parser.add_argument("--samples", type=int, default=16, help="samples of a step")
    parser.add_argument("--history-tokens", type=int, default=100, help="tokens of each sample alone")
    parser.add_argument("--rounds", type=int, default=5, help="steps in each way")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of weights")
    parser.add_argument("--full-tuning", action="store_true", help="all weights in place of adapters")
    parser.add_argument("--tokens", nargs="+", choices=WAYS, default=list(WAYS), help="ways to compare")
    options = parser.parse_args(arguments)
    disable_progress_bar()
    config = ModelConfig(
        base=str(options.base), dtype=options.dtype, adaptation="full" if options.full_tuning else "lora"
    )
    labels = encoded(names_of(options.log), config)[: options.labels]
    model = add_adapter(load_model(config), config, seed=0)
    attention = choose_attention(model)
    tokens = np.unique(np.concatenate(labels)).astype(np.int64)
    ways = {"all": TreeModel(model, attention), "labels": TreeModel(model, attention, label_tokens=tokens)}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    vocabulary = model.config.get_text_config().vocab_size
    tree = step_of(labels, options.samples, options.history_tokens, vocabulary)
    batch = pack_tensors(tree, "cpu")
    print(
        f"{len(labels)} labels of {len(tokens)} tokens; {len(batch.tree)} tokens, {len(batch.target)} read out"
    )
    seconds: dict[str, list[float]] = {way: [] for way in options.tokens}
    for turn in range(-1, options.rounds):  # the first round warms both
        for way in options.tokens if turn % 2 else reversed(options.tokens):
            spent = step(ways[way], optimizer, batch)
            if turn >= 0:
                seconds[way].append(spent)
    for way, taken in seconds.items():
        print(f"loss.tokens: {way}: {statistics.median(taken):.3f} CPU s a step")
    if len(seconds) == 1:
        print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    else:
        ratios = [whole / few for whole, few in zip(seconds["all"], seconds["labels"], strict=True)]
        print(f"all / labels: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return 0


def step_of(labels: Sequence[Int32], samples: int, history_tokens: int, vocabulary: int) -> TokenTree:
    """Samples below one instruction of 40 tokens, each with a history of its own and a random label."""
    random = np.random.default_rng(0)
    writer = TreeWriter()
    writer.open(random.integers(1, vocabulary, 40).astype(np.int32))
    for item in range(samples):
        history = random.integers(1, vocabulary, history_tokens).astype(np.int32)
        label = labels[int(random.integers(len(labels)))]
        is_label = np.arange(len(history) + len(label)) >= len(history)
        writer.chain(np.concatenate([history, label]), is_label, weight=1 / samples, part=0, item=item)
    return writer.finish()


def step(model: TreeModel, optimizer: torch.optim.Optimizer, batch: PackTensors) -> float:
    """One optimizer step; the CPU seconds it took, all threads together: others on the machine count less."""
    start = time.process_time()
    optimizer.zero_grad()
    model(batch)[0].backward()
    optimizer.step()
    return time.process_time() - start


if __name__ == "__main__":
    sys.exit(main())
