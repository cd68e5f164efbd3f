"""At equal samples: does training on tree batches (several samples of a timeline in a step) cost validation loss?

For each log, the base model is tuned with the same samples, steps and learning rate, once for each cap on the samples
of a timeline in a step. Cap 1 is shuffled samples: no two in a step come from one timeline, and no history is shared.
Prints, for each cap, the tokens it took and the difference of the validation loss from cap 1, with a 95 % interval
from a bootstrap over groups and seeds.

    python -m benchmarks.bench_tree_batches [CONFIG ...] [--caps 1 2 4 8] [--samples 8000]
        [--epochs 1] [--samples-per-step 64] [--seeds 3]
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from behaviorlm.config import load_settings
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import load_model
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.training.packs import Batching, StepSchedule
from behaviorlm_ray.cluster.connection import connect
from behaviorlm_ray.console.command_line import option_parser
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings, with_absolute_paths
from behaviorlm_ray.preparation.prepared_log import (
    PreparedLog,
    SampleRows,
    gather,
    group_codes,
    limit_rows,
    rows_of_split,
)
from behaviorlm_ray.tuning.config import learning_rate
from behaviorlm_ray.tuning.training_rows import batching_of

RESAMPLES = 2000
CONFIGS = ("jobs/configs/smartthings_us.yaml", "jobs/configs/kypo_shell.yaml")


@dataclass(frozen=True)
class Tuned:
    """Validation loss of each sample, float64 [n], and the tokens that training laid out."""

    losses: np.ndarray
    tokens: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison on each log. Returns the exit code."""
    parser = option_parser(__doc__, None)
    parser.add_argument("configs", nargs="*", default=list(CONFIGS), help="configurations of runs")
    parser.add_argument(
        "--caps", type=int, nargs="+", default=[1, 2, 4, 8], help="caps to compare; 1 is needed"
    )
    parser.add_argument("--samples", type=int, default=8000, help="training samples of each run")
    parser.add_argument(
        "--samples-per-step", type=int, help="samples of a step (default: the configuration's one_stage)"
    )
    parser.add_argument("--epochs", type=float, default=1.0, help="passes over the training samples")
    parser.add_argument("--validation", type=int, default=600, help="validation samples")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each cap, on other samples and orders")
    options = parser.parse_args(arguments)
    if 1 not in options.caps:
        parser.error("--caps: 1 is what the others are compared with")
    for name in ("samples", "samples_per_step", "epochs", "validation", "seeds"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            parser.error(f"--{name.replace('_', '-')}: {value} is not above 0")
    for path in options.configs:
        settings = with_absolute_paths(load_settings(RunSettings, path))
        missing = [file for file in settings.events.paths if not Path(file).exists()]
        if missing:
            print(f"{settings.name}: left out, there is no {missing[0]}")
            continue
        if options.samples_per_step is not None:
            step = {"samples_per_step": options.samples_per_step}
            settings = settings.model_copy(update={"one_stage": settings.one_stage.model_copy(update=step)})
        connect()
        check_inputs(open_run(settings), is_written=True)
        compare(_log(settings), settings, options)
    return 0


def compare(log: PreparedLog, settings: RunSettings, options: argparse.Namespace) -> None:
    """Tune every cap with every seed and print what comes out."""
    known = [
        chosen[part.behavior[chosen] >= 0]
        for part, chosen in zip(log.parts, rows_of_split(log, "validation"), strict=True)
    ]
    held_out = limit_rows(log, known, options.validation, 0)
    _, groups = group_codes(log, held_out)
    tune = ray.remote(num_cpus=1)(_tune)
    runs = {
        (cap, seed): tune.remote(settings, cap, seed, options.samples, options.epochs, held_out)
        for seed in range(options.seeds)
        for cap in options.caps
    }
    tuned: dict[tuple[int, int], Tuned] = {}
    for (cap, seed), run in runs.items():
        tuned[cap, seed] = ray.get(run)
        print(
            f"{settings.name} cap {cap} seed {seed}: validation loss {tuned[cap, seed].losses.mean():.4f}, "
            f"{tuned[cap, seed].tokens} tokens",
            flush=True,
        )
    shuffled = np.stack([tuned[1, seed].losses for seed in range(options.seeds)])
    for cap in options.caps:
        losses = np.stack([tuned[cap, seed].losses for seed in range(options.seeds)])
        low, high = interval(losses - shuffled, groups)
        tokens = sum(tuned[cap, seed].tokens for seed in range(options.seeds))
        of = sum(tuned[1, seed].tokens for seed in range(options.seeds))
        print(
            f"{settings.name} cap {cap}: loss {losses.mean():.4f}, {np.mean(losses - shuffled):+.4f} nats a sample "
            f"against cap 1, interval [{low:+.4f}, {high:+.4f}], {tokens / of:.2f} of its tokens: "
            f"{'worse' if low > 0 else 'not worse'}"
        )


def interval(differences: np.ndarray, groups: NDArray[np.int64]) -> tuple[float, float]:
    """95 % percentile interval of the mean of [seeds, n] differences, resampling seeds and whole groups."""
    sums = np.stack([np.bincount(groups, row) for row in differences])
    sizes = np.bincount(groups)
    generator = np.random.default_rng(0)
    means = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        seeds = generator.integers(0, len(sums), len(sums))
        drawn = generator.integers(0, len(sizes), len(sizes))
        means[index] = sums[np.ix_(seeds, drawn)].mean(axis=0).sum() / sizes[drawn].sum()
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def timelines_of(log: PreparedLog, rows: SampleRows, samples: int, seed: int) -> SampleRows:
    """Whole timelines in a random order until there are `samples` (the last one is cut)."""
    timeline = np.concatenate(
        [
            part.user_start[chosen] + (index << 40)
            for index, (part, chosen) in enumerate(zip(log.parts, rows, strict=True))
        ]
    )
    _, codes = np.unique(timeline, return_inverse=True)
    rank = np.random.default_rng([seed, 17]).permutation(codes.max() + 1)[codes]
    keep = np.zeros(len(codes), dtype=bool)
    keep[np.argsort(rank, kind="stable")[:samples]] = True
    bounds = np.cumsum([len(chosen) for chosen in rows])[:-1]
    return [chosen[kept] for chosen, kept in zip(rows, np.split(keep, bounds), strict=True)]


def _log(settings: RunSettings) -> PreparedLog:
    run = open_run(settings)
    return open_log(run.runner().run(prepare(run)), settings)


def _tune(
    settings: RunSettings, cap: int, seed: int, samples: int, epochs: float, held_out: SampleRows
) -> Tuned:
    torch.manual_seed(seed)
    log = _log(settings)
    rows = timelines_of(log, rows_of_split(log, "train"), samples, seed)
    asked = {"seed": seed, "epochs": epochs, "max_steps": None, "max_samples_per_timeline_per_step": cap}
    config = settings.one_stage.model_copy(update=asked)
    model = load_model(settings.model).requires_grad_(True)
    tree_model = TreeModel(model, choose_attention(model))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    schedule = StepSchedule(log.parts, rows, log.prompt, [], batching_of(config))
    tokens = 0
    for step in range(len(schedule)):
        optimizer.param_groups[0]["lr"] = learning_rate(step, len(schedule), config)
        optimizer.zero_grad()
        for pack in schedule.packs(step):
            tree_model(pack_tensors(pack, "cpu"))[0].backward()
            tokens += len(pack)
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
    once = batching_of(config.model_copy(update={"epochs": 1.0}))
    return Tuned(_validation_losses(log, tree_model, held_out, once), tokens)


@torch.no_grad()
def _validation_losses(
    log: PreparedLog, model: TreeModel, held_out: SampleRows, batching: Batching
) -> np.ndarray:
    """Label loss of each held-out sample, in the order of `held_out`."""
    schedule = StepSchedule(log.parts, held_out, log.prompt, [], batching)
    place = {ids.tobytes(): index for index, ids in enumerate(gather(log, held_out, "sample_id"))}
    losses = np.zeros(len(place))
    for step in range(len(schedule)):
        # A pack's items are numbered in the order of its chunks, so each chunk is scored as a pack of its own.
        for ids, pack in schedule.single_packs(step):
            nll = model(pack_tensors(pack, "cpu"))[2].numpy()
            summed = np.bincount(pack.item, nll, minlength=len(ids))
            losses[[place[sample] for sample in ids]] = summed
    return losses


if __name__ == "__main__":
    sys.exit(main())
