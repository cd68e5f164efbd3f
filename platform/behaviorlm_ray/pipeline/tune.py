"""The stages that tune a base model: `a_tune`, `one_stage` and their halves; what they share with `b_tune`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from behaviorlm.model.allowed_tokens import allowed_tokens
from behaviorlm.prompts.config import AuxiliarySource
from behaviorlm.timelines.parts import labels_with_terminator, tokens_of_labels
from behaviorlm.training.balance import shown_counts
from behaviorlm_ray import storage
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.pipeline.conversations import conversations
from behaviorlm_ray.pipeline.costs import tuning_cost
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.reference import TAIL_SCORES, reference
from behaviorlm_ray.pipeline.run import MODEL, Run, plain
from behaviorlm_ray.pipeline.step_packs import cap_warnings, first_step_warnings, idle_workers, packs_a_step
from behaviorlm_ray.pipeline.tuning_plan import TuningPlan, described_steps
from behaviorlm_ray.preparation.prepared_log import counts_of
from behaviorlm_ray.stages.attempts import SCRATCH, StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.stage import CONTINUED, Made, Stage
from behaviorlm_ray.tuning.training_rows import kept_tokens, training_rows

if TYPE_CHECKING:
    from behaviorlm_ray.tuning.inputs import ModelSource, ScheduleSource

VERSION = 2
"""Of A-Tuning, one-stage tuning and B-Tuning, with halves and rungs."""

SELECTION = "selection.parquet"
SCHEDULE = "schedule.arrow"
"""Which samples are in which step, below the scratch of a stage while it runs."""


def a_tune(run: Run, half: int | None = None) -> Stage:
    """A-Tuning: the base model on samples with an anchor target and auxiliary conversations."""
    name = "a_tune" if half is None else f"a_tune_half_{half}"
    config = run.settings.a_tuning
    plan = TuningPlan("a_tuning", config.common, "anchors", mixed=True, half=half, keep=config.keep_tail)
    held = {} if plan.keep is None else {"reference": reference(run, plan.keep)}
    return tuning_stage(run, name, plan, held)


def one_stage(run: Run, half: int | None = None) -> Stage:
    """One-stage tuning: the base model on all samples."""
    name = "one_stage" if half is None else f"one_stage_half_{half}"
    mixed = run.settings.auxiliary_in_one_stage
    plan = TuningPlan("one_stage", run.settings.one_stage, "all", mixed=mixed, half=half)
    return tuning_stage(run, name, plan)


def start(run: Run, half: int | None = None) -> Stage:
    """The tuning that B-Tuning goes on from."""
    return (a_tune if run.settings.b_tuning_from == "a_tuned" else one_stage)(run, half)


def tuning_stage(
    run: Run,
    name: str,
    tuning: TuningPlan,
    inputs: Mapping[str, Stage] | None = None,
    continues: Stage | None = None,
) -> Stage:
    """A stage that tunes. inputs: "start", whose model it goes on from, "selection", for samples "selected", and
    "reference", where samples are held to it.
    """
    sources = [source for source in run.settings.auxiliary if source.ratio > 0] if tuning.mixed else []
    before = {"prepared": prepare(run)} | ({"conversations": conversations(run)} if sources else {})

    def check_anchors(prepared: StageOutput) -> None:
        open_log(prepared, run.settings).vocabulary.require_anchors()

    return Stage(
        name=name,
        version=VERSION,
        identity=_identity(run, tuning, sources),
        inputs={**before, "base": run.inputs.base, **(inputs or {})},
        body=lambda folder, made: _tune(folder, made, run, tuning, sources),
        input_checks={"prepared": check_anchors} if tuning.samples == "anchors" else {},
        continues=continues,
        estimate=lambda made: _estimate(made, run, tuning),
        cost=lambda sample: tuning_cost(run, tuning, sample),
        group="tune",
        arm=run.arm,
    )


def _identity(run: Run, tuning: TuningPlan, sources: Sequence[AuxiliarySource]) -> dict[str, Any]:
    """What decides what is tuned."""
    identity: dict[str, Any] = {
        "tuning": plain(tuning.config),
        "model": run.model_identity,
        "samples": tuning.samples,
        "half": tuning.half,
        "auxiliary": [
            {"name": source.name, "ratio": source.ratio, "weight": source.weight} for source in sources
        ],
    }
    # Only where there is any, so that what was tuned before these were keys keeps its identity.
    identity |= {} if tuning.stop_step is None else {"stop_step": tuning.stop_step}
    identity |= run.few_shot_identity if tuning.samples == "all" else {}
    identity |= run.few_anchors_identity if tuning.samples == "anchors" else {}
    loss = run.settings.loss.model_dump(mode="json", exclude_defaults=True)
    identity |= {"loss": loss} if loss else {}
    identity |= {"removed_dropout": run.inputs.removed_dropout} if run.inputs.removed_dropout else {}
    identity |= {} if tuning.keep is None else {"keep_tail": plain(tuning.keep)}
    return identity


def _estimate(made: Made, run: Run, tuning: TuningPlan) -> str | None:
    """The steps of a tuning, and which workers would have nothing to do; None before the log is prepared."""
    if "prepared" not in made:
        return None
    log = open_log(made["prepared"], run.settings)
    rows = training_rows(log, tuning.samples, tuning.half, None)
    kept = 0.0 if (keep := tuning.keep) is None else keep.share * kept_tokens(log, keep)
    packs = packs_a_step(log.parts, rows, log.prompt, tuning.config, kept)
    told = idle_workers(packs, run.settings.execution.tuning.workers, tuning)
    shown = shown_counts(counts_of(log, rows), run.settings.loss.oversample)
    return "; warning: ".join([described_steps(tuning, int(shown.sum())), *told])


def _save(model: Any, folder: Path) -> None:
    """The tuned weights in files that the method library reads."""
    from behaviorlm.model.adapters import save_trained

    save_trained(model, folder)


def _tune(
    folder: StageFolder, made: Made, run: Run, tuning: TuningPlan, sources: Sequence[AuxiliarySource]
) -> StageResult:
    """Tune the base model, or go on from `start`.

    The output of an earlier rung, whose checkpoint is continued, may be there. With or without it the weights are those
    that an uninterrupted tuning has at that step.
    """
    # here, because these bring Ray Train, DeepSpeed and peft, which a plan does without
    from behaviorlm_ray.tuning.rungs import continue_checkpoint, keep_checkpoint
    from behaviorlm_ray.tuning.trainer import tune
    from behaviorlm_ray.tuning.worker import TuningTask

    settings, config = run.resolved, tuning.config
    first_step, spared = continue_checkpoint(folder, made.get(CONTINUED))
    begun = made.get("start")
    model_source, schedule_source = _sources(made, run, tuning, sources)
    # here, so that it is made once, and what is wrong shows before workers start
    schedule, balance = schedule_source.made()
    steps, warnings = len(schedule), cap_warnings(schedule, tuning)
    for told in first_step_warnings(schedule, settings.execution.tuning.workers, tuning):
        screen().says(f"{tuning.key}: {told}")
    scratch = folder.output / SCRATCH
    with storage.writing_file(scratch / SCHEDULE) as path:
        schedule.store(path)
    del schedule  # it may be large
    tuned = tune(
        TuningTask(
            build_model=model_source,
            open_schedule=replace(schedule_source, stored=(scratch / SCHEDULE, balance)),
            save_model=_save,
            config=config,
            execution=settings.execution.tuning,
            checkpoint_folder=folder.checkpoints,
            earlier_checkpoints=folder.earlier_checkpoints,
            output_folder=folder.output,
            base=run.inputs.base if begun is None else begun.manifest.content_hash,
            stop_step=tuning.stop_step,
            first_step=first_step,
        )
    )
    storage.remove_folder(scratch)
    if tuning.stop_step is not None:
        keep_checkpoint(folder, tuned.steps)
    return StageResult(
        rows={"steps": tuned.steps, "samples": tuned.samples, "steps_of_whole": steps},
        metrics={
            "loss": tuned.loss,
            "dtype": settings.model.dtype,
            "zero_stage": tuned.zero_stage,
            "zero_reason": tuned.zero_reason,
        },
        warnings=warnings,
        cost={"tokens": tuned.tokens, "seconds": tuned.seconds, "tokens_continued": spared},
    )


def _sources(
    made: Made, run: Run, tuning: TuningPlan, sources: Sequence[AuxiliarySource]
) -> tuple["ModelSource", "ScheduleSource"]:
    """What workers open: the model, and the steps."""
    from behaviorlm_ray.tuning.inputs import MixedSource, ModelSource, ScheduleSource
    from behaviorlm_ray.tuning.tail_source import TailSource

    settings, config, loss = run.resolved, tuning.config, run.settings.loss
    log = open_log(made["prepared"], settings)
    begun = made.get("start")
    mixed = [
        MixedSource(each.name, made["conversations"].folder / f"{each.name}.arrow", each.ratio, each.weight)
        for each in sources
    ]
    keep = tuning.keep
    tail = None if keep is None else TailSource(log, keep, made["reference"].folder / TAIL_SCORES)
    model = ModelSource(
        settings.model,
        None if begun is None else begun.folder / MODEL,
        1 + len(mixed) + (tail is not None),
        config.seed,
        settings.execution.allow_plain,
        None if loss.tokens == "all" else tokens_of_labels(log.prompt),
        tail,
        allowed_tokens(labels_with_terminator(log.prompt), loss.temperature)
        if loss.tokens == "allowed"
        else None,
        loss.focal,
        settings.execution.tuning.use_gpu,
    )
    selection = made["selection"].folder / SELECTION if "selection" in made else None
    return model, ScheduleSource(log, tuning.samples, tuning.half, selection, mixed, config, tail, loss)
