"""The vocabulary: order, the exact cut into anchors and tail, lookups, and refusals that say what to do."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behaviorlm.errors import DataError
from behaviorlm.timelines.config import VocabularyConfig
from behaviorlm.timelines.vocabulary import Vocabulary, build_vocabulary

names = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda name: name.strip()
)
count_tables = st.dictionaries(names, st.integers(1, 10**6), min_size=2, max_size=30)


@settings(max_examples=200, deadline=None)
@given(counts=count_tables, threshold=st.sampled_from(["0", "0.01", "0.07", "0.1", "0.5"]))
def test_anchors_are_exactly_those_above_the_threshold(counts: dict[str, int], threshold: str) -> None:
    vocabulary = build_vocabulary(counts, VocabularyConfig(anchor_threshold=float(threshold)))
    percent = round(float(threshold) * 100)
    total = sum(counts.values())
    assert list(vocabulary.names) == sorted(counts, key=lambda name: (-counts[name], name))
    assert vocabulary.counts.dtype == np.int64
    assert vocabulary.counts.tolist() == [counts[name] for name in vocabulary.names]
    assert vocabulary.is_anchor.tolist() == [
        counts[name] * 100 > percent * total for name in vocabulary.names
    ]


def test_a_share_of_exactly_the_threshold_is_tail() -> None:
    # In floating point 0.07 * 100 is above 7.
    vocabulary = build_vocabulary({"a": 86, "b": 7, "c": 7}, VocabularyConfig(anchor_threshold=0.07))
    assert vocabulary.is_anchor.tolist() == [True, False, False]


@settings(max_examples=100, deadline=None)
@given(counts=count_tables)
def test_json_gives_the_same_vocabulary_back(counts: dict[str, int]) -> None:
    vocabulary = build_vocabulary(counts, VocabularyConfig())
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again == vocabulary
    assert again.index(pa.array(vocabulary.names)).tolist() == list(range(len(vocabulary)))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"names": ["a", "a"], "counts": [1, 1], "is_anchor": [true, true]}']
)
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="prepare the log again"):
        Vocabulary.from_json(text)


def test_unseen_names_and_nulls_have_the_index_minus_one() -> None:
    vocabulary = build_vocabulary({"<|im_end|>": 1, "two\nlines": 2, "👍": 3, "../x": 4}, VocabularyConfig())
    index = vocabulary.index(pa.chunked_array([["👍", "unseen"], ["two\nlines", None, "<|im_end|>", "../x"]]))
    assert index.dtype == np.int32
    assert index.tolist() == [1, -1, 2, -1, 3, 0]
    assert vocabulary.index(pa.array([], pa.string())).shape == (0,)


def test_extra_names_are_tail_behaviors_without_counts() -> None:
    vocabulary = build_vocabulary({"a": 5, "b": 5}, VocabularyConfig(extra_names=["z", " y ", "a"]))
    assert vocabulary.names == ("a", "b", "y", "z")
    assert vocabulary.counts.tolist() == [5, 5, 0, 0]
    assert vocabulary.is_anchor.tolist() == [True, True, False, False]
    with pytest.raises(DataError, match="empty name"):
        build_vocabulary({"a": 5}, VocabularyConfig(extra_names=[" "]))


@pytest.mark.parametrize("counts", [{}, {"a": 0}])
def test_an_empty_log_is_refused_with_what_to_look_at(counts: dict[str, int]) -> None:
    with pytest.raises(DataError, match="no training target: the log is empty"):
        build_vocabulary(counts, VocabularyConfig(extra_names=["b"]))


def test_a_log_of_one_behavior_is_refused() -> None:
    with pytest.raises(DataError, match=r"one behavior only, 'a'.*events\.behavior"):
        build_vocabulary({"a": 5}, VocabularyConfig())
    vocabulary = build_vocabulary({"a": 5}, VocabularyConfig(extra_names=["b"]))
    assert vocabulary.warnings == ["all training targets are the one behavior 'a'"]


def test_without_a_tail_there_is_a_warning_and_methods_that_need_one_refuse() -> None:
    vocabulary = build_vocabulary({"a": 60, "b": 40}, VocabularyConfig())
    assert vocabulary.warnings == ["every behavior is an anchor: there is no tail to learn"]
    vocabulary.require_anchors()
    with pytest.raises(
        DataError, match=r"all 2 behaviors are anchors.*'b', has 40\.000%.*raise vocabulary\.anchor"
    ):
        vocabulary.require_tail()


def test_without_an_anchor_there_is_a_warning_and_methods_that_need_one_refuse() -> None:
    vocabulary = build_vocabulary({f"b{index:03d}": 1 for index in range(200)}, VocabularyConfig())
    assert len(vocabulary.warnings) == 1 and "no behavior is an anchor" in vocabulary.warnings[0]
    vocabulary.require_tail()
    with pytest.raises(DataError, match=r"'b000', has 0\.500%.*lower vocabulary\.anchor_threshold"):
        vocabulary.require_anchors()
