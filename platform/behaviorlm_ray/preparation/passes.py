"""Preparation on Ray Data: from log files to timelines with token runs, the vocabulary and the prompt.

Two streaming passes without a shuffle in memory. The first reads files and writes each event to the part of its user;
the second puts each part in order, splits it and tokenizes its lines and questions once. Memory is bounded by the
size of a part. A small log is prepared by this process where it has the machine to itself, with the same tasks: workers
would take longer to start.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import ray

from behaviorlm.errors import DataError, StorageError
from behaviorlm.events.facts import LogFacts
from behaviorlm.events.log import Piece, SourceLog, read_piece
from behaviorlm.events.normalization import check_quarantine
from behaviorlm.events.summary import check_quarantined_behaviors, doubts, summary, worst_losses
from behaviorlm.files.patient_reads import patience
from behaviorlm.model.base_model import load_tokenizer, max_positions
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.timelines.config import VocabularyConfig
from behaviorlm.timelines.splits import SPLIT_NAMES, check_labels
from behaviorlm.timelines.tie_breakers import warning_of_ties
from behaviorlm.timelines.vocabulary import build_vocabulary, check_behaviors
from behaviorlm_ray import storage
from behaviorlm_ray.cluster.kept import make_room
from behaviorlm_ray.console.progress_lines import ProgressLines
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.preparation.arranging import build_part
from behaviorlm_ray.preparation.log_source import is_read_here, log_dataset, pieces_of
from behaviorlm_ray.preparation.plan import ORDER, QUARANTINE, PreparationPlan, ReadingPlan, most_rows
from behaviorlm_ray.preparation.reading import Distribution, check_zones, reported

OF_THE_FILES = ("ascending_rows", "descending_rows")
"""Counts that tell of how the rows lie in files and parts, not of the log."""
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
    with patience(plan.input_patience_seconds):
        pieces = pieces_of(plan.log)
    read = _read_log(pieces, plan)
    facts = _together(read)
    _check_first_pass(plan, pieces, read, facts, vocabulary_config.extra_names)
    if plan.partition_megabytes is not None:
        size = sum(file.size for file in plan.log.files)
        plan = replace(plan, most_rows=most_rows(facts.rows, size, plan.partition_megabytes))
    built = run_tasks("arranged", build_part, plan.partitions, plan, "parts")
    storage.remove_folder(plan.scratch)
    facts += _together(built)
    behaviors: Counter[str] = Counter()
    for report in built:
        behaviors.update(report["behaviors"])
    vocabulary = build_vocabulary(dict(behaviors), vocabulary_config)
    encoder = PromptEncoder(load_tokenizer(plan.model), plan.prompt)
    question, profile = (
        max((report[name] for report in built), default=0) for name in ("longest_question", "longest_profile")
    )
    prompt = encoder.prompt_tokens(vocabulary.names, max_positions(plan.model), question, profile)
    storage.write_replacing(plan.folder / "vocabulary.json", vocabulary.to_json().encode())
    # Not the dates between which numbers are credible: they differ from day to day.
    settled = plan.log.events.order.model_dump(mode="json", include={"epoch_unit", "time_format"})
    storage.write_replacing(plan.folder / ORDER, json.dumps(settled).encode())
    storage.write_replacing(plan.folder / "prompt.json", prompt.to_json().encode())
    limit = prompt.max_history_tokens
    lengths = [length for report in built for length in report["history_tokens"]]
    cut = sum(number for tokens, number in lengths if tokens > limit)
    anchors = int(np.sum(vocabulary.is_anchor))
    facts = facts.model_copy(update={"anchors": anchors, "tail": len(vocabulary.names) - anchors})
    counts = {
        "rows": facts.rows,
        "quarantined": facts.quarantined,
        **{name: number for name, number in facts.counts.items() if name not in OF_THE_FILES},
        **{f"samples_{name}": facts.counts[f"{name}_targets"] for name in SPLIT_NAMES},
        "samples_with_cut_history": cut,
        "behaviors": len(vocabulary.names),
        "anchors": anchors,
        "tail": facts.tail,
    }
    content = {**counts, "facts": facts.model_dump(mode="json")}
    storage.write_replacing(plan.folder / "counts.json", json.dumps(content, indent=2).encode())
    said = doubts(facts)
    if tied := warning_of_ties(plan.log, facts.counts):
        said.append(tied)
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

    pool: None: tasks, in this process where the log `is_read_here`; else options of `map_batches` for actors, which
    keep what a function has loaded.
    """
    called = f"{work}: {name}"
    if pool is None and is_read_here(plan.log):
        task = _ReportingTask(function, plan)
        return _reports(({"report": [task.report(number)]} for number in range(tasks)), called, tasks, unit)
    make_room()
    dataset = ray.data.range(tasks, override_num_blocks=tasks)
    dataset.set_name(name)
    if pool is None:
        reported = dataset.map_batches(_ReportingTask(function, plan), batch_size=1)
    else:
        reported = dataset.map_batches(
            _ReportingTask, fn_constructor_args=(function, plan), batch_size=1, **pool
        )
    return sorted(_reports(_batches(reported), called, tasks, unit), key=lambda report: report["task"])


def _read_log(pieces: Sequence[Piece], plan: PreparationPlan) -> list[dict[str, Any]]:
    """Write the events of all pieces to the parts of their users. Returns the reports in the order of the pieces."""
    take = Distribution(
        replace(plan, log=SourceLog((), plan.log.events))
    )  # of the files, each task gets its own
    unit = "files" if len(pieces) == len(plan.log.files) else "pieces of files"
    if is_read_here(plan.log):
        taken = (block for piece in pieces for block in take(piece, read_piece(piece, plan.log.events)))
        return _reports((block.to_pydict() for block in taken), "prepare: read", len(pieces), unit)
    make_room()
    dataset = log_dataset(pieces, plan.log.events, take, override_num_blocks=len(pieces))
    dataset.set_name("read")
    reports = _reports(_batches(dataset), "prepare: read", len(pieces), unit)
    return sorted(reports, key=lambda report: report["piece"])


def _batches(dataset: ray.data.Dataset) -> Iterable[Mapping[str, Any]]:
    return dataset.iter_batches(batch_format="numpy", batch_size=None, prefetch_batches=0)


def _reports(batches: Iterable[Mapping[str, Any]], name: str, tasks: int, unit: str) -> list[dict[str, Any]]:
    """The small reports of all tasks, whose progress is shown. Raises the errors that are among them."""
    progress = ProgressLines(name, tasks, unit)
    reports = []
    for batch in batches:
        reports += [json.loads(report) for report in batch["report"]]
        progress.add(len(batch["report"]))
    errors = sorted({report["error"] for report in reports if "error" in report})
    if errors:
        of_storage = any(report.get("of_storage") for report in reports)
        raise (StorageError if of_storage else DataError)("\n".join(errors))
    return reports


class _ReportingTask(Generic[PlanT]):
    """Calls a task and returns its report."""

    def __init__(self, function: Task[PlanT], plan: PlanT) -> None:
        self.function, self.plan = function, plan

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        return {"report": [self.report(int(number)) for number in batch["id"]]}

    def report(self, number: int) -> str:
        return reported({"task": number}, lambda: self.function(number, self.plan))


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
    plan: PreparationPlan,
    pieces: Sequence[Piece],
    read: Sequence[dict[str, Any]],
    facts: LogFacts,
    extra_names: Sequence[str],
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
    check_zones(plan, pieces, read)
