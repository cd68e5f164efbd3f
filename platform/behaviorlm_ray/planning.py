"""The dry run for people: which stages would run or be reused, over what, with which resources, and what comes out."""

import math

from behaviorlm_ray.pipeline import Pipeline
from behaviorlm_ray.prepared import count, rows_of_anchors, rows_of_split
from behaviorlm_ray.settings import RunSettings
from behaviorlm_ray.storage import Location


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
    log, settings = pipeline.log(), pipeline.settings
    train = rows_of_split(log, "train")
    anchors = rows_of_anchors(log, train)
    lines = [f"  training samples {count(train)}, of them {count(anchors)} with an anchor target"]
    tokens = sum(int(part.lines.lengths().sum() + part.questions.lengths().sum()) for part in log.parts)
    lines.append(f"  {tokens} tokens of history lines and questions in {len(log.parts)} parts")
    for name, config, samples in (
        ("a_tune", settings.a_tuning, count(anchors)),
        ("one_stage", settings.one_stage, count(train)),
    ):
        steps = max(1, round(config.epochs * max(1, round(samples / config.samples_per_step))))
        steps = steps if config.max_steps is None else min(steps, config.max_steps)
        lines.append(
            f"  {name}: {steps} steps of about {math.ceil(samples / max(1, steps / config.epochs))} samples"
        )
    return lines
