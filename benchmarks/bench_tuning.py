"""What a tuning step costs beside packed sequences: the same samples, weights and numbers, equal gradients first.

The peer is plain transformers with best-fit packing: each sample a sequence of its own, prompt and label, as many in a
row as fit, with a mask by sample; its LM head runs on the labels alone, as ours does. (TRL packs so, too, with the head
on all tokens; it is not needed here.) Its best row length is searched. Both run forward and backward in float32 with
the same LoRA layers, in turn; CPU time counts, and a ratio is the peer's by ours. A floor is what products alone would
take: their operations at the speed of a product of random matrices in the same process.

    python -m benchmarks.bench_tuning [--caps 1 2 4 8] [--samples 32] [--rounds 5] [--base FOLDER] [--write FILE]
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from behaviorlm.model.adapters import add_adapter
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import load_model
from behaviorlm.model.lm_head import target_log_probabilities
from behaviorlm.model.tree_model import TreeModel, body_of, pack_tensors
from behaviorlm.training.packs import Batching, StepSchedule
from behaviorlm.training.schedule import fit_packs
from behaviorlm.trees.token_tree import TokenTree, plain_sequences
from behaviorlm_ray.costs.operations import model_work, step_work
from benchmarks.gpu_shapes import EMBEDDED, DrawnLog, drawn_log

ROW_LENGTHS = (512, 1024, 2048)
TOLERANCE = 1e-4
"""Relative, of gradients in float32."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each cap and print a table. Returns the exit code: 1 where gradients differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--caps", type=int, nargs="+", default=[1, 2, 4, 8], help="samples of a user in a step"
    )
    parser.add_argument("--samples", type=int, default=32, help="samples of a step")
    parser.add_argument("--rounds", type=int, default=5, help="how often each arm runs")
    parser.add_argument(
        "--base", default=EMBEDDED.base, help="folder of the base (default: the embedded one)"
    )
    parser.add_argument("--write", type=Path, help="where the record goes, JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    config = EMBEDDED.model_copy(update={"base": options.base, "dtype": "float32"})
    model: Any = add_adapter(load_model(config), config, seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zero at first, and then other gradients are, too
                parameter.normal_(0, 0.05)
    log = drawn_log(model.config.get_text_config().vocab_size, 40, 96)
    ceiling = product_teraflops()
    rows = [measured(model, log, cap, options.samples, options.rounds, ceiling) for cap in options.caps]
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    for row in rows:
        row |= {"versions": versions}
        spread = row["ratio"]
        print(
            f"{row['name']}: {spread['median']:.2f} ({spread['low']:.2f} to {spread['high']:.2f}) times ours, "
            f"{row['tokens']} tokens for {row['peer_tokens']}, floor share {row['floor_share']:.2f}, "
            f"{'equal' if row['equal'] else 'NOT EQUAL'} ({row['difference']:.1e})",
            flush=True,
        )
    if options.write is not None:
        options.write.write_text(json.dumps({"benchmarks": rows}, indent=1) + "\n", encoding="utf-8")
    return int(not all(row["equal"] for row in rows))


def measured(
    model: Any, log: DrawnLog, cap: int, samples: int, rounds: int, ceiling: float
) -> dict[str, Any]:
    """One cap. ceiling: 10^12 operations a second of a matrix product here."""
    batching = Batching(samples, cap, 2048, 1.0, None, 0)
    packs = StepSchedule([log.part], [log.part.targets("train")], log.prompt, [], batching).packs(0)
    tree_model = TreeModel(model, choose_attention(model)).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    peers = {length: packed_rows(packs, length) for length in ROW_LENGTHS}

    def ours() -> None:
        for pack in packs:
            tree_model(pack_tensors(pack, "cpu"))[0].backward()

    arms: dict[str, Callable[[], None]] = {"ours": ours}
    for length, batches in peers.items():
        arms[f"packed {length}"] = lambda batches=batches: _run_packed(model, batches)  # type: ignore[misc]
    gradients = {}
    for name, run in arms.items():
        run()
        gradients[name] = _taken_gradients(parameters)
    right = gradients["ours"].norm()
    difference = max(float((found - gradients["ours"]).norm() / right) for found in gradients.values())
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, run in arms.items():
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
            _taken_gradients(parameters)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    best = min((name for name in arms if name != "ours"), key=medians.__getitem__)
    ratios = [peer / own for peer, own in zip(seconds[best], seconds["ours"], strict=True)]
    work = model_work(model)
    floor = None if work is None else work.of(step_work(packs)) / ceiling / 1e12
    return {
        "name": f"tuning, cap {cap}, by packed sequences",
        "arms": medians,
        "best": best,
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        "tokens": sum(map(len, packs)),
        "peer_tokens": sum(len(ids) for pack in packs for ids, _ in plain_sequences(pack)),
        "equal": difference <= TOLERANCE,
        "difference": difference,
        "floor_share": None if floor is None else floor / medians["ours"],
    }


def product_teraflops(size: int = 1024) -> float:
    """10^12 operations a second of CPU time that a product of random matrices reaches here."""
    left, right = torch.randn(2, size, size)
    taken = []
    for _ in range(5):
        started = time.process_time()
        left @ right
        taken.append(time.process_time() - started)
    return 2 * size**3 / statistics.median(taken) / 1e12


Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""A row: token ids and positions [1, W], mask [1, 1, W, W] that is added, places, targets and weights of labels [R]."""


def packed_rows(packs: Sequence[TokenTree], length: int) -> list[Batch]:
    """The samples of some packs as sequences, best-fit into rows of a length."""
    sequences = [(pack, ids, read_outs) for pack in packs for ids, read_outs in plain_sequences(pack)]
    sizes = [len(ids) for _, ids, _ in sequences]
    return [_row([sequences[index] for index in row]) for row in fit_packs(sizes, max(length, *sizes))]


def _row(sequences: Sequence[tuple[TokenTree, np.ndarray, np.ndarray]]) -> Batch:
    token_ids = np.concatenate([ids for _, ids, _ in sequences]).astype(np.int64)
    positions = np.concatenate([np.arange(len(ids)) for _, ids, _ in sequences])
    sample = np.repeat(np.arange(len(sequences)), [len(ids) for _, ids, _ in sequences])
    starts = np.cumsum([0, *(len(ids) for _, ids, _ in sequences)])
    seen = (sample[:, None] == sample) & (np.arange(len(sample)) <= np.arange(len(sample))[:, None])
    mask = np.where(seen, 0.0, np.finfo(np.float32).min).astype(np.float32)
    places = [
        start + pack.depth[pack.source[read_outs]]
        for start, (pack, _, read_outs) in zip(starts, sequences, strict=False)
    ]
    targets = [pack.target[read_outs] for pack, _, read_outs in sequences]
    weights = [pack.weight[read_outs] for pack, _, read_outs in sequences]
    arrays = (
        token_ids[None],
        positions[None],
        mask[None, None],
        np.concatenate(places).astype(np.int64),
        np.concatenate(targets).astype(np.int64),
        np.concatenate(weights),
    )
    ids, at, masks, place, target, weight = map(torch.from_numpy, arrays)
    return ids, at, masks, place, target, weight


def _run_packed(model: nn.Module, batches: Sequence[Batch]) -> None:
    for token_ids, positions, mask, places, targets, weights in batches:
        output = body_of(model)(
            input_ids=token_ids, position_ids=positions, attention_mask=mask, use_cache=False
        )
        states = output.last_hidden_state[0, places]
        (-target_log_probabilities(model, states, targets) * weights).sum().backward()


def _taken_gradients(parameters: Sequence[Tensor]) -> Tensor:
    found = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
    for parameter in parameters:
        parameter.grad = None
    return found


if __name__ == "__main__":
    sys.exit(main())
