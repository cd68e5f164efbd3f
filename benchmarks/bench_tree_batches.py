"""At equal samples: does training on tree batches (several samples of a timeline in a step) cost validation loss?

For each log, one base model is tuned twice with the same steps, samples and learning rate: once on tree batches with
the configured cap, once on shuffled samples of which no two in a step come from one timeline. Prints the difference of
the validation losses with a bootstrap interval over groups, and the tokens each way took.

    python -m benchmarks.bench_tree_batches [--samples 4000] [--seeds 2] [--validation 600] [CONFIG ...]
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from behaviorlm.attention import choose_attention
from behaviorlm.base_model import load_model
from behaviorlm.config import load_settings
from behaviorlm.packs import Batching, StepSchedule
from behaviorlm.tree_model import TreeModel, pack_tensors
from behaviorlm_ray.cluster import connect
from behaviorlm_ray.pipeline import Pipeline
from behaviorlm_ray.prepared import PreparedLog, gather, group_names, limit_rows, rows_of_split
from behaviorlm_ray.settings import RunSettings, with_absolute_paths
from behaviorlm_ray.tuning.config import TuningConfig, learning_rate

CONFIGS = ("jobs/configs/smartthings_us.yaml", "jobs/configs/kypo_shell.yaml")


@dataclass(frozen=True)
class Tuned:
    """Validation loss of each sample, float64 [n], and the tokens that training laid out."""

    losses: np.ndarray
    tokens: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison on each log. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="*", default=list(CONFIGS), help="configurations of runs")
    parser.add_argument("--samples", type=int, default=4000, help="training samples of each run")
    parser.add_argument("--validation", type=int, default=600, help="validation samples")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each kind, on other samples and orders")
    options = parser.parse_args(arguments)
    for path in options.configs:
        settings = with_absolute_paths(load_settings(RunSettings, path))
        missing = [file for file in settings.events.paths if not Path(file).exists()]
        if missing:
            print(f"{settings.name}: left out, there is no {missing[0]}")
            continue
        connect()
        pipeline = Pipeline(settings)
        pipeline.check_inputs()
        compare(pipeline.log(), settings, options.samples, options.validation, options.seeds)
    return 0


def compare(log: PreparedLog, settings: RunSettings, samples: int, validation: int, seeds: int) -> None:
    """Tune both ways for each seed and print what comes out."""
    known = [
        chosen[part.behavior[chosen] >= 0]
        for part, chosen in zip(log.parts, rows_of_split(log, "validation"), strict=True)
    ]
    held_out = limit_rows(log, known, validation, 0)
    groups = group_names(log, held_out)
    differences = []
    for seed in range(seeds):
        rows = limit_rows(log, rows_of_split(log, "train"), samples, seed)
        tree = settings.one_stage.model_copy(update={"seed": seed, "epochs": 1.0})
        shuffled = tree.model_copy(update={"max_samples_per_timeline_per_step": 1})
        by_tree, by_sample = (_tune(log, settings, rows, held_out, config) for config in (tree, shuffled))
        differences.append(by_tree.losses - by_sample.losses)
        print(
            f"{settings.name} seed {seed}: validation loss {by_tree.losses.mean():.4f} on tree batches "
            f"({by_tree.tokens} tokens), {by_sample.losses.mean():.4f} on shuffled samples ({by_sample.tokens})",
            flush=True,
        )
    low, high = interval(np.mean(differences, axis=0), groups)
    verdict = "not worse" if low <= 0 else "worse"
    print(
        f"{settings.name}: tree - shuffled = {np.mean(differences):+.4f} nats a sample, 95 % interval over groups "
        f"[{low:+.4f}, {high:+.4f}], over seeds {[round(float(d.mean()), 4) for d in differences]}: {verdict}"
    )


def interval(values: np.ndarray, groups: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """95 % percentile interval of the mean, resampling whole groups."""
    _, codes = np.unique(groups.astype(str), return_inverse=True)
    sums, sizes = np.bincount(codes, values), np.bincount(codes)
    drawn = np.random.default_rng(0).integers(0, len(sums), (resamples, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _tune(
    log: PreparedLog,
    settings: RunSettings,
    rows: list[np.ndarray],
    held_out: list[np.ndarray],
    config: TuningConfig,
) -> Tuned:
    model = load_model(settings.model).requires_grad_(True)
    tree_model = TreeModel(model, choose_attention(model))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    batching = Batching(
        config.samples_per_step,
        config.max_samples_per_timeline_per_step,
        config.max_tokens,
        config.epochs,
        None,
        config.seed,
    )
    schedule = StepSchedule(log.parts, rows, log.prompt, [], batching)
    tokens = 0
    for step in range(len(schedule)):
        optimizer.param_groups[0]["lr"] = learning_rate(step, len(schedule), config)
        optimizer.zero_grad()
        for pack in schedule.packs(step):
            tree_model(pack_tensors(pack, "cpu"))[0].backward()
            tokens += len(pack)
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
    return Tuned(_validation_losses(log, tree_model, held_out, replace(batching, epochs=1.0)), tokens)


@torch.no_grad()
def _validation_losses(
    log: PreparedLog, model: TreeModel, held_out: list[np.ndarray], batching: Batching
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
