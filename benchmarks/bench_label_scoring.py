"""What label scores cost with full normalization and over the trie: counted work, and seconds side by side.

Names come from columns of logs, the most frequent first. Counts: nodes of the trie of names that go through the model
after each prompt, and rows of the LM head that are multiplied. Seconds: the same prompts in both ways in turn, several
rounds, as the median of the rounds' ratios with their range.

    python -m benchmarks.bench_label_scoring --log FILE.csv.gz:COLUMN [--log ...] [--base FOLDER] [--labels 40 118 194]
        [--prompt-tokens 256] [--prompts 32] [--rounds 5] [--shared 0.8] [--count]
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import torch
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

import behaviorlm
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import load_model, load_tokenizer, max_positions
from behaviorlm.model.config import ModelConfig
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.scoring.config import Normalization
from behaviorlm.scoring.label_scoring import LabelScorer, PromptWriter, Work, label_scorer
from behaviorlm.trees.token_tree import Int32, TreeWriter

NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
EMBEDDED = Path(behaviorlm.__file__).parent / "assets" / "base"


@dataclass(frozen=True)
class Compared:
    """One number of labels. work: of all prompts. seconds: of each round, by normalization."""

    labels: int
    all_nodes: int
    prompts: int
    work: dict[Normalization, Work]
    seconds: dict[Normalization, list[float]]

    def row(self) -> str:
        """A row of the table."""
        cells = [str(self.labels), str(self.all_nodes)]
        for name in NORMALIZATIONS:
            work = self.work[name]
            cells += [f"{work.nodes / self.prompts:.0f}", f"{work.head_rows / self.prompts:,.0f}"]
        if self.seconds:
            ratios = [
                full / trie for full, trie in zip(self.seconds["full"], self.seconds["trie"], strict=True)
            ]
            cells += [
                f"{1000 * statistics.median(self.seconds[name]) / self.prompts:.2f}"
                for name in NORMALIZATIONS
            ]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        return " | ".join(cells)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--log", action="append", required=True, help="a CSV file and its column, FILE:COLUMN"
    )
    parser.add_argument(
        "--base", type=Path, default=EMBEDDED, help="folder of a model (default: the embedded one)"
    )
    parser.add_argument("--labels", type=int, nargs="*", default=[], help="how many names (default: all)")
    parser.add_argument("--prompt-tokens", type=int, default=256, help="tokens of a prompt")
    parser.add_argument("--prompts", type=int, default=32, help="prompts of a round")
    parser.add_argument("--shared", type=float, default=0.8, help="share of a prompt that all have in common")
    parser.add_argument("--rounds", type=int, default=5, help="how often each way runs")
    parser.add_argument(
        "--max-tokens", type=int, default=8192, help="tokens that go through the model at a time"
    )
    parser.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of the weights"
    )
    parser.add_argument("--count", action="store_true", help="only count")
    options = parser.parse_args(arguments)
    if not 0 <= options.shared < 1 or min(options.prompt_tokens, options.prompts, options.rounds) < 1:
        parser.error("--shared lies from 0 to below 1, the other numbers from 1")
    disable_progress_bar()
    config = ModelConfig(base=str(options.base), dtype=options.dtype)
    labels = encoded(names_of(options.log), config)
    head = ["labels", "nodes"]
    head += [f"{name}: {what}" for name in NORMALIZATIONS for what in ("nodes", "head rows")]
    if not options.count:
        head += [*(f"{name}: ms a prompt" for name in NORMALIZATIONS), "full / trie"]
    print(" | ".join(head), flush=True)
    model = load_model(config).requires_grad_(False)
    for number in options.labels or [len(labels)]:
        if number > len(labels):
            print(f"{number}: the logs have {len(labels)} names")
            continue
        print(compared(model, labels[:number], options).row(), flush=True)
    return 0


def names_of(logs: Sequence[str]) -> list[str]:
    """The names of all logs, those of the first before those of the next, the most frequent of each first."""
    found = dict[str, None]()
    for log in logs:
        path, _, column = log.rpartition(":")
        with pa.input_stream(path, compression="detect") as file:
            options = pacsv.ConvertOptions(include_columns=[column], column_types={column: pa.string()})
            counted = Counter(pacsv.read_csv(file, convert_options=options)[column].to_pylist())
        found |= dict.fromkeys(name for name, _ in counted.most_common() if name)
    return list(found)


def encoded(names: Sequence[str], config: ModelConfig) -> list[Int32]:
    """The tokens of each name with its terminator; of names with equal tokens the first."""
    encoder = PromptEncoder(load_tokenizer(config), PromptConfig())
    prompt = encoder.prompt_tokens(names, max_positions(config), 0)
    labels = [np.concatenate([ids, prompt.terminator_ids]).astype(np.int32) for ids in prompt.label_ids]
    return list({label.tobytes(): label for label in labels}.values())


@torch.inference_mode()
def compared(model: PreTrainedModel, labels: list[Int32], options: argparse.Namespace) -> Compared:
    """Score the same random prompts in both ways, in turn."""
    vocabulary = model.config.get_text_config().vocab_size
    attention = choose_attention(model)
    scorers = {
        name: label_scorer(model, attention, labels, options.max_tokens, name) for name in NORMALIZATIONS
    }
    random = np.random.default_rng(0)
    shared = int(options.shared * options.prompt_tokens)
    beginning = random.integers(1, vocabulary, shared).astype(np.int32)
    rest = random.integers(1, vocabulary, (options.prompts, options.prompt_tokens - shared)).astype(np.int32)

    def write(writer: TreeWriter) -> list[int]:
        writer.open(beginning)
        return [writer.leaf(ids) for ids in rest]

    work = {name: scorer.score_counted(write)[1] for name, scorer in scorers.items()}  # warms both, too
    seconds: dict[Normalization, list[float]] = {}
    for turn in range(0 if options.count else options.rounds):
        for name in NORMALIZATIONS if turn % 2 else reversed(NORMALIZATIONS):
            seconds.setdefault(name, []).append(_seconds(scorers[name], write))
    all_nodes = len({label[:length].tobytes() for label in labels for length in range(1, len(label))})
    return Compared(len(labels), all_nodes, options.prompts, work, seconds)


def _seconds(scorer: LabelScorer, write: PromptWriter) -> float:
    start = time.perf_counter()
    scorer.score(write)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
