"""Preparation on Ray Data: from log files to timelines with token runs, the vocabulary and the prompt.

Two streaming passes without a shuffle in memory. The first reads files and writes each event to the part of its user;
the second puts each part in order, splits it and tokenizes its lines and questions once. Memory is bounded by the
size of a part.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from behaviorlm.errors import DataError, StorageError
from behaviorlm.events.config import EventsConfig
from behaviorlm.events.normalization import check_quarantine, normalize
from behaviorlm.events.reading import read_table_batches
from behaviorlm.events.source_files import SourceFile
from behaviorlm.files.patient_reads import PATIENCE_SECONDS, patience
from behaviorlm.model.base_model import ModelConfig, load_tokenizer, max_positions
from behaviorlm.prompts.encoder import PromptConfig, PromptEncoder
from behaviorlm.timelines.parts import history_tokens, run_starts
from behaviorlm.timelines.samples import build_timelines, training_target_counts
from behaviorlm.timelines.splits import SPLIT_NAMES, SplitConfig
from behaviorlm.timelines.vocabulary import VocabularyConfig, build_vocabulary
from behaviorlm_ray import storage
from behaviorlm_ray.console.progress_lines import ProgressLines
from behaviorlm_ray.stages.attempts import SCRATCH
from behaviorlm_ray.storage import Location

MAX_PARTITIONS = 256
QUARANTINE = "quarantine"
"""Folder of the tables of rows that cannot be used."""

Task = Callable[[int, "PreparationPlan"], dict[str, Any]]


@dataclass(frozen=True)
class PreparationPlan:
    """What both passes need; sent to every task, which writes into the folder from wherever it runs."""

    files: tuple[SourceFile, ...]
    events: EventsConfig
    split: SplitConfig
    prompt: PromptConfig
    model: ModelConfig
    partitions: int
    folder: Location
    input_patience_seconds: float = PATIENCE_SECONDS

    @property
    def scratch(self) -> Location:
        """Where the first pass leaves events, in a folder for each part; removed after the second."""
        return self.folder / SCRATCH


@dataclass(frozen=True)
class Prepared:
    """What preparation found: counts for the report, and warnings."""

    counts: dict[str, Any]
    warnings: list[str]


def partition_count(size: int, partition_megabytes: int, min_partitions: int) -> tuple[int, str | None]:
    """Parts for a log of `size` bytes, and a warning if they are larger than asked for.

    One for each `partition_megabytes`, between `min_partitions` and 256: each file writes into all parts at once.
    """
    wanted = max(min_partitions, -(-size // (partition_megabytes * 2**20)))
    if wanted <= MAX_PARTITIONS:
        return wanted, None
    return MAX_PARTITIONS, (
        f"the log is cut into {MAX_PARTITIONS} parts, the most there can be, not into {wanted}: each holds about "
        f"{size / MAX_PARTITIONS / 2**20:.0f} MiB of it instead of preparation.partition_megabytes "
        f"({partition_megabytes}) and takes memory in proportion"
    )


def prepare(plan: PreparationPlan, vocabulary_config: VocabularyConfig) -> Prepared:
    """Run both passes and write parts, vocabulary.json, prompt.json, counts.json and quarantine/ into the folder.

    Raises DataError for logs that cannot be used; see the events package.
    """
    for name in (QUARANTINE, "parts"):
        storage.make_folder(plan.folder / name)
    read = _run_tasks("read", _read_file, len(plan.files), plan, "files")
    rows, reasons = _rows_and_reasons(read)
    check_quarantine(reasons, rows - reasons.total(), plan.events, plan.folder / QUARANTINE)
    _check_zones(plan, read)
    built = _run_tasks("arranged", _build_part, plan.partitions, plan, "parts")
    storage.remove_folder(plan.scratch)
    behaviors: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for report in built:
        behaviors.update(report["behaviors"])
        counts.update(report["counts"])
    vocabulary = build_vocabulary(dict(behaviors), vocabulary_config)
    encoder = PromptEncoder(load_tokenizer(plan.model), plan.prompt)
    longest = max((report["longest_question"] for report in built), default=0)
    prompt = encoder.prompt_tokens(vocabulary.names, max_positions(plan.model), longest)
    storage.write_replacing(plan.folder / "vocabulary.json", vocabulary.to_json().encode())
    storage.write_replacing(plan.folder / "prompt.json", prompt.to_json().encode())
    limit = prompt.max_history_tokens
    lengths = [length for report in built for length in report["history_tokens"]]
    counts["samples_with_cut_history"] = sum(number for tokens, number in lengths if tokens > limit)
    summary = {
        "rows": rows,
        "quarantined": dict(reasons),
        **dict(counts),
        "behaviors": len(vocabulary.names),
        "anchors": int(np.sum(vocabulary.is_anchor)),
        "tail": int(np.sum(~vocabulary.is_anchor)),
    }
    storage.write_replacing(plan.folder / "counts.json", json.dumps(summary, indent=2).encode())
    warnings = list(vocabulary.warnings)
    if cut := counts["samples_with_cut_history"]:
        samples = sum(number for _, number in lengths)
        warnings.append(_warning_of_cut_histories(cut, samples, limit, plan.prompt))
        print(f"prepare: {warnings[-1]}")
    return Prepared(summary, warnings)


def _run_tasks(
    name: str, function: Task, tasks: int, plan: PreparationPlan, unit: str
) -> list[dict[str, Any]]:
    """Run task 0, 1, … through Ray Data and collect their small reports; errors of ours are raised whole."""
    dataset = ray.data.range(tasks, override_num_blocks=tasks)
    dataset.set_name(name)
    reported = dataset.map_batches(_ReportingTask(function, plan), batch_size=1)
    progress = ProgressLines(f"prepare: {name}", tasks, unit)
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


class _ReportingTask:
    """Calls a task and returns its report as JSON; an error of ours is a report too and reaches the user whole."""

    def __init__(self, function: Task, plan: PreparationPlan) -> None:
        self.function, self.plan = function, plan

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        return {"report": [json.dumps(self._report(int(number))) for number in batch["id"]]}

    def _report(self, number: int) -> dict[str, Any]:
        try:
            return {"task": number, **self.function(number, self.plan)}
        except (DataError, StorageError) as error:
            return {"task": number, "error": str(error), "of_storage": isinstance(error, StorageError)}


def _read_file(index: int, plan: PreparationPlan) -> dict[str, Any]:
    """First pass: normalize one file and append each event to the part of its user."""
    with storage.writing(plan.scratch) as scratch, patience(plan.input_patience_seconds):
        report, quarantined = _distribute(index, plan, scratch)
    if quarantined:
        with storage.writing_file(plan.folder / QUARANTINE / f"file-{index:06d}.parquet") as path:
            pq.write_table(pa.concat_tables(quarantined), path)
    return report


def _distribute(index: int, plan: PreparationPlan, scratch: Path) -> tuple[dict[str, Any], list[pa.Table]]:
    """Write the events of a file below `scratch`, by part. Returns the report and the rows that cannot be used."""
    file = plan.files[index]
    writers: dict[int, pa.RecordBatchStreamWriter] = {}
    reasons: Counter[str] = Counter()
    quarantined: list[pa.Table] = []
    rows = 0
    zones: dict[str, int] = {}
    for raw, malformed in read_table_batches(file, plan.events):
        events, unusable = normalize(raw, malformed, index, file.path, plan.events)
        zones = _first_rows_by_zone(events) | zones
        rows += len(events) + len(unusable)
        reasons.update(unusable["reason"].to_pylist())
        if len(unusable):
            quarantined.append(unusable)
        partition = _partition_of(events["user"].combine_chunks(), plan.partitions)
        for number in np.unique(partition).tolist():
            chosen = events.filter(pa.array(partition == number))
            if number not in writers:
                path = scratch / f"{number:05d}" / f"{index:06d}.arrows"
                path.parent.mkdir(exist_ok=True)
                writers[number] = pa.ipc.new_stream(str(path), chosen.schema)
            writers[number].write_table(chosen)
    for writer in writers.values():
        writer.close()
    return {"rows": rows, "reasons": dict(reasons), "zones": zones}, quarantined


def _first_rows_by_zone(events: pa.Table) -> dict[str, int]:
    """The first row whose time carries a zone of its own ("zoned") and the first whose time does not ("naive")."""
    rows = {
        name: events["row"].filter(pc.equal(events["is_zoned"], flag))
        for name, flag in (("zoned", True), ("naive", False))
    }
    return {name: found[0].as_py() for name, found in rows.items() if len(found)}


def _partition_of(users: pa.Array, partitions: int) -> np.ndarray:
    """The part of each user, by a hash of the name; int64 [n]."""
    encoded = users.dictionary_encode()
    digests = [
        int.from_bytes(hashlib.blake2b(user.encode(), digest_size=8).digest(), "big") % partitions
        for user in encoded.dictionary.to_pylist()
    ]
    return (
        np.array(digests, dtype=np.int64)[encoded.indices.to_numpy()]
        if digests
        else np.zeros(0, dtype=np.int64)
    )


def _build_part(number: int, plan: PreparationPlan) -> dict[str, Any]:
    """Second pass: order, split and tokenize the timelines of one part."""
    found = plan.scratch / f"{number:05d}"
    tables = [_read_stream(found / name) for name in storage.list_files(found)]
    report: dict[str, Any] = {"behaviors": {}, "counts": {}, "longest_question": 0, "history_tokens": []}
    if not tables:
        return report
    timelines, counts = build_timelines(
        pa.concat_tables(tables), plan.events, plan.split, plan.prompt.min_history, plan.events.dataset
    )
    encoder = PromptEncoder(load_tokenizer(plan.model), plan.prompt)
    questions = encoder.encode_questions(timelines)
    timelines = timelines.append_column("line_ids", encoder.encode_lines(timelines))
    timelines = timelines.append_column("question_ids", questions).combine_chunks()
    with (
        storage.writing_file(plan.folder / "parts" / f"timelines-{number:05d}.arrow") as path,
        pa.ipc.new_file(str(path), timelines.schema) as writer,
    ):
        writer.write_table(timelines)
    report["behaviors"] = training_target_counts(timelines)
    report["longest_question"] = int(pc.max(pc.list_value_length(questions)).as_py() or 0)
    report["history_tokens"] = _history_tokens(timelines, plan.prompt)
    samples = {f"samples_{name}": counts[f"{name}_targets"] for name in SPLIT_NAMES}
    report["counts"] = {name: counts[name] for name in ("events", "users", "repeats")} | samples | counts
    return report


def _read_stream(place: Location) -> pa.Table:
    """Scratch data: mapped where it is local, else received whole (a part fits into memory anyway)."""
    if isinstance(place, Path):
        return pa.ipc.open_stream(pa.memory_map(str(place))).read_all()
    return pa.ipc.open_stream(pa.py_buffer(storage.read_bytes(place))).read_all()


def _history_tokens(timelines: pa.Table, prompt: PromptConfig) -> list[list[int]]:
    """[tokens, samples] for each length of history that samples have before the model's room is known."""
    lengths = pc.list_value_length(timelines["line_ids"]).to_numpy().astype(np.int64)
    tokens = history_tokens(run_starts(timelines["user"]), lengths, prompt.max_events, prompt.stride)
    found, counts = np.unique(tokens[timelines["is_target"].to_numpy()], return_counts=True)
    return np.stack([found, counts], axis=1).tolist()


def _warning_of_cut_histories(cut: int, samples: int, limit: int, prompt: PromptConfig) -> str:
    by_choice = prompt.max_history_tokens == limit
    room = "prompt.max_history_tokens allows" if by_choice else "the base model's positions leave room for"
    remedy = "raise it" if by_choice else "take a base model with more positions, shorten prompt.instruction"
    return (
        f"{cut} of {samples} samples see fewer past events than prompt.max_events allows: {room} {limit} tokens of "
        f"history; {remedy} or lower prompt.max_events"
    )


def _rows_and_reasons(read: Iterable[dict[str, Any]]) -> tuple[int, Counter[str]]:
    """Rows of all files, and how many of them cannot be used for each reason."""
    rows, reasons = 0, Counter[str]()
    for report in read:
        rows += report["rows"]
        reasons.update(report["reasons"])
    return rows, reasons


def _check_zones(plan: PreparationPlan, read: Sequence[dict[str, Any]]) -> None:
    """Over all files: what lies in one part must not decide whether a log is refused."""
    if plan.events.order.kind != "time" or plan.events.order.time_zone is not None:
        return
    first: dict[str, str] = {}
    for file, report in zip(plan.files, read, strict=True):
        for kind, row in report["zones"].items():
            first.setdefault(kind, f"{file.path}, row {row}")
    if len(first) == 2:
        raise DataError(
            f"some times have a zone ({first['zoned']}) and some have none ({first['naive']}), so they cannot be put "
            "in order; set events.order.time_zone to the zone of those without"
        )
