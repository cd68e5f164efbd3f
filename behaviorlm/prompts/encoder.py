"""Prompts: history lines, the question and the labels as tokens, encoded segment by segment.

A prompt is `instruction + history lines + question`, followed by a label (a behavior's name) and the
terminator:

    chat layout (the tokenizer has a chat template)     plain layout
    <system turn> task                                  task
    <user turn> Wed 18: camera on                       Wed 18: camera on
    Wed 19: lamp off (kitchen)                          Wed 19: lamp off (kitchen)
    Wed 19:<end of turn, assistant turn> lamp on<end>   Wed 19: lamp on⏎

The segment-wise token ids are the truth; encoding the whole text again may merge across the boundaries. The
paper's prompt is not public in detail: all wording and layout here is our choice.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from behaviorlm.errors import ConfigError, DataError, ModelError
from behaviorlm.prompts.chat_layout import SegmentEncoder, has_system_turn, leading_ids, turn_end, turn_pieces
from behaviorlm.prompts.config import PromptConfig, rendered_text
from behaviorlm.prompts.rendering import line_texts, profile_texts, question_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase  # with torch behind it: not only to read a config

_ENCODED_ROWS = 2**17
"""Rows whose tokens are put together at a time where most are different (our choice): some 100 MB."""

# Encoded segments kept in memory; a log has few distinct names and contexts, or so many that keeping them is
# no use.
_MAX_CACHED_SEGMENTS = 200_000


@dataclass(frozen=True)
class PromptTokens:
    """The tokens that all the prompts of a run share.

    instruction_ids: int32, what precedes the history. terminator_ids: int32, what follows a label. label_ids:
    for each behavior of the vocabulary, int32, without the terminator. max_history_tokens: room for history
    lines.
    """

    instruction_ids: np.ndarray
    terminator_ids: np.ndarray
    label_ids: tuple[np.ndarray, ...]
    max_history_tokens: int

    def to_json(self) -> str:
        """One JSON object of plain integers, the same for equal tokens."""
        return json.dumps(
            {
                "instruction_ids": self.instruction_ids.tolist(),
                "terminator_ids": self.terminator_ids.tolist(),
                "label_ids": [ids.tolist() for ids in self.label_ids],
                "max_history_tokens": self.max_history_tokens,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "PromptTokens":
        """The inverse of `to_json`. Raises DataError for anything else."""
        try:
            stored = json.loads(text)
            return cls(
                instruction_ids=_int32(stored["instruction_ids"]),
                terminator_ids=_int32(stored["terminator_ids"]),
                label_ids=tuple(_int32(ids) for ids in stored["label_ids"]),
                max_history_tokens=int(stored["max_history_tokens"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"the stored prompt is not readable ({error!r}); run the preparation again"
            ) from None

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 that changes with any token."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


class PromptEncoder:
    """Renders and tokenizes prompts for one tokenizer and one config.

    Raises ModelError for a chat template that cannot be used.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", config: PromptConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self._segments = SegmentEncoder(tokenizer)
        self._encoded: dict[str, np.ndarray] = {}
        self.is_chat = tokenizer.chat_template is not None
        self._set_layout()

    def encode_lines(self, events: pa.Table) -> pa.ListArray:
        """The history line of each event: list<int32>, one list per row.

        `events` has `behavior` and any `before.<column>` and `after.<column>` columns (strings, nulls
        allowed). A line is "<before values>:<prefix><name> (<after values>)" and a line break; the values
        stand in column order, a null among them as "?", and nothing stands where all are null.
        """
        return _once_a_kind(
            events,
            ("behavior", "before.", "after."),
            lambda kinds: self._joined(line_texts(kinds, self.config.name_prefix, self._bare_line)),
        )

    def encode_questions(self, events: pa.Table) -> pa.ListArray:
        """What is known before each event, then the request for its name: list<int32>, none of them empty.

        Only the `before.<column>` columns are read. In the plain layout this is how the event's own line
        begins.
        """
        return _once_a_kind(
            events,
            ("before.",),
            lambda kinds: self._joined([question_texts(kinds, self._bare_line)], ending=self._question_close),
        )

    def encode_profiles(self, profiles: Sequence[Sequence[tuple[str, int]]]) -> list[np.ndarray]:
        """The line of each profile, behaviors with counts: int32, empty for an empty one. Names stand as elsewhere."""
        texts = [profile_texts(profile, self.config.name_prefix) for profile in profiles]
        return [
            np.concatenate(self._encode_segments(of)) if profile else _int32([])
            for of, profile in zip(texts, profiles, strict=True)
        ]

    def encode_names(self, names: Sequence[str]) -> list[np.ndarray]:
        """The tokens of behavior names, int32, exactly as in history lines and without the terminator."""
        return self._encode_segments([self.config.name_prefix + rendered_text(name) for name in names])

    def prompt_tokens(
        self,
        vocabulary_names: Sequence[str],
        max_positions: int,
        longest_question: int,
        longest_profile: int = 0,
    ) -> PromptTokens:
        """The shared tokens of a run and the room that is left for history.

        `longest_question` is the largest length among `encode_questions`, `longest_profile` among
        `encode_profiles`. Raises DataError for names that render to the same tokens or to nothing, ConfigError where
        the model's positions leave no room for history.
        """
        labels = self.encode_names(vocabulary_names)
        _check_labels(vocabulary_names, labels)
        listed: list[int] = []
        if self.config.list_behaviors:
            line_break = self._segments.data(["\n"])[0]
            listed = [token for label in labels for token in (*line_break, *label.tolist())]
        instruction = [*self._opening, *listed, *self._user_turn]
        longest_label = max((len(label) for label in labels), default=0)
        asked = longest_profile + longest_question
        room = max_positions - len(instruction) - asked - longest_label - len(self._terminator)
        if room < longest_label + 1:
            raise ConfigError(
                f"prompt: the model has {max_positions} positions; the instruction takes {len(instruction)}, "
                f"the longest question {asked}, profile included, the longest label {longest_label} and the "
                f"terminator {len(self._terminator)}, which leaves {room} for history. Shorten "
                "prompt.instruction, switch prompt.list_behaviors off, drop context_before columns, shorten "
                "names (events.max_behavior_characters) or choose a base model with more positions"
            )
        return PromptTokens(
            instruction_ids=_int32(instruction),
            terminator_ids=_int32(self._terminator),
            label_ids=tuple(labels),
            max_history_tokens=min(room, self.config.max_history_tokens or room),
        )

    def _set_layout(self) -> None:
        """Sets what surrounds the data: how prompt, user turn, question and answer begin and end."""
        segments, options = self._segments, self.config.chat_template_kwargs
        instruction = segments.data([self.config.instruction])[0]
        line_break = segments.data(["\n"])[0]
        if not line_break:
            raise ModelError(
                "the tokenizer drops line breaks, so that events could not be told apart; use a base model "
                "whose tokenizer keeps them"
            )
        if not self.is_chat:
            self._opening = [*leading_ids(self.tokenizer), *instruction]
            self._user_turn = line_break
            self._terminator = line_break
            self._question_close = _int32([])
            # The question may not be empty: without context a line begins with a dash.
            self._bare_line = "-"
            return
        if has_system_turn(self.tokenizer, options):
            before, between, close, end = turn_pieces(
                self.tokenizer, ["system", "user", "assistant"], options
            )
            self._user_turn = segments.template(between)
        else:
            before, close, end = turn_pieces(self.tokenizer, ["user", "assistant"], options)
            self._user_turn = [*line_break, *line_break]
        self._opening = [*segments.template(before), *instruction]
        self._question_close = _int32(segments.template(close))
        self._bare_line = ""
        self._terminator = turn_end(self.tokenizer, segments.template(end), segments.control_ids)

    def _joined(self, columns: Sequence[pa.Array], ending: np.ndarray | None = None) -> pa.ListArray:
        """Concatenates, row by row, the tokens of the segments in `columns`, then `ending`."""
        rows = len(columns[0])
        segments: list[np.ndarray] = [_int32([]) if ending is None else ending]
        index = np.zeros((rows, len(columns) + 1), np.int64)
        for position, column in enumerate(columns):
            distinct = column.dictionary_encode()
            index[:, position] = distinct.indices.to_numpy(zero_copy_only=False) + len(segments)
            segments.extend(self._encode_segments(distinct.dictionary.to_pylist()))
        chosen = index.ravel()
        segment_lengths = np.array([len(segment) for segment in segments], np.int64)
        segment_starts = np.cumsum(segment_lengths) - segment_lengths
        lengths = segment_lengths[chosen]
        ends = np.cumsum(lengths)
        source = np.repeat(segment_starts[chosen] - (ends - lengths), lengths) + np.arange(lengths.sum())
        offsets = np.concatenate([[0], ends[len(columns) :: len(columns) + 1]])
        return pa.ListArray.from_arrays(_offsets32(offsets), pa.array(np.concatenate(segments)[source]))

    def _encode_segments(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text as data, int32, encoding each distinct one once."""
        if len(self._encoded) > _MAX_CACHED_SEGMENTS:
            self._encoded = {}
        missing = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        for text, ids in zip(missing, self._segments.data(missing), strict=True):
            self._encoded[text] = _int32(ids)
        return [self._encoded[text] for text in texts]


def _once_a_kind(
    events: pa.Table, prefixes: tuple[str, ...], encode: Callable[[pa.Table], pa.ListArray]
) -> pa.ListArray:
    """What `encode` makes of each row, a list of int32, made once for all rows that are equal in these columns."""
    code = np.zeros(len(events), np.int64)
    for name in events.column_names:
        if not name.startswith(prefixes):
            continue
        encoded = events[name].combine_chunks().dictionary_encode(null_encoding="encode")
        code = code * len(encoded.dictionary) + encoded.indices.to_numpy()
        # at most as many as there are rows, so the next product cannot overflow
        code = _renumbered(code)
    kinds = int(code.max(initial=-1)) + 1
    if 2 * kinds > len(code):
        return _in_slices(events, encode)
    first = np.empty(kinds, np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    made = _in_slices(events.take(pa.array(first)), encode)
    offsets, width = made.offsets.to_numpy().astype(np.int64), made.values.type.byte_width
    of_rows = _offsets32(np.append(0, np.cumsum(np.diff(offsets)[code])))
    # As octets they are copied run by run.
    octets = [None, pa.py_buffer(offsets * width), made.values.buffers()[1]]
    taken = pa.LargeBinaryArray.from_buffers(pa.large_binary(), kinds, octets).take(pa.array(code))
    values = np.frombuffer(taken.buffers()[2] or b"", np.int32)[: of_rows[-1].as_py()]
    return pa.ListArray.from_arrays(of_rows, pa.array(values))


def _in_slices(events: pa.Table, encode: Callable[[pa.Table], pa.ListArray]) -> pa.ListArray:
    """What `encode` makes of all rows, which takes several times its memory, of so many at a time."""
    starts = range(0, max(len(events), 1), _ENCODED_ROWS)
    made = [encode(events.slice(start, _ENCODED_ROWS)) for start in starts]
    _check_offset(sum(len(each.values) for each in made), len(events))
    return pa.concat_arrays(made)


def _renumbered(code: np.ndarray) -> np.ndarray:
    """Codes, int64, from 0 on without gaps, equal where they were."""
    most = int(code.max(initial=-1)) + 1
    if most > 4 * len(code):
        return pa.array(code).dictionary_encode().indices.to_numpy().astype(np.int64)
    is_there = np.zeros(most, bool)
    is_there[code] = True
    return (np.cumsum(is_there) - 1)[code]


def _offsets32(offsets: np.ndarray) -> pa.Array:
    """Where the tokens of each row begin, int32. Raises DataError for more than there is room for."""
    _check_offset(int(offsets[-1]), len(offsets) - 1)
    return pa.array(offsets.astype(np.int32))


def _check_offset(tokens: int, rows: int) -> None:
    if tokens > np.iinfo(np.int32).max:
        raise DataError(
            f"{rows} events hold more than 2^31 tokens; lower preparation.partition_megabytes, so that fewer are in a "
            "part"
        )


def _check_labels(names: Sequence[str], labels: Sequence[np.ndarray]) -> None:
    seen: dict[tuple[int, ...], str] = {}
    for name, label in zip(names, labels, strict=True):
        if not rendered_text(name).strip() or not len(label):
            raise DataError(f"the behavior name {name!r} renders to nothing; give it visible text")
        other = seen.setdefault(tuple(label.tolist()), name)
        if other is not name:
            raise DataError(
                f"the behavior names {other!r} and {name!r} become the same tokens, so that no model could "
                "tell them apart; rename or merge one of them (line breaks and control characters count as a "
                "space)"
            )


def _int32(ids: Sequence[int]) -> np.ndarray:
    return np.array(ids, np.int32)
