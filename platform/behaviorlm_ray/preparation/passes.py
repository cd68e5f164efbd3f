"""Preparation on Ray Data: from log files to timelines with token runs, the vocabulary and the prompt.

Two streaming passes without a shuffle in memory. The first reads files and writes each event to the part of its user;
the second puts each part in order, splits it and tokenizes its lines and questions once. Memory is bounded by the
size of a part.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import ray

from behaviorlm.errors import DataError, StorageError
from behaviorlm.events.facts import LogFacts
from behaviorlm.events.normalization import check_quarantine
from behaviorlm.events.summary import check_quarantined_behaviors, doubts, summary, worst_losses
from behaviorlm.model.base_model import load_tokenizer, max_positions
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.timelines.config import VocabularyConfig
from behaviorlm.timelines.splits import SPLIT_NAMES, check_labels
from behaviorlm.timelines.vocabulary import build_vocabulary, check_behaviors
from behaviorlm_ray import storage
from behaviorlm_ray.console.progress_lines import ProgressLines
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.preparation.arranging import build_part
from behaviorlm_ray.preparation.plan import QUARANTINE, PreparationPlan, ReadingPlan
from behaviorlm_ray.preparation.reading import check_zones, read_file

PlanT = TypeVar("PlanT", bound=ReadingPlan)
Task = Callable[[int, PlanT], dict[str, Any]]


@dataclass(frozen=True)
class PreparationReport:
    """What preparation found: counts, all facts of the log, and warnings."""

    counts: dict[str, Any]
    facts: LogFacts
    warnings: list[str]


def prepare_log(plan: PreparationPlan, vocabulary_config: VocabularyConfig) -> PreparationReport:
    """Run both passes and write parts, vocabulary.json, prompt.json, counts.json and quarantine/ into the folder.

    Raises DataError for logs that cannot be used; see the events package.
    """
    for name in (QUARANTINE, "parts"):
        storage.make_folder(plan.folder / name)
    read = run_tasks("read", read_file, len(plan.log.files), plan, "files")
    facts = _together(read)
    _check_first_pass(plan, read, facts, vocabulary_config.extra_names)
    built = run_tasks("arranged", build_part, plan.partitions, plan, "parts")
    storage.remove_folder(plan.scratch)
    facts += _together(built)
    behaviors: Counter[str] = Counter()
    for report in built:
        behaviors.update(report["behaviors"])
    vocabulary = build_vocabulary(dict(behaviors), vocabulary_config)
    encoder = PromptEncoder(load_tokenizer(plan.model), plan.prompt)
    longest = max((report["longest_question"] for report in built), default=0)
    prompt = encoder.prompt_tokens(vocabulary.names, max_positions(plan.model), longest)
    storage.write_replacing(plan.folder / "vocabulary.json", vocabulary.to_json().encode())
    storage.write_replacing(plan.folder / "prompt.json", prompt.to_json().encode())
    limit = prompt.max_history_tokens
    lengths = [length for report in built for length in report["history_tokens"]]
    cut = sum(number for tokens, number in lengths if tokens > limit)
    anchors = int(np.sum(vocabulary.is_anchor))
    facts = facts.model_copy(update={"anchors": anchors, "tail": len(vocabulary.names) - anchors})
    counts = {
        "rows": facts.rows,
        "quarantined": facts.quarantined,
        **facts.counts,
        **{f"samples_{name}": facts.counts[f"{name}_targets"] for name in SPLIT_NAMES},
        "samples_with_cut_history": cut,
        "behaviors": len(vocabulary.names),
        "anchors": anchors,
        "tail": facts.tail,
    }
    content = {**counts, "facts": facts.model_dump(mode="json")}
    storage.write_replacing(plan.folder / "counts.json", json.dumps(content, indent=2).encode())
    said = doubts(facts)
    if cut:
        samples = sum(number for _, number in lengths)
        said.append(_warning_of_cut_histories(cut, samples, limit, plan.prompt))
    for line in said:
        screen().says(f"prepare: {line}")
    return PreparationReport(counts, facts, [*vocabulary.warnings, *said])


def run_tasks(
    name: str,
    function: Task[PlanT],
    tasks: int,
    plan: PlanT,
    unit: str,
    *,
    work: str = "prepare",
    pool: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Run task 0, 1, … through Ray Data and collect their small reports; errors of ours are raised whole.

    pool: None: tasks; else options of `map_batches` for actors, which keep what a function has loaded.
    """
    dataset = ray.data.range(tasks, override_num_blocks=tasks)
    dataset.set_name(name)
    if pool is None:
        reported = dataset.map_batches(_ReportingTask(function, plan), batch_size=1)
    else:
        reported = dataset.map_batches(
            _ReportingTask, fn_constructor_args=(function, plan), batch_size=1, **pool
        )
    progress = ProgressLines(f"{work}: {name}", tasks, unit)
    reports = []
    for batch in reported.iter_batches(batch_format="numpy", batch_size=None, prefetch_batches=0):
        reports += [json.loads(report) for report in batch["report"]]
        progress.add(len(batch["report"]))
    reports.sort(key=lambda report: report["task"])
    errors = sorted({report["error"] for report in reports if "error" in report})
    if errors:
        of_storage = any(report.get("of_storage") for report in reports)
        raise (StorageError if of_storage else DataError)("\n".join(errors))
    return reports


class _ReportingTask(Generic[PlanT]):
    """Calls a task and returns its report as JSON; an error of ours is a report too and reaches the user whole."""

    def __init__(self, function: Task[PlanT], plan: PlanT) -> None:
        self.function, self.plan = function, plan

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        return {"report": [json.dumps(self._report(int(number))) for number in batch["id"]]}

    def _report(self, number: int) -> dict[str, Any]:
        try:
            return {"task": number, **self.function(number, self.plan)}
        except (DataError, StorageError) as error:
            return {"task": number, "error": str(error), "of_storage": isinstance(error, StorageError)}


def _warning_of_cut_histories(cut: int, samples: int, limit: int, prompt: PromptConfig) -> str:
    by_choice = prompt.max_history_tokens == limit
    room = "prompt.max_history_tokens allows" if by_choice else "the base model's positions leave room for"
    remedy = "raise it" if by_choice else "take a base model with more positions, shorten prompt.instruction"
    return (
        f"{cut} of {samples} samples see fewer past events than prompt.max_events allows: {room} {limit} tokens of "
        f"history; {remedy} or lower prompt.max_events"
    )


def _together(reports: Iterable[dict[str, Any]]) -> LogFacts:
    return sum((LogFacts.model_validate(report["facts"]) for report in reports), LogFacts())


def _check_first_pass(
    plan: PreparationPlan, read: Sequence[dict[str, Any]], facts: LogFacts, extra_names: Sequence[str]
) -> None:
    """All that can be known of a log before its users are together. Raises DataError."""
    events, table = plan.log.events, plan.folder / QUARANTINE
    if facts.quarantined:
        screen().says(f"prepare: {summary(facts, events)['quarantine']}; each is listed in {table}")
    check_quarantine(facts.quarantined, facts.usable, events, table, facts.examples)
    check_quarantined_behaviors(worst_losses(facts), events, table)
    check_behaviors({*facts.behaviors, *extra_names})
    if plan.split.by == "column":
        check_labels(facts.split_labels)
    check_zones(plan, read)
