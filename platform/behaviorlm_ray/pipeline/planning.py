"""The dry run for people: which stages would run or be reused, over what, with which resources, and what comes out."""

import numpy as np

from behaviorlm.selection.quotas import quotas
from behaviorlm.training.schedule import step_count, steps_per_epoch
from behaviorlm_ray.pipeline.pipeline import AskedTuning, Pipeline
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import (
    count,
    gather,
    limit_per_behavior,
    rows_of_anchors,
    rows_of_split,
)
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning.inputs import training_rows


def describe_plan(pipeline: Pipeline) -> list[str]:
    """Lines of the plan; `pipeline` must have been walked with planning on."""
    settings = pipeline.settings
    lines = [f"run {settings.name}: plan (nothing was run or written)", "", "stages"]
    width = max((len(plan.name) for plan in pipeline.plans), default=0)
    for plan in pipeline.plans:
        verb = {"reuse": "reuse", "run": "run", "unknown": "run"}[plan.action]
        lines.append(f"  {plan.name:<{width}} {verb:<6} {plan.reason}")
    files = pipeline.log_files
    size = sum(file.size for file in files) / 2**20
    lines += ["", "input", f"  {settings.events.dataset}: {len(files)} file(s), {size:.1f} MiB"]
    lines += [
        f"  auxiliary {s.name}: {s.ratio:g} per sample, weight {s.weight:g}" for s in settings.auxiliary
    ]
    lines += ["", "samples and tokens", *_samples(pipeline)]
    tuning = settings.execution.tuning
    device = "GPU" if tuning.use_gpu else "CPU"
    lines += [
        "",
        "resources",
        f"  tuning: {tuning.workers} worker(s) x {tuning.cpus_per_worker} CPU"
        f"{' + 1 GPU' if tuning.use_gpu else ''}, ZeRO {tuning.zero_stage}, on {device}",
        f"  scoring: up to {settings.execution.scoring_actors} replica(s) x {settings.execution.cpus_per_actor} CPU"
        f"{' + 1 GPU' if tuning.use_gpu else ''}",
        "",
        "outputs",
        f"  {output_folder(settings)}: report.html, results.json, details.json, config.yaml, tensorboard/",
        f"  {pipeline.root / 'stages'}: every stage with its manifest",
    ]
    return lines


def output_folder(settings: RunSettings) -> Location:
    """Where the report and the results of a run are written."""
    return settings.storage.place / settings.name


def _samples(pipeline: Pipeline) -> list[str]:
    if "prepare" not in pipeline.outputs:
        return ["  known once `prepare` has run"]
    log = pipeline.log()
    train = rows_of_split(log, "train")
    anchors = rows_of_anchors(log, train)
    lines = [f"  training samples {count(train)}, of them {count(anchors)} with an anchor target"]
    tokens = sum(int(part.lines.lengths().sum() + part.questions.lengths().sum()) for part in log.parts)
    lines.append(f"  {tokens} tokens of history lines and questions in {len(log.parts)} parts")
    described: dict[str, str] = {}
    for walked in (pipeline, *pipeline.variants.values()):
        for name, tuning in walked.tunings.items():
            recipe = walked.recipes[name]
            if recipe not in described:  # else an arm shares the stage
                described[recipe] = f"  {pipeline.shared.plans[recipe].name}: {_steps(walked, tuning)}"
    return lines + list(described.values())


def _steps(pipeline: Pipeline, tuning: AskedTuning) -> str:
    """How many steps of how many samples a tuning has."""
    config, log = tuning.config, pipeline.log()
    if tuning.samples == "selected":
        samples = _selected_samples(pipeline)
    else:
        samples = count(training_rows(log, tuning.samples, tuning.half, None))
    steps = step_count(samples, config.samples_per_step, config.epochs, config.max_steps)
    steps = steps if tuning.stop_step is None else min(steps, tuning.stop_step)
    per_step = samples / steps_per_epoch(samples, config.samples_per_step)
    return f"{steps} steps of about {round(per_step)} samples, of {samples} in an epoch"


def _selected_samples(pipeline: Pipeline) -> int:
    """How many samples the selection takes. Scores decide which, not how many. Raises DataError as `quotas` does."""
    log, settings = pipeline.log(), pipeline.settings
    limits = settings.difficulty
    rows = limit_per_behavior(log, rows_of_split(log, "train"), limits.max_per_behavior, limits.seed)
    names = list(log.vocabulary.names)
    counts = np.bincount(gather(log, rows, "behavior"), minlength=len(names))
    return int(quotas(counts, log.vocabulary.is_anchor, names, settings.selection).sum())
