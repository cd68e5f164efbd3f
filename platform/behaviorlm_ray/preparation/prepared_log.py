"""The prepared log, opened for reading: parts, vocabulary, prompt, and which samples a piece of work is about."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.events.facts import LogFacts
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.timelines.config import FewShotConfig
from behaviorlm.timelines.few_shot import training_limits, validation_limits, within_limits
from behaviorlm.timelines.parts import Int32, Int64, TimelinePart, TokenRuns, Window, load_part, token_runs
from behaviorlm.timelines.sample_ids import id_keys, id_words, uniform_keys
from behaviorlm.timelines.vocabulary import Vocabulary
from behaviorlm_ray import storage
from behaviorlm_ray.preparation.plan import ORDER
from behaviorlm_ray.storage import Location

ALL_SAMPLES = FewShotConfig()


@dataclass(frozen=True)
class PreparedLog:
    """A folder written by preparation; parts are memory-mapped when first asked for.

    few_shot: how many of its training and validation targets are used.
    """

    folder: Location
    prompt_config: PromptConfig
    few_shot: FewShotConfig = ALL_SAMPLES

    def __reduce__(self) -> tuple[Any, ...]:
        return PreparedLog, (
            self.folder,
            self.prompt_config,
            self.few_shot,
        )  # workers map the files themselves, on S3 copies of them

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.from_json(storage.read_text(self.folder / "vocabulary.json"))

    @cached_property
    def prompt(self) -> PromptTokens:
        return PromptTokens.from_json(storage.read_text(self.folder / "prompt.json"))

    @cached_property
    def counts(self) -> dict[str, Any]:
        return json.loads(storage.read_text(self.folder / "counts.json"))

    def as_read(self, events: EventsConfig) -> EventsConfig:
        """The mapping that it was prepared by, with units and patterns of times as they were settled for the log."""
        if ORDER not in storage.list_files(self.folder):
            return events  # prepared before they were settled
        settled = json.loads(storage.read_text(self.folder / ORDER))
        return events.model_copy(update={"order": events.order.model_copy(update=settled)})

    @cached_property
    def facts(self) -> LogFacts:
        return LogFacts.model_validate(self.counts["facts"])

    @cached_property
    def parts(self) -> "Parts":
        """In the order of their files."""
        return Parts(
            self, sorted(name for name in storage.list_files(self.folder / "parts") if _is_part(name))
        )


class Parts(Sequence[TimelinePart]):
    """The parts of a log, each opened when it is first asked for; on S3 only those are copied. State: the open ones."""

    def __init__(self, log: PreparedLog, names: Sequence[str]) -> None:
        self._log, self._names = log, names
        self._open: dict[int, TimelinePart] = {}

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, asked: int) -> TimelinePart: ...

    @overload
    def __getitem__(self, asked: slice) -> list[TimelinePart]: ...

    def __getitem__(self, asked: int | slice) -> TimelinePart | list[TimelinePart]:
        if isinstance(asked, slice):
            return [self[number] for number in range(*asked.indices(len(self)))]
        number = range(len(self))[asked]
        if number not in self._open:
            log, prompt = self._log, self._log.prompt_config
            window = Window(prompt.max_events, prompt.stride, log.prompt.max_history_tokens)
            path = storage.local_copy(log.folder / "parts" / self._names[number])
            self._open[number] = load_part(path, log.vocabulary, window)
        return self._open[number]


def _is_part(name: str) -> bool:
    return name.endswith(".arrow")


def timelines_of(log: PreparedLog, number: int) -> tuple[pa.Table, int]:
    """All events of the timelines of a part, also where they begin in parts before it, and what is to be added to a row
    of the part to find it there.
    """
    part = log.parts[number]
    if part.segment < 1:
        return part.table, 0
    earlier = [log.parts[before].own_events for before in range(number - part.segment, number)]
    return pa.concat_tables([*earlier, part.own_events]), sum(map(len, earlier)) - part.halo


SampleRows = list[Int64]
"""For each part the ascending rows of the chosen samples."""


def whole_split(log: PreparedLog, split: str) -> SampleRows:
    """All samples of a split, few shots or not. Validation and test keep the targets that training has not seen."""
    rows = [part.targets(split) for part in log.parts]
    if split != "train":
        return rows
    return [chosen[part.behavior[chosen] >= 0] for part, chosen in zip(log.parts, rows, strict=True)]


def rows_of_split(log: PreparedLog, split: str) -> SampleRows:
    """The samples of a split that may be used: with few shots or a share not all of training and of validation."""
    rows, few = whole_split(log, split), log.few_shot
    if few.uses_all or split == "test":
        return rows
    behavior, vocabulary = gather(log, rows, "behavior"), log.vocabulary
    limits = training_limits(vocabulary, few)
    if split == "validation":
        there = np.bincount(behavior[behavior >= 0], minlength=len(vocabulary))
        limits = validation_limits(vocabulary, few, there)
    return _filtered(rows, within_limits(behavior, gather(log, rows, "sample_id"), limits, few.seed))


def counts_of(log: PreparedLog, rows: SampleRows) -> Int64:
    """How many of the samples each behavior of the vocabulary is the target of; int64[K]."""
    counts = np.zeros(len(log.vocabulary), np.int64)
    for part, chosen in zip(log.parts, rows, strict=True):
        behavior = part.behavior[chosen]
        counts += np.bincount(behavior[behavior >= 0], minlength=len(counts))
    return counts


def rows_of_anchors(log: PreparedLog, rows: SampleRows) -> SampleRows:
    """Those whose target is an anchor behavior."""
    is_anchor = log.vocabulary.is_anchor
    return [chosen[is_anchor[part.behavior[chosen]]] for part, chosen in zip(log.parts, rows, strict=True)]


def rows_of_ids(log: PreparedLog, rows: SampleRows, sample_ids: np.ndarray) -> SampleRows:
    """Those whose id is among `sample_ids` (uint8 [n, 16])."""
    wanted = id_keys(sample_ids)
    return [
        chosen[np.isin(id_keys(part.sample_id[chosen]), wanted)]
        for part, chosen in zip(log.parts, rows, strict=True)
    ]


def half_of(log: PreparedLog, rows: SampleRows) -> NDArray[np.int8]:
    """Half 0 or 1 of each chosen sample, int8[n]: its group's, by a hash of the group's name."""
    names, codes = group_codes(log, rows)
    halves = [hashlib.blake2b(name.encode(), digest_size=1).digest()[0] & 1 for name in names.to_pylist()]
    return np.array(halves, np.int8)[codes] if halves else np.zeros(0, np.int8)


def rows_of_half(log: PreparedLog, rows: SampleRows, half: int) -> SampleRows:
    """The chosen samples of one half of the groups."""
    return _filtered(rows, half_of(log, rows) == half)


def require_both_halves(log: PreparedLog, *, anchors: bool) -> None:
    """Raise DataError where a half of the groups has no training sample; anchors: none with an anchor target."""
    rows = rows_of_split(log, "train")
    chosen = rows_of_anchors(log, rows) if anchors else rows
    empty = sorted({0, 1} - set(half_of(log, chosen).tolist()))
    if empty:
        groups = group_count(log, rows)
        raise DataError(
            f"half {' and half '.join(map(str, empty))} of the groups has no training sample"
            f"{' with an anchor target' if anchors else ''}, so no model can be tuned on it to judge the other half. "
            f"Halves are drawn by group (by events.group, else by user; groups with training samples: {groups}). Set "
            "difficulty.source: start and a difficulty.measure other than reducible, or take a log with more groups"
        )


def limit_per_behavior(log: PreparedLog, rows: SampleRows, limit: int | None, seed: int) -> SampleRows:
    """At most `limit` samples of each behavior, drawn at random; None: all."""
    if limit is None:
        return rows
    behavior = gather(log, rows, "behavior")
    chance = np.random.default_rng([seed, 11]).random(len(behavior))
    order = np.lexsort((chance, behavior))
    first = np.searchsorted(behavior[order], behavior[order])
    keep = np.zeros(len(behavior), dtype=bool)
    keep[order] = np.arange(len(behavior)) - first < limit
    return _filtered(rows, keep)


def limit_rows(log: PreparedLog, rows: SampleRows, max_samples: int | None, seed: int) -> SampleRows:
    """At most `max_samples`, about the same number of each group as far as it has them; None: all.

    They are the first of `drawn_order`: a larger limit keeps what a smaller one took.
    """
    total = count(rows)
    if max_samples is None or total <= max_samples:
        return rows
    place = _group_places(log, rows, seed)
    in_turn = place < max_samples  # each group before gives one before any gives a second
    some = _filtered(rows, in_turn)
    keep = np.zeros(count(some), dtype=bool)
    keep[_drawn_order(log, some, seed, place[in_turn])[:max_samples]] = True
    return _filtered(some, keep)


def drawn_order(log: PreparedLog, rows: SampleRows, seed: int) -> Int64:
    """The places of the samples in an order in which groups give one each in turn; int64 [n].

    Groups come in an order drawn by the seed; which of a group's samples come first is drawn by their ids and the seed.
    """
    return _drawn_order(log, rows, seed, _group_places(log, rows, seed))


def _group_places(log: PreparedLog, rows: SampleRows, seed: int) -> Int64:
    """The place of each sample's group in the order that is drawn; int64[n]."""
    names, group = group_codes(log, rows)
    return np.random.default_rng([seed, 7]).permutation(len(names))[group]


def _drawn_order(log: PreparedLog, rows: SampleRows, seed: int, place: Int64) -> Int64:
    """place: of each sample's group."""
    high, low = id_words(gather(log, rows, "sample_id"))
    by_group = np.lexsort((low, high, uniform_keys(high, low, seed), place))
    turn = np.empty(len(place), dtype=np.int64)
    turn[by_group] = np.arange(len(place)) - np.searchsorted(place[by_group], place[by_group])
    return np.lexsort((place, turn))


def group_codes(log: PreparedLog, rows: SampleRows) -> tuple[pa.Array, Int64]:
    """The groups of the samples in the order of their names, each once, and which of them each sample is of; int64[n].

    Names are held once for each group, not for each sample.
    """
    names, codes, there = [pa.array([], pa.large_string())], [np.zeros(0, np.int64)], 0
    for part, chosen in zip(log.parts, rows, strict=True):
        if len(chosen):
            encoded = part.table["group"].take(chosen).combine_chunks().dictionary_encode()
            names.append(encoded.dictionary.cast(pa.large_string()))
            codes.append(there + encoded.indices.to_numpy().astype(np.int64))
            there += len(encoded.dictionary)
    known = pa.concat_arrays(names).dictionary_encode()
    order = pc.sort_indices(known.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    return known.dictionary.take(order), rank[known.indices.to_numpy()[np.concatenate(codes)]]


def gather(log: PreparedLog, rows: SampleRows, field: str) -> np.ndarray:
    """A field of the parts (behavior, is_repeat, sample_id, …) for the chosen samples, parts one after another."""
    return np.concatenate(
        [getattr(part, field)[chosen] for part, chosen in zip(log.parts, rows, strict=True)]
    )


def count(rows: Sequence[Int64]) -> int:
    """Number of chosen samples."""
    return sum(len(chosen) for chosen in rows)


def group_count(log: PreparedLog, rows: SampleRows) -> int:
    """How many groups the samples are of."""
    return len(group_codes(log, rows)[0])


def rests_on(log: PreparedLog, rows: SampleRows) -> str:
    """What a figure over these samples rests on, in words."""
    return f"{count(rows)} samples of {group_count(log, rows)} groups"


def distinct_questions(log: PreparedLog, rows: SampleRows) -> tuple[TokenRuns, Int64]:
    """The questions of the samples, each once, and which of them each sample has; int64[n]."""
    found: dict[bytes, Int32] = {}
    which = []
    for part, chosen in zip(log.parts, rows, strict=True):
        for row in chosen:
            question = part.questions[row]
            found.setdefault(question.tobytes(), question)
            which.append(question.tobytes())
    place = {key: index for index, key in enumerate(found)}
    return token_runs(list(found.values())), np.array([place[key] for key in which], np.int64)


def union_rows(first: SampleRows, second: SampleRows) -> SampleRows:
    """The samples of both, which have none in common."""
    return [np.union1d(*chosen) for chosen in zip(first, second, strict=True)]


def places_in(rows: SampleRows, chosen: SampleRows) -> Int64:
    """Where in `rows` (parts one after another) each of `chosen` stands, which all must be among them; int64 [n]."""
    starts = np.cumsum([0, *(len(part) for part in rows[:-1])])
    places = [
        start + np.searchsorted(part, wanted)
        for start, part, wanted in zip(starts, rows, chosen, strict=True)
    ]
    return np.concatenate(places).astype(np.int64) if places else np.zeros(0, dtype=np.int64)


def _filtered(rows: SampleRows, keep: np.ndarray) -> SampleRows:
    bounds = np.cumsum([len(chosen) for chosen in rows])[:-1]
    return [chosen[kept] for chosen, kept in zip(rows, np.split(keep, bounds), strict=True)]
