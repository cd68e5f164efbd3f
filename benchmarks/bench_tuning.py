"""What a tuning step costs beside other ways: the same samples, weights and dtype, equal gradients first.

Peers (`tuning_peers`): `packed`, plain transformers with best-fit packing, each sample a sequence of its own; `dti`, a
stream a user with isolated targets (Dynamic Target Isolation, arXiv 2503.01001), where it has the same numbers: the
targets of one history window; `trl`, TRL's SFTTrainer, packed best-fit or in batches of similar lengths, in a process
with another Python; `before`, the code of another checkout of this repository, which schedules and lays out the same
samples itself, in a process of its own. Of each the best setting runs, forward and backward in float32 with the same
LoRA layers; CPU time counts, and a ratio is the peer's by ours. `--streams` compares all targets of whole timelines:
ours in windows, DTI's in one stream a user with a windowed mask, whose numbers are others (hidden states carry what
lies before the window), and the others as above.

    python -m benchmarks.bench_tuning [--caps 1 2 4 8] [--samples 16] [--rounds 5] [--base 1M | 17M | FOLDER]
        [--trl PYTHON] [--before CHECKOUT] [--streams USERS] [--write [FILE]]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from behaviorlm.model.adapters import AdaptedModel, add_adapter
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import load_model
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.training.packs import Batching
from behaviorlm.trees.token_tree import TokenTree
from behaviorlm_ray.costs.operations import model_work, step_work
from benchmarks.gpu_shapes import EMBEDDED, DrawnLog, drawn_log
from benchmarks.middle_base import middle_model
from benchmarks.records import (
    ROUNDS,
    Record,
    Turns,
    add_write,
    in_turn,
    operations_of,
    record,
    shares,
    told,
    write,
)
from benchmarks.tuning_peers import (
    TOKENIZER,
    Before,
    Step,
    StepSide,
    Trl,
    batched,
    first_step,
    peer_runs,
    run_batches,
    save_base,
    save_weights,
    whole_streams,
)

MAX_TOKENS = 2048
"""Of a pack."""
TOLERANCE = 1e-4
"""Relative, of gradients in float32."""

Run = Callable[[], None]
Sides = Mapping[str, Callable[[Step], StepSide]]
"""Peers that run in processes of their own, each started for a step."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each cap. Returns the exit code: 1 where gradients differ or a run was discarded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--caps", type=int, nargs="*", default=[1, 2, 4, 8], help="samples of a user in a step"
    )
    parser.add_argument("--samples", type=int, default=16, help="samples of a step")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each way runs")
    parser.add_argument("--base", default="1M", help="1M: the embedded one; 17M: drawn weights; or a folder")
    parser.add_argument("--trl", help="the Python of an environment with TRL 1.16")
    parser.add_argument(
        "--before", type=Path, help="another checkout of this repository, whose code runs beside ours"
    )
    parser.add_argument(
        "--streams", type=int, default=0, help="users whose whole timelines are compared, too"
    )
    add_write(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    code = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model, title, tokenizer = opened(options.base, folder if options.trl or options.before else None)
        sides: dict[str, Callable[[Step], StepSide]] = {}
        if options.trl:
            sides["trl"] = partial(Trl, options.trl, folder, tokenizer)
        if options.before:
            sides["before"] = partial(Before, options.before, folder)
        log = drawn_log(model.config.get_text_config().vocab_size, 40, 96)
        runs: list[Callable[[], list[Record]]] = []
        for cap in options.caps:
            step = scheduled(log, cap, options.samples)
            name = f"cap {cap}, {options.samples} samples, {title}"
            runs.append(partial(measured, model, step, name, options.rounds, sides))
        if options.streams:
            runs.append(partial(measured_streams, model, log, options.streams, title, options.rounds, sides))
        for run in runs:
            found = run()
            print("\n".join(map(line, found)), flush=True)
            code |= int(not all(each["equal"] or "expected_unequal" in each for each in found))
            if options.write is not None:
                code |= int(not write(options.write, found))
    return code


def opened(base: str, folder: Path | None) -> tuple[AdaptedModel, str, str]:
    """A model in float32 with a drawn adapter, its name, and its tokenizer. folder: where its weights are put."""
    if base == "17M":
        inner = middle_model()
        tokenizer = TOKENIZER
    else:
        tokenizer = TOKENIZER if base == "1M" else base
        inner = load_model(EMBEDDED.model_copy(update={"base": tokenizer, "dtype": "float32"}))
    title = f"{round(inner.num_parameters() / 1e6)}M {inner.config.model_type}"
    if folder is not None:
        save_base(inner, folder)
    model = add_adapter(inner, EMBEDDED, seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zero at first, and then other gradients are, too
                parameter.normal_(0, 0.05)
    if folder is not None:
        save_weights(model, folder)
    return model, title, tokenizer


def scheduled(log: DrawnLog, cap: int, samples: int) -> Step:
    """The first step on all targets of a log."""
    return first_step(log, log.part.targets("train"), Batching(samples, cap, MAX_TOKENS, 1.0, None, 0))


def measured(
    model: AdaptedModel,
    step: Step,
    name: str,
    rounds: int,
    sides: Sides,
    peers: Mapping[str, Mapping[str, Run]] | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Record]:
    """A record for each peer. peers: what runs by peer and setting; None: all. more: what records say, by peer."""
    own = _ours(model, step.packs)
    right = gradients_of(model, own)
    settings: dict[str, dict[str, Callable[[], float]]] = {}
    differences: dict[str, float] = {}
    told = dict(more or {})
    for peer, of in (peer_runs(model, step.packs) if peers is None else peers).items():
        settings[peer] = {way: partial(seconds_of, model, run) for way, run in of.items()}
        differences[peer] = max(difference(gradients_of(model, run), right) for run in of.values())
    with ExitStack() as held:
        for peer, started in sides.items():
            side = held.enter_context(started(step))
            settings[peer] = {way: partial(side.seconds, way) for way in side.tokens}
            differences[peer] = max(difference(side.gradients(way), right) for way in side.tokens)
            told[peer] = side.told
        best = {peer: min(of, key=lambda way: min(of[way](), of[way]())) for peer, of in settings.items()}
        ways: dict[str, Callable[[], float]] = {"ours": partial(seconds_of, model, own)}
        turns = in_turn(ways | {peer: settings[peer][way] for peer, way in best.items()}, rounds)
    of_ours = shares_of(model, step.packs, own, turns)
    return [
        record(
            f"tuning against {peer}, {name}",
            {"ours": turns.taken["ours"], peer: turns.taken[peer]},
            equal=differences[peer] <= TOLERANCE,
            drift=turns.drift,
            shares=of_ours,
            rounds_left_out=turns.left_out,
            setting=best[peer],
            difference=differences[peer],
            samples=len(step.ids),
            tokens=sum(map(len, step.packs)),
            ceiling_gigaflops=round(1000 * turns.ceiling, 1),
            **told.get(peer, {}),
        )
        for peer in settings
    ]


def measured_streams(
    model: AdaptedModel, log: DrawnLog, users: int, title: str, rounds: int, sides: Sides
) -> list[Record]:
    """All targets of some timelines: ours in windows; for DTI a stream a user with a windowed mask."""
    start = log.part.user_start
    rows = log.part.targets("train")
    chosen = rows[start[rows] <= np.unique(start)[users - 1]]
    step = first_step(log, chosen, Batching(len(chosen), len(chosen), MAX_TOKENS, 1.0, None, 0))
    streams = whole_streams(log, users)
    assert sum(len(tree.source) for tree in streams) == sum(len(pack.source) for pack in step.packs)
    window = len(log.prompt.instruction_ids), int(32 * log.part.lines.lengths().mean())
    settings = {
        f"{size} streams": partial(run_batches, model, batched(streams, size, window)) for size in (1, users)
    }
    peers: dict[str, Mapping[str, Run]] = {
        "packed": peer_runs(model, step.packs)["packed"],
        "dti": settings,
    }
    of_streams = {
        "peer_tokens": sum(map(len, streams)),
        "expected_unequal": "states carry what lies before the window, and positions run on",
    }
    name = f"whole timelines of {users} users, {title}"
    return measured(model, step, name, rounds, sides, peers, {"dti": of_streams})


def _ours(model: AdaptedModel, packs: Sequence[TokenTree]) -> Run:
    tree_model = TreeModel(model, choose_attention(model)).train()

    def run() -> None:
        for pack in packs:
            tree_model(pack_tensors(pack, "cpu"))[0].backward()

    return run


def shares_of(
    model: AdaptedModel, packs: Sequence[TokenTree], run: Run, turns: Turns[float]
) -> tuple[float, float | None]:
    """Of the ceiling and of the floor, as `records.shares` has them."""
    work = model_work(model)
    ran = operations_of(run)
    model.zero_grad(set_to_none=True)
    needed = None if work is None else work.of(step_work(packs))
    return shares(ran, needed, turns.taken["ours"], turns.ceiling)


def seconds_of(model: AdaptedModel, run: Run) -> float:
    """CPU seconds of a run, gradients cleared after it."""
    started = time.process_time()
    run()
    taken = time.process_time() - started
    model.zero_grad(set_to_none=True)
    return taken


def gradients_of(model: AdaptedModel, run: Run) -> dict[str, Tensor]:
    """Gradients of a run, by parameter."""
    model.zero_grad(set_to_none=True)
    run()
    found = {name: of.grad for name, of in model.named_parameters() if of.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def difference(found: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> float:
    """Norm of the difference of gradients by that of the right ones; infinite where others have a gradient."""
    if found.keys() != right.keys():
        return float("inf")
    apart, whole = (
        torch.stack([part.norm() for part in parts]).norm()
        for parts in ([found[name] - right[name] for name in right], right.values())
    )
    return float(apart / whole)


def line(each: Record) -> str:
    """A record on a line."""
    shares = ", ".join(
        f"{what} share {'–' if each[f'{what}_share'] is None else format(each[f'{what}_share'], '.2f')}"
        for what in ("ceiling", "floor")
    )
    equal = "equal" if each["equal"] else "NOT EQUAL"
    return (
        f"{each['name']}: {told(each['ratio'])} times ours ({each['setting']}), {each['tokens']} tokens, {shares}, "
        f"{equal} ({each['difference']:.1e}), drift {each['drift']:.0%}"
    )


if __name__ == "__main__":
    sys.exit(main())
