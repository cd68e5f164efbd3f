"""Export: the folder of a predictor is written, opened, held against the run's scores, and only then handed over."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers.utils.logging import disable_progress_bar

from behaviorlm.errors import ConfigError, ModelError
from behaviorlm.model.adapters import load_trained
from behaviorlm.model.base_model import load_model, max_positions, model_fingerprint
from behaviorlm.model.config import ModelConfig
from behaviorlm.predictor.artifact import (
    CARD,
    Artifact,
    Behavior,
    Counting,
    ModelPredictor,
    Origin,
    SharedTokens,
    Verification,
    Weights,
    event_mapping,
)
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.counts import write_counts
from behaviorlm.predictor.histories import History
from behaviorlm.predictor.rare_histories import MINIMUM
from behaviorlm.predictor.writing import write_description, write_weights
from behaviorlm.timelines.parts import history_starts
from behaviorlm_ray import storage
from behaviorlm_ray.export.card import calibration_errors, write_card
from behaviorlm_ray.export.choice import Chosen, Measured, Told
from behaviorlm_ray.export.finished_run import FinishedRun, open_finished
from behaviorlm_ray.export.measuring import coverage, fit_calibration, metrics_on_test
from behaviorlm_ray.pipeline.run import MODEL
from behaviorlm_ray.preparation.prepared_log import SampleRows, timelines_of, union_rows
from behaviorlm_ray.scoring.score_files import open_scores
from behaviorlm_ray.stages.manifests import package_versions
from behaviorlm_ray.storage import Location

VERIFIED_SAMPLES = 32
"""Held-out samples that a folder's scores are compared on."""
TOLERANCES = {"float32": (1e-4, 1e-4), "bfloat16": (1.0, 0.1)}
"""Largest and mean difference of a label score, in nats (see `apart`). In bfloat16 the same weights give other numbers
in batches of another shape, by some tenths of a nat (our choice of limits)."""
ROUNDED_FROM = 10.0
"""Nats beyond which the difference of a bfloat16 score may grow with the score, as rounding does: at -40 four times as
much is allowed. Gemma 3 270M is off by .2 nats on average over names at -1 to -130 (our choice)."""


@dataclass(frozen=True)
class ExportPlan:
    """What is exported.

    model: as in `Measured.names`, with a rule or without; None: what the run recommends. base: where the base lies now.
    """

    run: str
    to: str
    model: str | None = None
    merged: bool = False
    minimum: int = MINIMUM
    base: str | None = None


def export(plan: ExportPlan) -> list[str]:
    """Write the folder. Returns what was chosen and how it was checked, in lines. Raises ConfigError or ModelError,
    and then leaves nothing behind.
    """
    disable_progress_bar()  # a bar for each time that weights are read says nothing
    run = open_finished(plan.run)
    target = storage.location(plan.to)
    if storage.list_files(target):
        raise ConfigError(f"--to: {target} holds files already; remove them, or choose another place")
    measured = Measured(run, plan.minimum)
    chosen = measured.choose(plan.model)
    compared = measured.compared() if plan.model is None else []
    with unfinished(target) as folder:
        artifact = write_description(folder, _write(folder, plan, measured, chosen))
        verification = verify(folder, artifact, measured, chosen)
        artifact = write_description(folder, artifact.model_copy(update={"verification": verification}))
        write_card(folder / CARD, artifact, run, chosen, compared)
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # libraries write some for the owner alone
    why = run.results["recommended"].get("reason")  # None in results of earlier versions
    told = [*_told(chosen, compared, why), *_told_calibration(artifact), _told_check(verification)]
    return [*told, f"wrote {chosen.name} to {target}"]


def verify(folder: Path, artifact: Artifact, measured: Measured, chosen: Chosen) -> Verification:
    """Open the folder and compare its scores with the run's. Raises ModelError where they differ."""
    model = BehaviorModel.load(folder, device="cpu", trust_remote_code=True)
    run = measured.run
    held_out = union_rows(run.samples.validation, run.samples.test)
    rows = _spread(held_out, VERIFIED_SAMPLES)
    histories = prepared_histories(run, rows)
    dtype, differences = "float64", []
    if model.parts.counts is not None:
        expected = measured.counted(rows)
        found = model.parts.counts_of(histories)
        differences.append(np.abs(found - expected).ravel())
    if chosen.arm:
        assert artifact.weights is not None
        dtype = artifact.weights.base.dtype
        expected = _stored(run, chosen.arm, held_out, rows)
        differences.append(apart(model.parts.label_scores(histories), expected, dtype).ravel())
    difference = np.concatenate(differences)
    largest, mean = float(difference.max(initial=0.0)), float(difference.mean()) if len(difference) else 0.0
    allowed, allowed_mean = TOLERANCES.get(dtype, TOLERANCES["float32"])
    if not (largest <= allowed and mean <= allowed_mean):
        raise ModelError(
            f"the exported folder does not score as the run did: label scores of {len(histories)} held-out samples "
            f"differ by up to {largest:.3g} nats, {mean:.3g} on average (allowed in {dtype}: {allowed:g} and "
            f"{allowed_mean:g}). Nothing was exported. Is the base the one that the run used, and are transformers and "
            "torch the versions of the run?"
        )
    return Verification(
        samples=len(histories),
        largest_difference=largest,
        mean_difference=mean,
        tolerance=allowed,
        dtype=dtype,
    )


def apart(found: NDArray[np.float32], expected: NDArray[np.float32], dtype: str) -> NDArray[np.floating]:
    """How far label scores lie apart in nats; in bfloat16 as a share of every ROUNDED_FROM nats of the expected one."""
    difference = np.abs(found - expected)
    return difference / np.maximum(1, np.abs(expected) / ROUNDED_FROM) if dtype == "bfloat16" else difference


def prepared_histories(run: FinishedRun, rows: SampleRows) -> list[History]:
    """The whole history of each chosen sample of the prepared log, parts one after another."""
    found = []
    for number, (part, chosen) in enumerate(zip(run.log.parts, rows, strict=True)):
        if not len(chosen):
            continue
        whole, offset = timelines_of(run.log, number)
        before = [name for name in part.table.column_names if name.startswith("before.")]
        after = [name for name in part.table.column_names if name.startswith("after.")]
        events = whole.select(["behavior", *before, *after])
        starts = history_starts(part.table)
        for row in chosen.tolist():
            start, size = int(starts[row]) + offset, row - int(starts[row])
            now = whole.select(before).slice(start + size, 1) if before else events.slice(start + size, 1)
            found.append(History(events.slice(start, size), np.arange(size), now))
    return found


def _write(folder: Path, plan: ExportPlan, measured: Measured, chosen: Chosen) -> Artifact:
    run = measured.run
    weights, tokens = None, None
    trained_on: dict[str, int] = {}
    if chosen.arm:
        weights, trained_on = _write_model(folder, plan, run, chosen.arm)
        tokens = _tokens(run, run.base(chosen.arm, plan.base))
    counting = None
    if not isinstance(chosen.predictor, ModelPredictor):
        counts, kept, dropped = measured.counting.counts
        write_counts(counts, folder)
        habits = measured.counting.habits
        counting = Counting(
            order=counts.order, minimum=plan.minimum, kept=kept, dropped=dropped, habits=habits
        )
    vocabulary = run.log.vocabulary
    calibration = fit_calibration(measured, chosen)
    metrics, uncalibrated = metrics_on_test(measured, chosen, calibration)
    fingerprints = {
        "log": run.prepared.manifest.inputs["log"],
        "prepared": run.prepared.manifest.content_hash,
    }
    return Artifact(
        predictor=chosen.predictor,
        decision=chosen.rule,
        to_natural=measured.natural_prior(chosen),
        calibration=calibration,
        thresholds=coverage(measured, chosen, calibration),
        behaviors=[
            Behavior(
                name=name,
                count=int(count),
                group="anchor" if is_anchor else "tail",
                trained_on=trained_on.get(name),
            )
            for name, count, is_anchor in zip(
                vocabulary.names, vocabulary.counts, vocabulary.is_anchor, strict=True
            )
        ],
        events=event_mapping(run.log.as_read(run.settings.events)),
        prompt=run.settings.prompt,
        tokens=tokens,
        weights=weights,
        normalization=run.normalization(chosen.arm) if chosen.arm else "full",
        temperature=run.temperature(chosen.arm) if chosen.arm else 1.0,
        counting=counting,
        metrics=metrics,
        uncalibrated=None if calibration is None else uncalibrated,
        origin=Origin(
            run=run.settings.name,
            dataset=run.settings.events.dataset,
            predictor=chosen.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=package_versions(),
            fingerprints=fingerprints,
        ),
    )


def _write_model(
    folder: Path, plan: ExportPlan, run: FinishedRun, arm: str
) -> tuple[Weights, dict[str, int]]:
    config = run.base(arm, plan.base)
    as_asked = config.model_copy(update={"dtype": run.settings.model.dtype})
    found, expected = model_fingerprint(as_asked), run.prepared.manifest.inputs["base"]
    if found != expected:
        raise ConfigError(
            f"{config.base} is not the base model of {run.folder} any more (fingerprint {found[:12]}…, not "
            f"{expected[:12]}…); --base names the place where that one lies"
        )
    stage = run.model(arm)
    if stage is None:
        weights = write_weights(folder, config, load_model(config), is_tuned=False, merged=plan.merged)
        return weights, {}
    model = load_trained(config, storage.local_copy(stage.folder / MODEL))
    return write_weights(folder, config, model, is_tuned=True, merged=plan.merged), run.trained_on(arm)


def _tokens(run: FinishedRun, base: ModelConfig) -> SharedTokens:
    prompt = run.log.prompt
    return SharedTokens(
        instruction_ids=prompt.instruction_ids.tolist(),
        terminator_ids=prompt.terminator_ids.tolist(),
        label_ids=[ids.tolist() for ids in prompt.label_ids],
        max_history_tokens=prompt.max_history_tokens,
        max_positions=max_positions(base),
    )


def _stored(run: FinishedRun, arm: str, held_out: SampleRows, rows: SampleRows) -> NDArray[np.float32]:
    """The run's own label scores of the chosen samples, in their order; float32[n, K]."""
    behaviors = len(run.log.vocabulary)
    scores = np.full((sum(map(len, rows)), behaviors), np.nan, np.float32)
    for batch in open_scores(run.score_folder(arm), held_out).batches(rows, behaviors):
        scores[batch.places] = batch.label_scores
    return scores


def _spread(rows: SampleRows, number: int) -> SampleRows:
    """So many of the samples, evenly over all of them."""
    bounds = np.cumsum([0, *map(len, rows)])
    places = np.unique(np.linspace(0, max(0, bounds[-1] - 1), min(number, bounds[-1])).astype(np.int64))
    return [
        chosen[places[(places >= start) & (places < start + len(chosen))] - start]
        for chosen, start in zip(rows, bounds[:-1].tolist(), strict=True)
    ]


@contextmanager
def unfinished(target: Location) -> Iterator[Path]:
    """A folder that becomes the target after the block, and is gone if the block raises."""
    if not isinstance(target, Path):
        with tempfile.TemporaryDirectory(prefix="behaviorlm-") as name:
            yield Path(name)
            with storage.writing(target) as sent:
                shutil.copytree(name, sent, dirs_exist_ok=True)
        return
    folder = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    try:
        with storage.storage_errors(str(target), "write"):
            folder.mkdir(parents=True)
        yield folder
        with storage.storage_errors(str(target), "write"):
            if target.is_dir():
                target.rmdir()  # an empty one
            os.replace(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _told(chosen: Chosen, compared: list[Told], why: str | None) -> list[str]:
    by = f"recommended by the run{f': {why}' if why else ''}" if compared else "asked for"
    lines = [
        f"{chosen.name} is exported ({by}); mean of anchor accuracy and tail macro recall on validation:"
    ]
    for one in sorted(compared, key=lambda one: -(one.objective or 0.0)) or [chosen.told]:
        value = "nothing to choose by" if one.objective is None else f"{one.objective:.3f}"
        lines.append(f"  {one.name}: {value} ({one.in_words})")
    return lines


def _told_calibration(artifact: Artifact) -> list[str]:
    errors = [f"{group} {before} → {after}" for group, before, after in calibration_errors(artifact)]
    return (
        [f"expected calibration error on test, before → after calibration: {'; '.join(errors)}"]
        if errors
        else []
    )


def _told_check(found: Verification) -> str:
    return (
        f"checked on {found.samples} held-out samples: scores equal the run's to {found.largest_difference:.2g} nats "
        f"({found.dtype}, allowed {found.tolerance:g})"
    )
