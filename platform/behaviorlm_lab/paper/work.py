"""What the runs of exhibits would still do, each stage once however many runs share it, and about how long it takes."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from behaviorlm_lab.paper.cost import FITTING, TUNING
from behaviorlm_lab.paper.runs import NeededRun, files_to_make
from behaviorlm_lab.paper.settings import PaperSettings, WorldSettings
from behaviorlm_lab.pretraining.recipe import ASSET, BATCH_CHATS, BATCH_OTHERS, SIZES
from behaviorlm_ray.costs.config import ImaginedLog
from behaviorlm_ray.costs.stage_cost import model_hours
from behaviorlm_ray.pipeline.costs import card_for
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.imagined_run import imagined_run, sample_of_numbers
from behaviorlm_ray.pipeline.planning import first_rows_of, log_sample
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.stages.stage import Stage, in_order

KINDS = ("tuning", "scoring", "prediction", "fit of an opponent", "evaluation", "other stage")
SECONDS = dict(zip(KINDS, (2.0, 8.0, 4.0, 60.0, 6.0, 1.0), strict=True))
"""Of a stage beside its model's work: processes that start, files, counting. As two idle cores took it."""
DOCUMENT_TOKENS = 60
"""Of what a base reads in pretraining, about."""


@dataclass(frozen=True)
class ToDo:
    """A stage, or a base, that is not there yet. seconds: wall time, about; None: not known."""

    kind: str
    seconds: float | None


def work_to_do(paper: PaperSettings, runs: Mapping[str, NeededRun]) -> list[ToDo]:
    """Of all these runs; nothing is made. Raises what their plans do."""
    found: dict[str, ToDo] = {}
    for needed in runs.values():
        found |= _of_run(paper, needed)
    return list(found.values())


def work_in_words(work: Iterable[ToDo]) -> list[str]:
    """How many of each kind, and hours."""
    work = list(work)
    number = Counter(one.kind for one in work)
    if not work:
        return ["nothing"]
    parts = [_several(number[kind], kind) for kind in ("base", *KINDS) if number[kind]]
    known = [one.seconds for one in work if one.seconds is not None]
    if len(known) < len(work):
        hours = "hours are not known: set execution.costs.gigaflops or .card, in `values`"
    else:
        hours = (
            f"about {sum(known) / 3600:.1f} hours on idle cores, as many as the runs ask for (docs/paper.md)"
        )
    return [", ".join(parts), hours]


def kind_of(stage: str) -> str:
    """What a stage of this name is counted as."""
    named = {"evaluate": "evaluation", "score": "scoring", "reference": "scoring", "ask": "prediction"}
    if stage in named:
        return named[stage]
    if stage.startswith(FITTING):
        return "fit of an opponent"
    if stage.startswith(TUNING):
        return "tuning"
    return "prediction" if stage.startswith("predict_") else "other stage"


def _of_run(paper: PaperSettings, needed: NeededRun) -> dict[str, ToDo]:
    """By what tells stages of several runs apart."""
    missing = files_to_make(paper, needed)
    settings, found = needed.settings, {}
    if missing:
        if needed.base_size is not None:
            settings = _with_shape(settings, needed.base_size)
        run = imagined_run(settings)
        stages = in_order([evaluate(run)])
        sample = (
            None if paper.world is None else sample_of_numbers(run.settings, _world_in_numbers(paper.world))
        )
        if "base" in missing:
            assert needed.base_size is not None
            found[needed.base_size] = ToDo("base", _seconds_of_base(settings, needed.base_size, paper))
    else:
        run = open_run(settings)
        runner = run.runner()
        stages = [stage for stage, plan in runner.plan(evaluate(run)) if plan.output is None]
        sample = log_sample(run, runner, lambda: first_rows_of(run)) if stages else None
    for stage in stages:
        hours: float | None = 0.0
        if stage.cost is not None:
            costs = settings.execution.costs
            hours = None
            if sample is not None:
                hours = model_hours(stage.cost(sample), card_for(settings), costs.gigaflops)
        at_once = _at_once(settings, stage)
        seconds = None if hours is None else hours * 3600 / at_once + SECONDS[kind_of(stage.name)]
        found[f"{needed.base_size} {stage.recipe}"] = ToDo(kind_of(stage.name), seconds)
    return found


def _at_once(settings: RunSettings, stage: Stage) -> int:
    """Cores, or cards, that a stage's model has here."""
    execution = settings.execution
    is_tuning = kind_of(stage.name) == "tuning"
    asked = execution.tuning.workers if is_tuning else execution.scoring_actors
    return asked if execution.tuning.use_gpu else max(1, min(asked, os.cpu_count() or 1))


def _with_shape(settings: RunSettings, size: str) -> RunSettings:
    """With the shipped base in the shape of one that is not made yet."""
    of = SIZES[size]
    shape = {
        "hidden_size": of.width,
        "intermediate_size": of.inner_width,
        "num_hidden_layers": of.layers,
        "num_attention_heads": of.width // 32,
        "num_key_value_heads": of.width // 32,
    }
    model = settings.model.model_copy(update={"base": str(ASSET), "config_overrides": shape})
    return settings.model_copy(update={"model": model})


def _world_in_numbers(world: WorldSettings) -> ImaginedLog:
    """A line of a world's log is three tokens, of which the clock is known before."""
    return ImaginedLog(
        events=world.users * sum(world.events) / 2,
        users=world.users,
        behaviors=40,
        line_tokens=3,
        question_tokens=1,
        name_tokens=2,
        conversation_tokens=80,
    )


def _seconds_of_base(settings: RunSettings, size: str, paper: PaperSettings) -> float | None:
    """On one core, as the recipe has it."""
    gigaflops, of = settings.execution.costs.gigaflops, SIZES[size]
    if gigaflops is None:
        return None
    weights = of.layers * (4 * of.width**2 + 3 * of.width * of.inner_width) + 1536 * of.width
    tokens = paper.pretraining_steps * (BATCH_CHATS + BATCH_OTHERS) * DOCUMENT_TOKENS
    return 6 * weights * tokens / (gigaflops * 1e9)


def _several(number: int, what: str) -> str:
    return (
        f"{number} {what if number == 1 else 'fits of opponents' if what.startswith('fit') else what + 's'}"
    )
