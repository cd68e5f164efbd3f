"""What label scores cost: counted work, and CPU seconds beside those of other ways to score, in one process.

Names come from columns of logs, the most frequent first; without one from a log of the synthetic world. Counts: nodes
of the trie of names that go through the model after each prompt, and rows of the LM head that are multiplied. Seconds
are the process's CPU time on one thread, for a prompt (records have wall seconds, too); all ways run in turn, several
rounds, and of a ratio the median of the rounds is told with their range. Other ways (`label_scoring_peers`) have
to give the scores of full normalization first. They run on few prompts, and lm-eval on few labels where asked,
multiplied, since each label is a sequence of its own there. `--before FOLDER` runs the code of another checkout of this
repository beside them, in a process of its own.

    python -m benchmarks.bench_label_scoring [--log FILE.csv.gz:COLUMN ...] [--base FOLDER | 17M] [--labels 40 118 194]
        [--prompt-tokens 256] [--peers lm-eval kv-per-prompt kv-shared] [--before FOLDER] [--write [FILE]] [--count]
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

import behaviorlm
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import load_model, load_tokenizer, max_positions
from behaviorlm.model.config import ModelConfig
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.scoring.config import Normalization
from behaviorlm.scoring.label_scoring import Work, label_scorer
from behaviorlm.trees.token_tree import Int32, TreeWriter
from behaviorlm_lab.world.generator import simulate_user
from behaviorlm_lab.world.process import default_world
from benchmarks import label_scoring_peers as peers
from benchmarks.label_scoring_floor import needed_nodes, needed_operations
from benchmarks.middle_base import write_middle
from benchmarks.records import Record, Turns, add_write, in_turn, operations_of, record, shares, spread, write
from benchmarks.scoring_of_checkout import OfCheckout
from benchmarks.sides import timed

NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
PEERS = ("lm-eval", "kv-per-prompt", "kv-shared")
BEFORE: dict[str, Normalization] = {f"{name} before": name for name in NORMALIZATIONS}
"""Ways of another checkout, and which of ours each is held against."""
TOLERANCE = 1e-3
"""Between scores, in nats, for float32: with other dtypes no two ways agree so far."""
EMBEDDED = Path(behaviorlm.__file__).parent / "assets" / "base"
WORLD, USERS = "world", 300
"""What stands for a log of so many users of the synthetic world."""


@dataclass(frozen=True)
class Compared:
    """One number of labels. work: of all prompts. turns: CPU and wall seconds for a prompt in each round, by way.

    differs: the largest difference of another way's scores from ours, of a peer's from those of full normalization.
    """

    labels: int
    all_nodes: int
    prompts: int
    work: dict[Normalization, Work]
    differs: dict[str, float]
    turns: Turns[tuple[float, float]] | None = None
    operations: dict[Normalization, tuple[float, float | None]] = field(default_factory=dict)
    """Floating-point operations for a prompt: those that run, and those needed."""

    @property
    def seconds(self) -> dict[str, list[tuple[float, float]]]:
        return {} if self.turns is None else self.turns.taken

    def row(self) -> str:
        """A row of the table."""
        cells = [str(self.labels), str(self.all_nodes)]
        for name in NORMALIZATIONS:
            work = self.work[name]
            cells += [f"{work.nodes / self.prompts:.0f}", f"{work.head_rows / self.prompts:,.0f}"]
        cells += [f"{1000 * self.median(way):.1f}" for way in self.seconds]
        for way in (way for way in self.seconds if way != "trie"):
            median, low, high = self.ratio(way, BEFORE.get(way, "trie")).values()
            cells.append(f"{median:.2f} ({low:.2f} to {high:.2f})")
        return " | ".join(cells)

    def median(self, way: str, clock: int = 0) -> float:
        """Seconds for a prompt: of the CPU, or on the wall (1)."""
        return round(statistics.median(seconds[clock] for seconds in self.seconds[way]), 6)

    def ratio(self, slow: str, fast: str) -> dict[str, float]:
        """How many times the CPU seconds of one way are those of another, over the rounds."""
        return spread([a / b for (a, _), (b, _) in zip(self.seconds[slow], self.seconds[fast], strict=True)])

    def records(self, title: str) -> list[Record]:
        """What a file of results has of it: each of our ways against each other one."""
        assert self.turns is not None
        pairs = [(ours, way) for ours in NORMALIZATIONS for way in self.seconds if _compares(ours, way)]
        cpu = {way: [seconds for seconds, _ in taken] for way, taken in self.seconds.items()}
        return [
            record(
                f"label scores, {ours} against {other}, {self.labels} {title}, {self.prompts} prompts",
                {way: cpu[way] for way in (ours, other)},
                equal=None if other == "full" else self.differs[other] <= TOLERANCE,
                drift=self.turns.drift,
                shares=shares(*self.operations[ours], cpu[ours], self.turns.ceiling),
                rounds_left_out=self.turns.left_out,
                wall_seconds={way: self.median(way, 1) for way in (ours, other)},
                nodes=self.work[ours].nodes / self.prompts,
                head_rows=self.work[ours].head_rows / self.prompts,
                tokens=self.work[ours].tokens / self.prompts,
                prompts=self.prompts,
            )
            for ours, other in pairs
        ]


def _compares(ours: Normalization, other: str) -> bool:
    if other in BEFORE:
        return BEFORE[other] == ours
    return other not in NORMALIZATIONS or (ours, other) == ("trie", "full")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Returns the exit code: 1 where a peer has other scores."""
    options = _options(arguments)
    torch.set_num_threads(1)
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        if options.base == "17M":
            options.base = write_middle(Path(scratch))
        return _measured(options)


def _measured(options: argparse.Namespace) -> int:
    config = ModelConfig(base=str(options.base), dtype=options.dtype)
    labels = encoded(names_of(options.log or [WORLD]), config)
    print(" | ".join(_head(options)), flush=True)
    model = load_model(config).requires_grad_(False)
    title = (
        f"labels of {log_name(options.log or [WORLD])}, {round(model.num_parameters() / 1e6)}M "
        f"{model.config.model_type}, {options.prompt_tokens} tokens, {options.shared:g} shared"
    )
    code = 0

    for number in options.labels or [len(labels)]:
        if number > len(labels):
            print(f"{number}: the logs have {len(labels)} names")
            continue
        found = compared(model, labels[:number], options)
        print(found.row(), flush=True)
        if options.write and not write(options.write, found.records(title)):
            code = 1
        for peer, differs in found.differs.items():
            if not differs <= TOLERANCE:
                print(f"{peer}: scores differ by {differs:.2g}, more than {TOLERANCE:g}")
                code = 1
    return code


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--log", action="append", help="a CSV file and its column, FILE:COLUMN (default: the world's log)")
    add(
        "--base",
        default=EMBEDDED,
        help="folder of a model, or 17M: drawn weights (default: the embedded one)",
    )
    add("--labels", type=int, nargs="*", default=[], help="how many names (default: all)")
    add("--prompt-tokens", type=int, default=256, help="tokens of a prompt")
    add("--prompts", type=int, default=16, help="prompts of a round")
    add("--shared", type=float, default=0.8, help="share of a prompt that all have in common")
    add("--rounds", type=int, default=5, help="how often each way runs")
    add("--max-tokens", type=int, default=8192, help="tokens that go through the model at a time")
    add("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of the weights")
    add("--peers", nargs="*", default=[], choices=PEERS, help="other ways to run beside ours")
    add("--peer-prompts", type=int, default=2, help="prompts of a round for peers")
    add("--lm-eval-labels", type=int, default=1 << 20, help="labels of a round for lm-eval")
    add("--lm-eval-batches", type=int, nargs="+", default=[8, 32], help="batch sizes tried; the fastest runs")
    add(
        "--kv-batches",
        type=int,
        nargs="+",
        default=[32, 1024],
        help="labels in a batch of those that keep keys",
    )
    add("--before", type=Path, help="another checkout of this repository, whose code runs beside ours")
    add_write(parser)
    add("--count", action="store_true", help="only count")
    options = parser.parse_args(arguments)
    if not 0 <= options.shared < 1 or min(options.prompt_tokens, options.prompts, options.rounds) < 1:
        parser.error("--shared lies from 0 to below 1, the other numbers from 1")
    return options


def _head(options: argparse.Namespace) -> list[str]:
    head = ["labels", "nodes"]
    head += [f"{name}: {what}" for name in NORMALIZATIONS for what in ("nodes", "head rows")]
    if not options.count:
        before = [*BEFORE] if options.before else []
        head += [f"{way}: ms a prompt" for way in (*NORMALIZATIONS, *options.peers, *before)]
        head += ["full / trie", *(f"{peer} / trie" for peer in options.peers)]
        head += [f"{way} / {BEFORE[way]}" for way in before]
    return head


def names_of(logs: Sequence[str]) -> list[str]:
    """The names of all logs, those of the first before those of the next, the most frequent of each first."""
    found = dict[str, None]()
    for log in logs:
        found |= dict.fromkeys(name for name, _ in Counter(column_of(log)).most_common())
    return list(found)


def log_name(logs: Sequence[str]) -> str:
    """What records call some logs: the folders that they lie in, or the files where those have no name."""
    paths = [Path(log.rpartition(":")[0]) for log in logs if log != WORLD]
    names = [path.absolute().parent.name or path.name for path in paths]
    return "+".join(names + [WORLD] * (len(logs) - len(paths)))


def column_of(log: str) -> list[str]:
    """What FILE:COLUMN holds, row after row, without empty cells; of `WORLD` the behaviors."""
    if log == WORLD:
        world = default_world()
        return [event.behavior for user in range(USERS) for event in simulate_user(world, 0, user)]
    path, _, column = log.rpartition(":")
    with pa.input_stream(path, compression="detect") as file:
        options = pacsv.ConvertOptions(include_columns=[column], column_types={column: pa.string()})
        return [name for name in pacsv.read_csv(file, convert_options=options)[column].to_pylist() if name]


def encoded(names: Sequence[str], config: ModelConfig) -> list[Int32]:
    """The tokens of each name with its terminator; of names with equal tokens the first."""
    encoder = PromptEncoder(load_tokenizer(config), PromptConfig())
    prompt = encoder.prompt_tokens(names, max_positions(config), 0)
    labels = [np.concatenate([ids, prompt.terminator_ids]).astype(np.int32) for ids in prompt.label_ids]
    return list({label.tobytes(): label for label in labels}.values())


@torch.inference_mode()
def compared(
    model: PreTrainedModel,
    labels: list[Int32],
    options: argparse.Namespace,
) -> Compared:
    """Score the same random prompts in all ways, in turn."""
    vocabulary = model.config.get_text_config().vocab_size
    random = np.random.default_rng(0)
    shared = int(options.shared * options.prompt_tokens)
    beginning = random.integers(1, vocabulary, shared).astype(np.int32)
    rest = random.integers(1, vocabulary, (options.prompts, options.prompt_tokens - shared)).astype(np.int32)

    def write(writer: TreeWriter) -> list[int]:
        writer.open(beginning)
        return [writer.leaf(ids) for ids in rest]

    attention = choose_attention(model)
    scorers = {
        name: label_scorer(model, attention, labels, options.max_tokens, name) for name in NORMALIZATIONS
    }
    counted = {name: scorer.score_counted(write) for name, scorer in scorers.items()}  # warms both, too
    work = {name: work for name, (_, work) in counted.items()}
    found = Compared(len(labels), len(needed_nodes(labels, "full")[0]), options.prompts, work, {})
    if options.count:
        return found
    for name, scorer in scorers.items():
        run_operations = operations_of(partial(scorer.score, write)) / len(rest)
        needed = needed_operations(model, labels, name, len(rest), (shared, options.prompt_tokens - shared))
        found.operations[name] = run_operations, None if needed is None else needed / len(rest)
    ways: dict[str, Way] = {
        name: partial(_seconds, len(rest), partial(scorer.score, write)) for name, scorer in scorers.items()
    }
    few = [np.concatenate([beginning, ids]) for ids in rest[: options.peer_prompts]]
    scores = {name: found for name, (found, _) in counted.items()}
    for peer, (run, factor, chosen) in _peers(model, few, labels, shared, options).items():
        found.differs[peer] = float(np.abs(run() - scores["full"][: len(few), chosen]).max())
        ways[peer] = partial(_seconds, len(few) / factor, run)
    with contextlib.ExitStack() as stack:
        if options.before:
            other = stack.enter_context(
                OfCheckout(
                    options.before,
                    base=str(options.base),
                    dtype=options.dtype,
                    max_tokens=options.max_tokens,
                    labels=labels,
                    beginning=beginning,
                    rest=rest,
                )
            )
            for way, name in BEFORE.items():
                found.differs[way] = float(np.abs(other.scores(name) - scores[name]).max())
                ways[way] = partial(_of_checkout, other, name, len(rest))
        turns = in_turn(ways, options.rounds)
    return replace(found, turns=turns)


Way = Callable[[], tuple[float, float]]
"""Runs once, and tells its CPU and wall seconds for a prompt."""
Peer = tuple[Callable[[], NDArray[np.float32]], float, NDArray[np.int64]]
"""What runs, how many times the labels it stands for, and which of them it scores."""


def _peers(
    model: PreTrainedModel,
    prompts: list[Int32],
    labels: list[Int32],
    shared: int,
    options: argparse.Namespace,
) -> dict[str, Peer]:
    found: dict[str, Peer] = {}
    for name in options.peers:
        if name == "lm-eval":
            longest = len(prompts[0]) + max(map(len, labels))
            peer: Any = peers.LmEval(model, load_tokenizer(ModelConfig(base=str(options.base))), longest)
            number, sizes = min(len(labels), options.lm_eval_labels), options.lm_eval_batches
        else:
            peer = peers.KeysValues(model, shared if name == "kv-shared" else 0)
            number, sizes = len(labels), options.kv_batches
        chosen = np.linspace(0, len(labels) - 1, number).astype(np.int64)
        run = partial(peer, prompts, [labels[label] for label in chosen])
        seconds: dict[int, float] = {}
        for size in sizes if len(sizes) > 1 else []:
            peer.use_batch(size)
            seconds[size], _ = _seconds(1, run)
        peer.use_batch(min(seconds, key=lambda size: seconds[size]) if seconds else sizes[0])
        found[name] = run, len(labels) / number, chosen
    return found


def _seconds(prompts: float, run: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = timed(run)
    return cpu / prompts, wall / prompts


def _of_checkout(other: OfCheckout, name: Normalization, prompts: int) -> tuple[float, float]:
    cpu, wall = other.seconds(name)
    return cpu / prompts, wall / prompts


if __name__ == "__main__":
    sys.exit(main())
