"""What each stage does once its inputs are there: reads them, calls the method and the platform, writes its folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behaviorlm.events.source_files import SourceFile
from behaviorlm.files.patient_reads import patience
from behaviorlm.model.adapters import save_trained
from behaviorlm.model.base_model import load_tokenizer
from behaviorlm.prompts.conversations import conversation_id, read_conversations, split_holdout
from behaviorlm.prompts.encoded_conversations import encode_conversations
from behaviorlm.scoring.cloze import read_cloze
from behaviorlm.selection.difficulty import align_judges
from behaviorlm.selection.quotas import select
from behaviorlm.timelines.sample_ids import id_column
from behaviorlm_ray import storage
from behaviorlm_ray.console.progress_lines import ProgressLines
from behaviorlm_ray.evaluation.comparison import EvaluatedSamples, evaluate, validation_metrics
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation import passes as preparation
from behaviorlm_ray.preparation.plan import PreparationPlan
from behaviorlm_ray.preparation.prepared_log import (
    PreparedLog,
    SampleRows,
    count,
    gather,
    half_of,
    limit_per_behavior,
    limit_rows,
    places_in,
    rests_on,
    rows_of_half,
    rows_of_split,
    union_rows,
)
from behaviorlm_ray.scoring.pool import (
    Scored,
    ScoringPool,
    check_scores,
    read_scores,
    score,
    score_without_history,
)
from behaviorlm_ray.scoring.replica import ScoringTask
from behaviorlm_ray.scoring.retention import measure_retention
from behaviorlm_ray.stages.manifests import package_versions
from behaviorlm_ray.stages.running import StageFolder, StageOutput, StageResult
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning.config import TuningConfig
from behaviorlm_ray.tuning.inputs import (
    MixedSource,
    ModelSource,
    ScheduleSource,
    TrainingSamples,
    read_encoded,
    write_encoded,
)
from behaviorlm_ray.tuning.rungs import continue_checkpoint, keep_checkpoint
from behaviorlm_ray.tuning.trainer import tune
from behaviorlm_ray.tuning.worker import TuningTask

Finished = StageOutput | None
"""The output of a finished stage; None where a stage has no such input."""

HOLDOUT_SEED = 0
"""Which conversations are held out never changes, so that no model has been trained on another's."""

MODEL = "model"
SELECTION = "selection.parquet"
SCORES = "scores"
VALIDATION = "validation"
WITHOUT_HISTORY = "without_history.parquet"
ALONE = "without_history"
"""Folder of the scores of distinct questions, until all are there."""
METRICS = "metrics.json"


def hash_of_files(what: str, paths: Sequence[str]) -> str:
    """One SHA-256 of several local files or objects, in their order, with lines of progress about `what` they are."""
    progress = ProgressLines(f"hashing {what}:", len(paths), "files")
    hashes = []
    for path in paths:
        hashes.append(storage.hash_file(storage.location(path)).sha256)
        progress.add(1)
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def open_log(prepared: StageOutput, settings: RunSettings) -> PreparedLog:
    """The prepared log of a finished preparation."""
    return PreparedLog(prepared.folder, settings.prompt)


def prepare(folder: StageFolder, settings: RunSettings, files: Sequence[SourceFile]) -> StageResult:
    """See the module `preparation`."""
    asked = settings.preparation
    partitions, too_few = preparation.partition_count(
        sum(file.size for file in files), asked.partition_megabytes, asked.min_partitions
    )
    warnings = [] if too_few is None else [too_few]
    if too_few is not None:
        print(f"prepare: {too_few}", flush=True)
    plan = PreparationPlan(
        tuple(files),
        settings.events,
        settings.split,
        settings.prompt,
        settings.model,
        partitions,
        folder.output,
        settings.storage.patience_seconds,
    )
    prepared = preparation.prepare(plan, settings.vocabulary)
    rows = {name: value for name, value in prepared.counts.items() if isinstance(value, int)}
    quarantined = prepared.counts["quarantined"]
    warnings += prepared.warnings
    warnings += [f"{number} rows in quarantine: {reason}" for reason, number in quarantined.items()]
    return StageResult(rows=rows, metrics={"quarantined": quarantined}, warnings=warnings)


def encode_auxiliary(folder: StageFolder, settings: RunSettings) -> StageResult:
    """Read and tokenize every source of auxiliary conversations, and mark the held-out ones."""
    tokenizer = load_tokenizer(settings.model)
    rows: dict[str, int] = {}
    quarantined: dict[str, dict[str, int]] = {}
    warnings = []
    for source in settings.auxiliary:
        with patience(settings.storage.patience_seconds):
            found = read_conversations(source)
        encoded = encode_conversations(
            tokenizer, found.conversations, source.max_tokens, settings.prompt.chat_template_kwargs
        )
        ids = [conversation_id(found.conversations[index]) for index in encoded.index]
        is_holdout = split_holdout(ids, source.holdout_share, HOLDOUT_SEED)
        write_encoded(folder.output / f"{source.name}.arrow", encoded.conversations, is_holdout)
        rows |= {f"{source.name}.{name}": value for name, value in encoded.counts.items()}
        rows[f"{source.name}.holdout"] = int(is_holdout.sum())
        quarantined[source.name] = found.quarantine_counts
        warnings += [
            f"{source.name}: {n} conversations set aside: {why}" for why, n in found.quarantine_counts.items()
        ]
    return StageResult(rows=rows, metrics={"quarantined": quarantined}, warnings=warnings)


def tune_model(
    folder: StageFolder,
    settings: RunSettings,
    config: TuningConfig,
    prepared: Finished,
    samples: TrainingSamples,
    half: int | None,
    selection: Finished,
    auxiliary: Sequence[MixedSource],
    start: Finished,
    base: str,
    stop_step: int | None = None,
    earlier: Finished = None,
) -> StageResult:
    """Tune the base model, or go on from `start`, on a set of training samples.

    stop_step: only the first so many steps of that tuning; the checkpoint there is kept for those that go further.
    earlier: such a stage of the same tuning, whose checkpoint is continued. Either way the weights are those that an
    uninterrupted tuning has at that step.
    """
    assert prepared is not None
    first_step, spared = continue_checkpoint(folder, earlier)
    chosen = None if selection is None else selection.folder / SELECTION
    log = open_log(prepared, settings)
    schedule_source = ScheduleSource(log, samples, half, chosen, auxiliary, config)
    schedule = (
        schedule_source()
    )  # opened here as well, so that what is wrong with it shows before workers start
    origin = base if start is None else start.manifest.content_hash
    tuned = tune(
        TuningTask(
            build_model=ModelSource(
                settings.model,
                None if start is None else start.folder / MODEL,
                1 + len(auxiliary),
                config.seed,
            ),
            open_schedule=schedule_source,
            save_model=_save,
            config=config,
            execution=settings.execution.tuning,
            checkpoint_folder=folder.checkpoints,
            output_folder=folder.output,
            base=origin,
            stop_step=stop_step,
            first_step=first_step,
        )
    )
    if stop_step is not None:
        keep_checkpoint(folder, tuned.steps)
    warnings = []
    if schedule.cap_exceeded:
        warnings.append(
            f"{schedule.cap_exceeded} samples are in a step with more than max_samples_per_timeline_per_step "
            f"({config.max_samples_per_timeline_per_step}) of their timeline: too few timelines for such steps"
        )
    return StageResult(
        rows={"steps": tuned.steps, "samples": tuned.samples, "steps_of_whole": len(schedule)},
        metrics={"loss": tuned.loss},
        warnings=warnings,
        cost={"tokens": tuned.tokens, "seconds": tuned.seconds, "tokens_continued": spared},
    )


def score_difficulty(
    folder: StageFolder, settings: RunSettings, prepared: Finished, models: Mapping[str, Finished | str]
) -> StageResult:
    """Score every training sample with the model that is to judge it, and with the reference if there is one.

    Models by name: "model" judges all; "model_half_0" was tuned on half 0 and judges half 1, and so on; likewise
    "reference_half_…".
    """
    assert prepared is not None
    log = open_log(prepared, settings)
    limits = settings.difficulty
    rows = limit_per_behavior(log, rows_of_split(log, "train"), limits.max_per_behavior, limits.seed)
    measures, tokens = _measured(folder, settings, log, rows, models, "model")
    table: dict[str, Any] = {"behavior": gather(log, rows, "behavior"), **measures}
    if "model" not in models:
        table["judge"] = 1 - half_of(log, rows)  # the model of a half judges the other one
    if any(name.startswith("reference") for name in models):
        reference, more = _measured(folder, settings, log, rows, models, "reference")
        tokens += more
        table["reducible"] = measures["nll"] - reference["nll"]
    columns = {"sample_id": id_column(gather(log, rows, "sample_id"))}
    _write_table(folder.output / "difficulty.parquet", pa.table(columns | table))
    means = {f"mean_{name}": float(np.mean(values)) for name, values in measures.items()}
    return StageResult(rows={"samples": count(rows)}, metrics=means, cost={"tokens": tokens})


def select_samples(
    folder: StageFolder, settings: RunSettings, prepared: Finished, scored: Finished
) -> StageResult:
    """Choose the balanced subset by difficulty."""
    assert prepared is not None and scored is not None
    vocabulary = open_log(prepared, settings).vocabulary
    table = pq.read_table(storage.local_copy(scored.folder / "difficulty.parquet"))
    behavior = table["behavior"].to_numpy()
    difficulty = ordering(table, settings.difficulty.measure)
    chosen, report = select(
        table["sample_id"],
        behavior,
        difficulty,
        vocabulary.is_anchor,
        list(vocabulary.names),
        settings.selection,
    )
    _write_table(folder.output / SELECTION, table.filter(pa.array(chosen)))
    anchors = int(vocabulary.is_anchor[behavior[chosen]].sum())
    summary = report.to_dict(list(vocabulary.names))
    for index, name in enumerate(vocabulary.names):
        members = chosen & (behavior == index)
        mean = float(difficulty[members].mean()) if members.any() else None
        summary["behaviors"][name]["mean_difficulty"] = mean
    _write_json(folder.output / "selection.json", summary)
    warnings = (
        [f"the selection is {report.shortfall} samples short of {report.requested}"]
        if report.shortfall
        else []
    )
    rows = {"samples": report.selected, "anchors": anchors, "tail": report.selected - anchors}
    return StageResult(rows=rows, warnings=warnings)


def ordering(table: pa.Table, measure: str) -> np.ndarray:
    """A measure of a table of difficulty, float64[n], comparable among the samples of a behavior: `align_judges` where
    each half of the samples had its own.
    """
    values = table[measure].to_numpy().astype(np.float64)
    if "judge" not in table.column_names:
        return values
    return align_judges(values, table["behavior"].to_numpy(), table["judge"].to_numpy())


def score_arm(
    folder: StageFolder, settings: RunSettings, prepared: Finished, model: Finished, conversations: Finished
) -> StageResult:
    """Label scores of validation and test samples, and the loss on held-out conversations, of one model."""
    assert prepared is not None
    log = open_log(prepared, settings)
    samples = evaluated_samples(log, settings)
    task = _scoring_task(settings, log, model, measures=False)
    both = union_rows(samples.validation, samples.test)
    scored = _score_into(folder, SCORES, task, both, _pool(settings))
    check_scores(folder.output / SCORES, both)
    rows = {"validation": count(samples.validation), "test": count(samples.test)}
    if model is None and count(samples.test):
        owned = _owned(folder, ALONE, task)
        earlier = [attempt / ALONE for attempt in folder.earlier]
        alone = score_without_history(owned, samples.test, folder.output / ALONE, _pool(settings), earlier)
        table = pa.table({"label_scores": pa.array(list(alone), pa.list_(pa.float32()))})
        _write_table(folder.output / WITHOUT_HISTORY, table)
        storage.remove_folder(folder.output / ALONE)
    held_out = {}
    if conversations is not None:
        for source in settings.auxiliary:
            talks = read_encoded(conversations.folder / f"{source.name}.arrow", True)
            held_out[source.name] = talks[: settings.evaluation.retention_conversations]
    with patience(settings.storage.patience_seconds):
        questions = read_cloze(settings.evaluation.cloze) if settings.evaluation.cloze else []
    tokenizer = load_tokenizer(settings.model) if questions else None
    retention = measure_retention(task, held_out, tokenizer, questions)
    _write_json(folder.output / "retention.json", retention)
    return StageResult(rows=rows, metrics={"retention": retention}, cost={"tokens": scored.tokens})


def validate_arm(
    folder: StageFolder, settings: RunSettings, prepared: Finished, model: Finished
) -> StageResult:
    """Score the validation samples, and only them, with one model and measure the objective of a search."""
    assert prepared is not None
    log = open_log(prepared, settings)
    rows = validation_samples(log, settings)
    task = _scoring_task(settings, log, model, measures=False)
    scored = _score_into(folder, VALIDATION, task, rows, _pool(settings))
    label_scores = read_scores(folder.output / VALIDATION, log, rows).get(
        "label_scores", np.zeros((0, 0), np.float32)
    )
    metrics = validation_metrics(log, rows, label_scores, settings.evaluation.tail_minimum_targets)
    _write_json(folder.output / METRICS, metrics)
    return StageResult(rows={"validation": count(rows)}, metrics=metrics, cost={"tokens": scored.tokens})


def evaluate_arms(
    folder: StageFolder, settings: RunSettings, prepared: Finished, arms: Mapping[str, Finished]
) -> StageResult:
    """Compare all arms and the baselines; results.json and details.json."""
    assert prepared is not None
    log = open_log(prepared, settings)
    samples = evaluated_samples(log, settings)
    tested, chosen_on = rests_on(log, samples.test), rests_on(log, samples.validation)
    print(f"evaluate: measured on {tested}, choices made on {chosen_on}", flush=True)
    scores: dict[str, dict[str, np.ndarray]] = {}
    retention: dict[str, Any] = {}
    for arm, output in arms.items():
        assert output is not None
        scores[arm] = read_label_scores(output, log, samples)
        if WITHOUT_HISTORY in output.manifest.files:
            path = storage.local_copy(output.folder / WITHOUT_HISTORY)
            alone = pq.read_table(path)["label_scores"].combine_chunks()
            scores[arm]["without_history"] = alone.values.to_numpy().reshape(len(alone), -1)
        retention[arm] = json.loads(storage.read_text(output.folder / "retention.json"))
    comparison = evaluate(
        log,
        samples,
        scores,
        tau_grid=settings.evaluation.tau,
        resamples=settings.evaluation.bootstrap_samples,
        seed=settings.evaluation.seed,
        tail_minimum_targets=settings.evaluation.tail_minimum_targets,
        truth=settings.evaluation.truth,
    )
    _write_json(folder.output / "results.json", comparison.results | {"retention": retention})
    _write_json(folder.output / "details.json", comparison.details)
    rows = {"test": count(samples.test), "validation": count(samples.validation)}
    return StageResult(rows=rows, warnings=comparison.warnings)


def read_label_scores(
    scored: StageOutput, log: PreparedLog, samples: EvaluatedSamples
) -> dict[str, np.ndarray]:
    """What `score_arm` wrote: float32 [n, K] by split, in the order of the split's rows."""
    both = union_rows(samples.validation, samples.test)
    label_scores = read_scores(scored.folder / SCORES, log, both)["label_scores"]
    return {
        split: label_scores[places_in(both, chosen)]
        for split, chosen in (("validation", samples.validation), ("test", samples.test))
    }


def evaluated_samples(log: PreparedLog, settings: RunSettings) -> EvaluatedSamples:
    """The validation and test samples that models are measured on."""
    evaluation = settings.evaluation
    test = limit_rows(log, rows_of_split(log, "test"), evaluation.max_samples, evaluation.seed)
    return EvaluatedSamples(validation_samples(log, settings), test)


def validation_samples(log: PreparedLog, settings: RunSettings) -> SampleRows:
    """The validation samples on which choices are made."""
    evaluation = settings.evaluation
    return limit_rows(
        log, rows_of_split(log, "validation"), evaluation.max_validation_samples, evaluation.seed
    )


def _measured(
    folder: StageFolder,
    settings: RunSettings,
    log: PreparedLog,
    rows: SampleRows,
    models: Mapping[str, Finished | str],
    kind: str,
) -> tuple[dict[str, np.ndarray], int]:
    """The measures of every training sample under the models of one kind, in the order of `rows`; tokens it took."""
    if kind in models:
        return _scored_by(folder, settings, log, rows, models[kind], kind)
    halves = [rows_of_half(log, rows, half) for half in (0, 1)]
    judged = [
        _scored_by(folder, settings, log, halves[1 - half], models[f"{kind}_half_{half}"], f"{kind}_{half}")
        for half in (0, 1)
    ]
    place = [places_in(rows, halves[1 - half]) for half in (0, 1)]
    merged = {}
    for name in judged[0][0]:
        merged[name] = np.empty(count(rows))
        for half in (0, 1):
            merged[name][place[half]] = judged[half][0][name]
    return merged, judged[0][1] + judged[1][1]


def _scored_by(
    folder: StageFolder,
    settings: RunSettings,
    log: PreparedLog,
    rows: SampleRows,
    model: Finished | str,
    name: str,
) -> tuple[dict[str, np.ndarray], int]:
    task = _scoring_task(settings, log, model if isinstance(model, StageOutput) else None, measures=True)
    path = f"{SCORES}/{name}"
    scored = _score_into(folder, path, task, rows, _pool(settings))
    return read_scores(folder.output / path, log, rows), scored.tokens


def _score_into(
    folder: StageFolder, path: str, task: ScoringTask, rows: SampleRows, pool: ScoringPool
) -> Scored:
    """Score into a path of the stage's output, with what earlier attempts left there."""
    earlier = [attempt / path for attempt in folder.earlier]
    return score(_owned(folder, path, task), rows, folder.output / path, pool, earlier)


def _owned(folder: StageFolder, path: str, task: ScoringTask) -> ScoringTask:
    """The task with its owner: the stage, whose fingerprint tells the version of its code, and the place in it."""
    return replace(task, owner=f"{folder.stage}/{path}, {package_versions()}")


def _scoring_task(settings: RunSettings, log: PreparedLog, model: Finished, *, measures: bool) -> ScoringTask:
    return ScoringTask(
        log,
        settings.model,
        None if model is None else model.folder / MODEL,
        measures,
        settings.execution.scoring_tokens,
        settings.execution.cpus_per_actor,
        settings.execution.tuning.use_gpu,
    )


def _pool(settings: RunSettings) -> ScoringPool:
    execution = settings.execution
    return ScoringPool(
        execution.scoring_actors,
        execution.windows_per_batch,
        execution.cpus_per_actor,
        execution.tuning.use_gpu,
    )


def _save(model: Any, folder: Path) -> None:
    """The tuned weights in files that the method library reads."""
    save_trained(model, folder)


def _write_table(place: Location, table: pa.Table) -> None:
    with storage.writing_file(place) as path:
        pq.write_table(table, path)


def _write_json(place: Location, value: Any) -> None:
    storage.write_replacing(place, json.dumps(value, indent=1).encode())
