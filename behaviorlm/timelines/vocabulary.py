"""The closed set of behavior names, their training counts, and the cut into anchors and tail."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.errors import DataError
from behaviorlm.log_files.identity import behavior_name
from behaviorlm.timelines.config import VocabularyConfig


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """K behaviors by falling training count, then by name.

    names: K distinct strings; counts: int64[K] training targets; is_anchor: bool[K].
    """

    names: tuple[str, ...]
    counts: np.ndarray
    is_anchor: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.names)

    @property
    def warnings(self) -> list[str]:
        """What to know before methods refuse: no anchors, no tail, one behavior only in training."""
        found = []
        if not self.is_anchor.any():
            found.append("no behavior is an anchor (none is above the threshold): A-Tuning has no samples")
        if self.is_anchor.all():
            found.append("every behavior is an anchor: there is no tail to learn")
        if np.count_nonzero(self.counts) == 1:
            found.append(f"all training targets are the one behavior {self.names[0]!r}")
        return found

    def index(self, names: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Index of each name, int32[n]; -1 for names that are not here (unseen in training) and nulls."""
        found = pc.index_in(names, value_set=pa.array(self.names, pa.string()))
        return np.asarray(pc.fill_null(found, -1)).astype(np.int32)

    def require_anchors(self) -> None:
        """Raise DataError if there is no anchor."""
        if not self.is_anchor.any():
            share = self.counts[0] / max(int(self.counts.sum()), 1)
            raise DataError(
                f"no behavior is an anchor: the most frequent one, {self.names[0]!r}, has {share:.3%} of "
                "the training targets; lower vocabulary.anchor_threshold, or tune in one stage"
            )

    def require_tail(self) -> None:
        """Raise DataError if there is no tail behavior."""
        if self.is_anchor.all():
            raise DataError(
                f"all {len(self)} behaviors are anchors, so there is no tail: the rarest, "
                f"{self.names[-1]!r}, has {self.counts[-1] / self.counts.sum():.3%} of the training "
                "targets; raise vocabulary.anchor_threshold, or tune in one stage"
            )

    def to_json(self) -> str:
        """JSON with names, counts, is_anchor."""
        content = {
            "names": list(self.names),
            "counts": [int(count) for count in self.counts],
            "is_anchor": [bool(anchor) for anchor in self.is_anchor],
        }
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`. Raises DataError if the text is not such a vocabulary."""
        try:
            content = json.loads(text)
            names = tuple(content["names"])
            counts = np.array(content["counts"], dtype=np.int64)
            is_anchor = np.array(content["is_anchor"], dtype=bool)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"not the JSON of a vocabulary ({error!r}); prepare the log again") from None
        if not len(names) == len(set(names)) == len(counts) == len(is_anchor):
            raise DataError(
                "the vocabulary's names, counts and is_anchor do not fit together; prepare the log again"
            )
        return cls(names, counts, is_anchor)


def check_behaviors(names: Collection[str]) -> None:
    """Raise DataError where there is one behavior only."""
    if len(names) == 1:
        raise DataError(
            f"the log holds one behavior only, {next(iter(names))!r}, so there is nothing to predict; is "
            "events.behavior the right column?"
        )


def build_vocabulary(counts: Mapping[str, int], config: VocabularyConfig) -> Vocabulary:
    """Vocabulary from the number of training targets per behavior.

    A behavior is an anchor if count / all > anchor_threshold, exactly. Raises DataError for a log without
    training targets and for one with a single behavior.
    """
    total = sum(counts.values())
    if total == 0:
        raise DataError(
            "there is no training target: the log is empty, everything is in quarantine, no user has "
            "more than prompt.min_history events, or the split leaves nothing for training"
        )
    known = {name: count for name, count in counts.items() if count > 0}
    for name in config.extra_names:
        # As normalization does with the log's names.
        spelled = behavior_name(name)
        if not spelled:
            raise DataError(f"vocabulary.extra_names holds the empty name {name!r}; remove it")
        known.setdefault(spelled, 0)
    check_behaviors(known)
    names = tuple(sorted(known, key=lambda name: (-known[name], name)))
    # Exact: in floating point a share of just the threshold may come out above it.
    threshold = Fraction(str(config.anchor_threshold)) * total
    ordered = np.array([known[name] for name in names], dtype=np.int64)
    is_anchor = np.array([count > threshold for count in ordered.tolist()], dtype=bool)
    return Vocabulary(names, ordered, is_anchor)
