"""Parts that are cut, down to segments of three events, hold what whole ones hold: rows, tokens, prompts and facts."""

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from behaviorlm.baselines import fit_baselines
from behaviorlm.baselines.timelines import timeline_arrays
from behaviorlm.events.log import SourceLog
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.model.base_model import load_tokenizer
from behaviorlm.model.config import ModelConfig
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.timelines.config import SplitConfig, VocabularyConfig
from behaviorlm.timelines.parts import TimelinePart, Window, load_part, write_prompts
from behaviorlm.timelines.vocabulary import build_vocabulary
from behaviorlm.training.chunks import chunk_samples
from behaviorlm.trees.token_tree import TreeWriter
from behaviorlm_ray.evaluation.circumstances import circumstances
from behaviorlm_ray.evaluation.counted_log import counted_log
from behaviorlm_ray.evaluation.samples import EvaluatedSamples, sample_facts
from behaviorlm_ray.preparation.arranging import build_part
from behaviorlm_ray.preparation.plan import PreparationPlan
from behaviorlm_ray.preparation.prepared_log import PreparedLog, rows_of_split, timelines_of
from behaviorlm_ray.stages.attempts import SCRATCH
from tests.behaviorlm.timelines.test_samples import event_table, mapping

BASE = ModelConfig(base=str(Path(__file__).parents[3] / "behaviorlm" / "assets" / "base"))
NAMES = ["eat", "walk the dog", "rest"]
PLACES = ["home", "work", None]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["huge", "huge", "huge", "small", "Huge"]),
        st.integers(0, 40),
        st.sampled_from(NAMES),
        st.sampled_from(PLACES),
    ),
    min_size=1,
    max_size=60,
)
Build = tuple[dict[str, Any], list[TimelinePart]]


def built(folder: Path, plan: PreparationPlan, events: pa.Table, most: int | None) -> Build:
    plan = replace(plan, folder=folder, most_rows=most)
    scratch = folder / SCRATCH / "00000"
    scratch.mkdir(parents=True)
    (folder / "parts").mkdir()
    for number, batch in enumerate(events.to_batches(max_chunksize=7)):
        with pa.ipc.new_stream(str(scratch / f"{number:04d}.arrows"), events.schema) as writer:
            writer.write_batch(batch)
    report = build_part(0, plan)
    vocabulary = build_vocabulary(dict.fromkeys(NAMES, 1), VocabularyConfig())
    window = Window(plan.prompt.max_events, plan.prompt.stride, 40)
    return report, [load_part(path, vocabulary, window) for path in sorted((folder / "parts").iterdir())]


def rows(parts: list[TimelinePart]) -> list[dict[str, Any]]:
    """All columns of all events but those of halos, by user and position."""
    found = pa.concat_tables([part.own_events.replace_schema_metadata() for part in parts]).to_pylist()
    return sorted(found, key=lambda row: (row["user"], row["position"]))


def prompts(parts: list[TimelinePart]) -> dict[bytes, list[int]]:
    """The tokens of each sample's prompt, by its id."""
    found = {}
    for part in parts:
        for row in np.flatnonzero(part.is_target):
            writer = TreeWriter()
            write_prompts(writer, part, np.array([row]))
            found[part.sample_id[row].tobytes()] = writer.finish().token_ids.tolist()
            assert part.prompt_lengths(np.array([row]))[0] == len(found[part.sample_id[row].tobytes()])
    return found


def timelines(parts: list[TimelinePart]) -> dict[bytes, tuple[int, int]]:
    chunks = chunk_samples(
        parts,
        [np.flatnonzero(part.is_target) for part in parts],
        lambda part, rows: np.ones(len(rows), np.int64),
        2,
        1000,
    )
    return {parts[of.part].sample_id[row].tobytes(): of.timeline for of in chunks for row in of.rows}


@given(
    EVENTS,
    st.sampled_from([3, 5]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["time", "group", "column"]),
    st.sampled_from([0, 2]),
    st.booleans(),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_cut_part_holds_what_a_whole_one_holds(
    listed: list[tuple[str, int, str, str | None]],
    most: int,
    drop: bool,
    collapse: bool,
    split: str,
    profile: int,
    has_time: bool,
) -> None:
    changes: dict[str, Any] = {"split_column": "part"} if split == "column" else {}
    if has_time:
        changes |= {"order": {"column": "at", "kind": "time"}, "clock": ["since_last"]}
    config = mapping(
        exact_duplicates="drop" if drop else "keep", collapse_repeats=collapse, max_tie_share=1, **changes
    )
    columns: dict[str, list[Any]] = {
        "split_label": [["train", "test"][order % 2] for _, order, _, _ in listed]
    }
    if has_time:
        listed = [(user, order * 1_700_000_000, name, place) for user, order, name, place in listed]
        columns["before.since_last"] = [None] * len(listed)
    events = event_table(listed, config, **columns)
    with tempfile.TemporaryDirectory() as name:
        plan = plan_of(config, SplitConfig(by=split), profile, Path(name))
        report, whole = built(Path(name) / "whole", plan, events, None)
        of_cut, cut = built(Path(name) / "cut", plan, events, most)
        assert len(whole) == 1
        if sum(user == "huge" for user, *_ in listed) > 3 * most and not drop and not collapse:
            assert any(part.segment > 0 for part in cut) or len({order for _, order, *_ in listed}) < most
        assert rows(cut) == rows(whole)
        assert prompts(cut) == prompts(whole)
        same(report, of_cut)
        as_counted = timeline_arrays([part.own_events for part in cut], NAMES)
        assert len(as_counted.behavior) == len(whole[0])
        alike(timelines(cut), timelines(whole))


def opened(folder: Path, most: int | None, events: pa.Table) -> PreparedLog:
    plan = plan_of(mapping(), SplitConfig(test=0.2, validation=0.2), 2, folder)
    report, _ = built(folder, plan, events, most)
    vocabulary = build_vocabulary(report["behaviors"], VocabularyConfig(anchor_threshold=0.4))
    encoder = PromptEncoder(load_tokenizer(BASE), plan.prompt)
    prompt = encoder.prompt_tokens(
        vocabulary.names, 400, report["longest_question"], report["longest_profile"]
    )
    (folder / "vocabulary.json").write_text(vocabulary.to_json())
    (folder / "prompt.json").write_text(prompt.to_json())
    return PreparedLog(folder, plan.prompt)


def by_id(log: PreparedLog) -> dict[bytes, tuple[Any, ...]]:
    """Of each test sample: what counting says, how much history there is, what is known, and all that came before."""
    samples = EvaluatedSamples(rows_of_split(log, "validation"), rows_of_split(log, "test"))
    facts = sample_facts(log, samples)
    counted, found = counted_log(log, samples), circumstances(log, samples.test, facts)
    said = [of.predict(counted.timelines, counted.test) for of in fit_baselines(counted.timelines).values()]
    before = []
    for number, chosen in enumerate(samples.test):
        whole, offset = timelines_of(log, number)
        starts = log.parts[number].user_start
        before += [
            whole["behavior"].slice(starts[row] + offset, row - starts[row]).to_pylist() for row in chosen
        ]
    return {
        sample.tobytes(): (
            [of[place].tobytes() for of in said],
            found.history[place],
            found.known[place],
            before[place],
            found.question(place),
        )
        for place, sample in enumerate(facts.sample_ids)
    }


def test_counting_and_what_is_told_of_samples_are_those_of_whole_timelines(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    users = ["huge", "huge", "huge", "small", "other", "another"]
    listed = [
        (users[random.integers(6)], order, NAMES[random.integers(3)], PLACES[random.integers(3)])
        for order in range(240)
    ]
    events = event_table(listed, mapping())
    whole, cut = opened(tmp_path / "whole", None, events), opened(tmp_path / "cut", 20, events)
    assert len(whole.parts) == 1 and max(part.segment for part in cut.parts) > 4
    assert prompts([*cut.parts]) == prompts([*whole.parts])
    expected = by_id(whole)
    assert by_id(cut) == expected and len(expected) > 30


def test_users_who_look_alike_are_told_also_where_one_of_them_is_cut(tmp_path: Path) -> None:
    listed: list[tuple[str, int, str, str | None]] = [("huge", order, "eat", None) for order in range(12)]
    listed += [("Huge", 3, "rest", None)]
    plan = plan_of(mapping(), SplitConfig(), 0, tmp_path)
    report, parts = built(tmp_path, plan, event_table(listed, mapping()), 4)
    assert max(part.segment for part in parts) > 1
    assert report["facts"]["look_alike_users"] == 2
    assert report["facts"]["look_alike_examples"] == [["Huge", "huge"]]


def plan_of(config: EventsConfig, split: SplitConfig, profile: int, folder: Path) -> PreparationPlan:
    prompt = PromptConfig(max_events=4, stride=3, profile=profile)
    return PreparationPlan(SourceLog((), config), split, prompt, BASE, 1, folder)


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Reports, but for what is told of the order of rows in files."""
    for report in (one, other):
        lengths: Counter[int] = Counter()
        for tokens, number in report["history_tokens"]:
            lengths[tokens] += number
        report["history_tokens"] = {tokens: number for tokens, number in lengths.items() if number}
        report["behaviors"] = {name: number for name, number in report["behaviors"].items() if number}
        report["facts"]["sizes"] = {int(size): users for size, users in report["facts"]["sizes"].items()}
    assert one == other


def alike(one: dict[bytes, tuple[int, int]], other: dict[bytes, tuple[int, int]]) -> None:
    """Both tell the same samples apart."""
    assert one.keys() == other.keys()
    pairs = {(one[sample], other[sample]) for sample in one}
    assert len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})
