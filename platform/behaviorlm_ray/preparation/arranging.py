"""Second pass of preparation: each part is put in order, split, and its lines and questions tokenized once."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.events.facts import LogFacts, UserFacts, facts_of_look_alikes, facts_of_users
from behaviorlm.model.base_model import load_tokenizer
from behaviorlm.prompts.encoder import PromptConfig, PromptEncoder
from behaviorlm.timelines.parts import PROFILES, history_starts, history_tokens
from behaviorlm.timelines.profiles import Profile, profiles, profiles_from
from behaviorlm.timelines.samples import Before, build_timelines, training_target_counts
from behaviorlm.timelines.segments import kept_events, with_halo
from behaviorlm_ray import storage
from behaviorlm_ray.preparation.pieces import Piece, cut
from behaviorlm_ray.preparation.plan import PreparationPlan
from behaviorlm_ray.preparation.reading import read_part


def build_part(number: int, plan: PreparationPlan) -> dict[str, Any]:
    """Order, split and tokenize the timelines of one part, in one file, or in several where it is larger than asked."""
    events = read_part(number, plan)
    name = f"timelines-{number:05d}"
    if events is None:
        return _together([], LogFacts())
    encoder = PromptEncoder(load_tokenizer(plan.model), plan.prompt)
    if plan.most_rows is None or len(events) <= plan.most_rows:
        return _whole_users(events, plan, encoder, name)
    reports = []
    with TemporaryDirectory() as folder:
        for piece, of in enumerate(cut(events, plan.most_rows, plan.log.events, Path(folder))):
            if len(of.paths) == 1:
                (segment,) = of.segments()
                reports.append(_whole_users(segment, plan, encoder, f"{name}-{piece:05d}"))
            else:
                reports.append(_large_user(of, plan, encoder, f"{name}-{piece:05d}"))
    facts = sum((LogFacts.model_validate(report["facts"]) for report in reports), LogFacts())
    # Some of one piece may look like some of another.
    alike = facts_of_look_alikes(pc.unique(events["user"]).sort())
    return _together(reports, facts.model_copy(update=alike))


def _whole_users(
    events: pa.Table, plan: PreparationPlan, encoder: PromptEncoder, name: str
) -> dict[str, Any]:
    timelines, counts = _timelines(events, plan)
    facts = facts_of_users(events, timelines, counts)
    timelines = _encoded(timelines, encoder)
    if plan.prompt.profile:
        found = profiles(
            timelines["behavior"].to_pylist(),
            history_starts(timelines),
            plan.prompt.stride,
            plan.prompt.profile,
        )
        timelines = _with_profiles(timelines, found, encoder)
    _write(timelines.combine_chunks(), plan, name)
    return _report(timelines, plan.prompt) | {"facts": facts.model_dump(mode="json")}


def _large_user(piece: Piece, plan: PreparationPlan, encoder: PromptEncoder, name: str) -> dict[str, Any]:
    """A file for each segment of one user."""
    before = Before(kept_events(piece.segments(), plan.log.events))
    behaviors: Counter[str] = Counter()
    halo: pa.Table | None = None
    reports: list[dict[str, Any]] = []
    facts = UserFacts()
    for events in piece.segments():
        timelines, counts = _timelines(events, plan, before)
        facts.add(events, timelines, counts)
        if not len(timelines):
            continue
        timelines = _encoded(timelines, encoder)
        if plan.prompt.profile:
            found = profiles_from(
                timelines["behavior"].to_pylist(),
                before.events,
                behaviors,
                plan.prompt.stride,
                plan.prompt.profile,
            )
            timelines = _with_profiles(timelines, found, encoder)
        before = before.after(timelines)
        table = with_halo(timelines, halo, len(reports))
        _write(table, plan, f"{name}-{len(reports):05d}")
        reports.append(_report(table, plan.prompt))
        halo = pa.table(table.slice(max(0, len(table) - plan.prompt.max_events)).to_pydict(), table.schema)
    return _together(reports, facts.of_user())


def _timelines(
    events: pa.Table, plan: PreparationPlan, before: Before | None = None
) -> tuple[pa.Table, dict[str, int]]:
    of = plan.log.events
    return build_timelines(events, of, plan.split, plan.prompt.min_history, of.dataset, before)


def _encoded(timelines: pa.Table, encoder: PromptEncoder) -> pa.Table:
    """With the tokens of lines and questions."""
    lines, questions = encoder.encode_lines(timelines), encoder.encode_questions(timelines)
    return timelines.append_column("line_ids", lines).append_column("question_ids", questions)


def _with_profiles(timelines: pa.Table, found: list[Profile], encoder: PromptEncoder) -> pa.Table:
    """The profile before each row at which windows may begin, encoded: list<int32>."""
    return timelines.append_column(PROFILES, pa.array(encoder.encode_profiles(found), pa.list_(pa.int32())))


def _write(timelines: pa.Table, plan: PreparationPlan, name: str) -> None:
    with (
        storage.writing_file(plan.folder / "parts" / f"{name}.arrow") as path,
        pa.ipc.new_file(str(path), timelines.schema) as writer,
    ):
        writer.write_table(timelines)


def _report(timelines: pa.Table, prompt: PromptConfig) -> dict[str, Any]:
    longest = {
        name: int(pc.max(pc.list_value_length(timelines[column])).as_py() or 0)
        for name, column in (("longest_question", "question_ids"), ("longest_profile", PROFILES))
        if column in timelines.column_names
    }
    return {
        "behaviors": training_target_counts(timelines),
        "history_tokens": _history_tokens(timelines, prompt),
        "longest_profile": 0,
        **longest,
    }


def _together(reports: Sequence[dict[str, Any]], facts: LogFacts) -> dict[str, Any]:
    behaviors: Counter[str] = Counter()
    for report in reports:
        behaviors.update(report["behaviors"])
    found: dict[str, Any] = {"behaviors": dict(behaviors), "facts": facts.model_dump(mode="json")}
    for name in ("longest_question", "longest_profile"):
        found[name] = max((report[name] for report in reports), default=0)
    return found | {"history_tokens": [length for report in reports for length in report["history_tokens"]]}


def _history_tokens(timelines: pa.Table, prompt: PromptConfig) -> list[list[int]]:
    """[tokens, samples] for each length of history that samples have before the model's room is known."""
    lengths = pc.list_value_length(timelines["line_ids"]).to_numpy().astype(np.int64)
    tokens = history_tokens(history_starts(timelines), lengths, prompt.max_events, prompt.stride)
    counts = np.bincount(tokens[timelines["is_target"].to_numpy()])
    found = np.flatnonzero(counts)
    return np.stack([found, counts[found]], axis=1).tolist()
