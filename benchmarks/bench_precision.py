"""bfloat16 against float32 weights: CPU seconds side by side, and how far losses and label scores lie apart.

Samples come from a column of a log in its order, without one from a log of the synthetic world: the history of a sample
is the ten names before it. Tuning runs the engine of the product with one worker, a step in each dtype in turn; then
prompts are scored by both untuned bases in turn, and by what was tuned in bfloat16 as it is and with its base held in
float32, as hardware without bfloat16 would.

    python -m benchmarks.bench_precision [--log FILE.csv.gz:COLUMN] [--base FOLDER] [--full] [--steps 6] [--samples 16]
        [--prompts 64] [--rounds 5] [--threads 1] [--normalization trie] [--rate 1e-4]
        [--write [FILE]]
    python -m benchmarks.bench_precision --widths [--rounds 7] [--write [FILE]]

The second command asks from which width on bfloat16 pays: two layers of a Llama, forward and with the backward pass.
ONEDNN_MAX_CPU_ISA=AVX512_CORE or AVX2 before it shows a CPU without units for bfloat16.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaModel
from transformers.utils.logging import disable_progress_bar

from behaviorlm.model.adapters import add_adapter, load_trained, save_trained
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import load_model
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.precision import bfloat16_units
from behaviorlm.model.tree_model import TreeModel
from behaviorlm.scoring.config import Normalization
from behaviorlm.scoring.label_scoring import LabelScorer, PromptWriter, label_scorer
from behaviorlm.trees.token_tree import Int32, TokenTree, TreeWriter
from behaviorlm_ray.console.command_line import option_parser
from behaviorlm_ray.export.exporting import apart
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.engine import TuningEngine, prepare_process, start_engine
from behaviorlm_ray.tuning.optimizer_step import run_step
from benchmarks.bench_label_scoring import EMBEDDED, WORLD, column_of, encoded, names_of
from benchmarks.records import Record, add_write, record, write
from benchmarks.records import told as ratio_told

Dtype = Literal["float32", "bfloat16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
HISTORY = 10
"""Names before a sample."""
WIDTHS = (64, 128, 256, 512, 640)
ALONE = 8
"""Prompts that are also scored one by one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured. Returns the exit code."""
    parser = option_parser(__doc__, None)
    parser.add_argument("--log", default=WORLD, help="a CSV file and its column (default: the world's log)")
    parser.add_argument("--widths", action="store_true", help="layers of several widths in place of a model")
    parser.add_argument("--base", type=Path, default=EMBEDDED, help="folder of a model")
    parser.add_argument("--full", action="store_true", help="tune all weights in place of an adapter")
    parser.add_argument("--steps", type=int, default=6, help="steps of tuning in each dtype")
    parser.add_argument("--samples", type=int, default=16, help="samples of a step")
    parser.add_argument("--prompts", type=int, default=64, help="prompts that are scored")
    parser.add_argument("--rounds", type=int, default=5, help="how often they are")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--normalization", choices=get_args(Normalization), default="trie", help="of scores")
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate")
    add_write(parser)
    options = parser.parse_args(arguments)
    if options.steps < 2:
        parser.error("--steps: two or more; the first warms up and is not measured")
    disable_progress_bar()
    torch.set_num_threads(options.threads)
    print(bfloat16_units(use_gpu=False) or "this CPU has no units for bfloat16", flush=True)
    if options.widths:
        found = [each for width in WIDTHS for each in compare_layers(width, options.rounds)]
        return _kept(found, options.write)
    configs = {
        dtype: ModelConfig(base=str(options.base), dtype=dtype, adaptation="full" if options.full else "lora")
        for dtype in DTYPES
    }
    names = names_of([options.log])
    labels = encoded(names, configs["float32"])
    if len(labels) < len(names):
        parser.error("--log: two names become the same tokens")
    needed = options.steps * options.samples + options.prompts + 2 * HISTORY
    rows = label_rows(options.log, names, needed)
    with single_process(), tempfile.TemporaryDirectory() as folder:
        tuned, of_step = tune_in_turn(configs, labels, rows[: -options.prompts - HISTORY], options)
        save_trained(tuned, Path(folder))  # type: ignore[arg-type]  # the engine's module is what went in
        of_scores = score_in_turn(configs, labels, rows[-options.prompts - HISTORY :], options, Path(folder))
    return _kept([of_step, of_scores], options.write)


def _kept(found: list[Record], path: Path | None) -> int:
    return 0 if path is None else int(not write(path, found))


def compare_layers(width: int, rounds: int) -> list[Record]:
    """Run 384 tokens through two layers of this width in each dtype in turn, and tell CPU seconds."""
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=2,
        num_attention_heads=max(1, width // 64),
        num_key_value_heads=max(1, width // 64),
    )
    layers = {dtype: LlamaModel(config).to(getattr(torch, dtype)) for dtype in DTYPES}
    ids = torch.zeros(1, 384, dtype=torch.int64)
    seconds: dict[bool, dict[Dtype, list[float]]] = {
        trained: {dtype: [] for dtype in DTYPES} for trained in (False, True)
    }
    for turn in range(-1, rounds):
        for trained, of_pass in seconds.items():
            for dtype in DTYPES if turn % 2 else reversed(DTYPES):
                begun = time.process_time()
                with torch.set_grad_enabled(trained):
                    hidden = layers[dtype](input_ids=ids, use_cache=False).last_hidden_state
                if trained:
                    hidden.sum().backward()
                if turn >= 0:
                    of_pass[dtype].append(time.process_time() - begun)
    return [
        told(f"width {width}, {'forward and backward' if trained else 'forward'}", of_pass)
        for trained, of_pass in seconds.items()
    ]


def label_rows(log: str, names: Sequence[str], needed: int) -> list[int]:
    """The places among the names of the log's first rows."""
    place = {name: number for number, name in enumerate(names)}
    return [place[name] for name in column_of(log)[:needed]]


@contextmanager
def single_process() -> Iterator[None]:
    """torch.distributed with this process alone."""
    with tempfile.TemporaryDirectory() as folder:
        prepare_process(TuningExecution(cpus_per_worker=torch.get_num_threads()))
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        try:
            yield
        finally:
            dist.destroy_process_group()


def pack_of(labels: Sequence[Int32], rows: Sequence[int], first: int, samples: int) -> TokenTree:
    """Samples first, first + 1, … of a log's rows in one tree, each with its own history."""
    writer = TreeWriter()
    writer.open(labels[0][-1:])
    for item in range(samples):
        place = HISTORY + first + item
        written = np.concatenate([labels[row] for row in rows[place - HISTORY : place + 1]])
        is_label = np.arange(len(written)) >= len(written) - len(labels[rows[place]])
        writer.chain(written, is_label, weight=1 / samples, part=0, item=item)
    return writer.finish()


def start(config: ModelConfig, rate: float) -> TuningEngine:
    """An engine of the product on a fresh model."""
    model = add_adapter(load_model(config), config, seed=0)
    tree_model = TreeModel(model, choose_attention(model))
    tuning = TuningConfig(learning_rate=rate, warmup_share=0.0, schedule="constant")
    return start_engine(tree_model, tuning, TuningExecution(workers=1, zero_stage=1))


def tune_in_turn(
    configs: dict[Dtype, ModelConfig],
    labels: Sequence[Int32],
    rows: Sequence[int],
    options: argparse.Namespace,
) -> tuple[torch.nn.Module, Record]:
    """Run the same steps in each dtype and tell losses and CPU seconds. Returns what was tuned in bfloat16, too."""
    engines = {dtype: start(config, options.rate) for dtype, config in configs.items()}
    losses: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
    seconds: dict[Dtype, list[float]] = {dtype: [] for dtype in DTYPES}
    for step in range(options.steps):
        pack = pack_of(labels, rows, step * options.samples, options.samples)
        for dtype in DTYPES if step % 2 else reversed(DTYPES):
            begun = time.process_time()
            losses[dtype].append(run_step(engines[dtype], [pack], step, options.steps).loss)
            seconds[dtype].append(time.process_time() - begun)
        print(
            f"step {step + 1}: {len(pack)} tokens, loss "
            + ", ".join(f"{d} {losses[d][-1]:.4f}" for d in DTYPES)
        )
    apart = [abs(b / a - 1) for a, b in zip(losses["float32"], losses["bfloat16"], strict=True)]
    print(f"losses differ by {max(apart):.2%} at most, {statistics.mean(apart):.2%} on average")
    tuned = "all weights" if options.full else "adapter"
    what = f"tuning step of {options.samples} samples, {tuned} of {options.base.name}"
    found = told(what, {dtype: taken[1:] for dtype, taken in seconds.items()})  # the first warms both
    return engines["bfloat16"].tree_model.model, found


def score_in_turn(
    configs: dict[Dtype, ModelConfig],
    labels: Sequence[Int32],
    rows: Sequence[int],
    options: argparse.Namespace,
    tuned: Path,
) -> Record:
    """Score the same prompts in each dtype and tell differences and CPU seconds."""
    bases = {
        dtype: _scorer(load_model(config), labels, options.normalization) for dtype, config in configs.items()
    }

    def put(writer: TreeWriter) -> list[int]:
        writer.open(labels[0][-1:])
        histories = [rows[place - HISTORY : place] for place in range(HISTORY, len(rows))]
        return [writer.leaf(np.concatenate([labels[row] for row in history])) for history in histories]

    def write_one(place: int) -> PromptWriter:
        def put(writer: TreeWriter) -> list[int]:
            writer.open(labels[0][-1:])
            return [writer.leaf(np.concatenate([labels[row] for row in rows[place : place + HISTORY]]))]

        return put

    seconds: dict[Dtype, list[float]] = {dtype: [] for dtype in DTYPES}
    scores: dict[str, NDArray[np.float32]] = {}
    for turn in range(-1, options.rounds):
        for dtype in DTYPES if turn % 2 else reversed(DTYPES):
            begun = time.process_time()
            scores[dtype] = bases[dtype].score(put)
            if turn >= 0:
                seconds[dtype].append(time.process_time() - begun)
    what = f"scoring {options.prompts} prompts, {len(labels)} labels, {options.normalization}, {options.base.name}"
    found = told(what, seconds)
    targets = np.array(rows[HISTORY:])
    told_apart("untuned, bfloat16 against float32", scores["float32"], scores["bfloat16"], targets)
    scored = {
        dtype: _scorer(load_trained(config, tuned), labels, options.normalization).score(put)
        for dtype, config in configs.items()
    }
    what = "tuned in bfloat16, base held in bfloat16 and in float32"
    told_apart(what, scored["float32"], scored["bfloat16"], targets)
    alone = np.concatenate([bases["bfloat16"].score(write_one(place)) for place in range(ALONE)])
    told_apart(
        "untuned in bfloat16, prompts together and alone", scores["bfloat16"][:ALONE], alone, targets[:ALONE]
    )
    return found


def _scorer(model: Any, labels: Sequence[Int32], normalization: Normalization) -> LabelScorer:
    model = model.eval().requires_grad_(False)
    return label_scorer(model, choose_attention(model), list(labels), 8192, normalization)


def told_apart(
    what: str, one: NDArray[np.float32], other: NDArray[np.float32], targets: NDArray[np.int64]
) -> None:
    """Print how far label scores lie apart."""
    plain = np.abs(one - other)
    likely = plain[one > one.max(1, keepdims=True) + np.log(0.01)]
    checked = apart(other, one, "bfloat16")
    places = np.arange(len(targets)), targets
    agree = np.mean(one.argmax(1) == other.argmax(1))
    print(
        f"{what}: label scores differ by {plain.mean():.3f} nats on average, {plain.max():.3f} at most, "
        f"{likely.mean():.3f} where they are likely; as an export checks them by {checked.mean():.3f} and "
        f"{checked.max():.3f}; mean NLL of the targets {-one[places].mean():.3f} and {-other[places].mean():.3f}; "
        f"{agree:.0%} of the first answers agree",
        flush=True,
    )


def told(what: str, seconds: dict[Dtype, list[float]]) -> Record:
    """Print medians and the ratio of the rounds, bfloat16 as ours. Returns the record."""
    found = record(
        f"bfloat16 against float32, {what}",
        {dtype: seconds[dtype] for dtype in reversed(DTYPES)},
        equal=None,
        drift=None,
    )
    medians = ", ".join(f"{dtype} {statistics.median(taken):.3f} s" for dtype, taken in seconds.items())
    print(f"{what}: {medians}; float32 / bfloat16 {ratio_told(found['ratio'])}", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
