"""The words of the report: what metrics and groups are called and mean, and how numbers are written."""

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

GROUPS = {
    "all": "All behaviors",
    "anchor": "Anchor behaviors",
    "tail": "Tail behaviors",
    "changes": "Changes",
    "repeats": "Repeats",
}
GROUP_MEANINGS = {
    "all": "every test sample",
    "anchor": "samples whose target is an anchor behavior",
    "tail": "samples whose target is a tail behavior, or one that training never saw",
    "changes": "samples whose target differs from the behavior right before it",
    "repeats": "samples whose target is the behavior right before it",
}
METRIC_TABLES = {
    "Over samples": (
        "accuracy",
        "mrr",
        "ndcg_at_3",
        "ndcg_at_5",
        "recall_at_5",
        "expected_calibration_error",
    ),
    "Over behaviors": (
        "macro_recall_at_least_10",
        "macro_recall",
        "macro_precision",
        "macro_f1",
        "weighted_recall",
        "weighted_precision",
        "weighted_f1",
    ),
}
METRICS = {
    "accuracy": "Accuracy",
    "mrr": "MRR",
    "ndcg_at_3": "NDCG@3",
    "ndcg_at_5": "NDCG@5",
    "recall_at_5": "Recall@5",
    "expected_calibration_error": "Calibration error",
    "macro_recall_at_least_10": "Macro recall, ≥ 10 targets",
    "macro_recall": "Macro recall",
    "macro_precision": "Macro precision",
    "macro_f1": "Macro F1",
    "weighted_recall": "Weighted recall",
    "weighted_precision": "Weighted precision",
    "weighted_f1": "Weighted F1",
}
LOWER_IS_BETTER = frozenset({"expected_calibration_error"})
NOTHING = "–"
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufffe\uffff"
"""Embeddings, overrides and isolates of direction, and what is no character."""
_JOINED = re.compile(r"(?<=[_:/.])|(?=\+)")


def group_label(group: str) -> str:
    """The heading of a group; an unknown one is called by its own name."""
    return GROUPS.get(group, group)


def metric_label(metric: str) -> str:
    """The heading of a metric; an unknown one is called by its own name."""
    return METRICS.get(metric, metric.replace("_", " "))


def ordered_groups(groups: list[str]) -> list[str]:
    """Groups in the order of GROUPS, unknown ones last, each once."""
    known = list(GROUPS)
    return sorted(
        dict.fromkeys(groups), key=lambda group: known.index(group) if group in known else len(known)
    )


def measured(value: float | None, digits: int = 3) -> str:
    """A metric with a fixed number of decimals; a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def signed(value: float | None) -> str:
    """A difference with its sign."""
    text = measured(value)
    return f"+{text}" if value is not None and math.isfinite(value) and float(f"{value:.3f}") > 0 else text


def count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return NOTHING if value is None else f"{value:,.0f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage with a fixed number of decimals."""
    return NOTHING if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def probability(value: float | None) -> str:
    """A p value; small ones as a bound."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def readable(text: Any) -> str:
    """Text from a log with characters that act written out as in Python (`\\n`): control characters, and those that
    turn the direction of what follows them.
    """
    return "".join(_visible(character) for character in str(text))


def breakable(name: Any) -> Markup:
    """A name made of words joined by signs, that may be broken after these and nowhere else."""
    parts = _JOINED.split(readable(name))
    return Markup("<wbr>").join(part for part in parts if part)


def fact(value: Any) -> str:
    """Any plain value as a fact of a list: numbers rounded, truth in words, text made readable."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:,.4g}" if math.isfinite(value) else NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(fact(item) for item in value) or NOTHING
    return readable(value)


def facts(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """A nested mapping as flat (what, value) pairs; nested names are joined by `·`."""
    pairs = []
    for name, value in values.items():
        what = before + readable(name).replace("_", " ")
        if isinstance(value, Mapping):
            pairs += facts(value, f"{what} · ")
        else:
            pairs.append((what, fact(value)))
    return pairs


def _visible(character: str) -> str:
    acts = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _TURNING
    return ascii(character)[1:-1] if acts else character
