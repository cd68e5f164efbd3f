"""What a check says: keep, recalibrate or tune again, each figure with the limit that it is held against. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from behaviorlm.predictor.artifact import Intervals
from behaviorlm_ray.console.tables import interval_text
from behaviorlm_ray.prediction.drift import Drift
from behaviorlm_ray.prediction.settings import Limits

Verdict = Literal["keep", "recalibrate", "tune again"]
MOST_NAMED = 5


@dataclass(frozen=True)
class Figure:
    """A line of what was found. asks_for: what it asks for where it is beyond its limit; None: within."""

    words: str
    asks_for: Verdict | None = None


@dataclass(frozen=True)
class Judgment:
    """The verdict is the gravest that a figure asks for. metrics: on this log, with intervals by users. bins: the
    reliability diagram of the first answer.
    """

    verdict: Verdict
    figures: tuple[Figure, ...]
    metrics: Intervals
    drift: Drift
    bins: pa.Table

    @property
    def lines(self) -> list[str]:
        """For people: the verdict with what it rests on, then all figures."""
        reasons = [figure.words for figure in self.figures if figure.asks_for == self.verdict]
        first = f"{self.verdict}: " + ("; ".join(reasons) or "every figure is within its limit")
        shown = [f"  {'!' if figure.asks_for else ' '} {figure.words}" for figure in self.figures]
        return [first, *shown, *_reliability(self.bins)]


def judge(metrics: Intervals, exported: Intervals, found: Drift, bins: pa.Table, limits: Limits) -> Judgment:
    """metrics: on the new log; exported: those of the artifact, on its own test part; empty: not told."""
    figures = [
        *(_accuracy(group, metrics, exported, limits) for group in ("anchor", "tail")),
        *_drift(found, limits),
        _calibration(metrics, exported, limits),
    ]
    asked = {figure.asks_for for figure in figures}
    verdict: Verdict = (
        "tune again" if "tune again" in asked else "recalibrate" if "recalibrate" in asked else "keep"
    )
    return Judgment(verdict, tuple(figures), metrics, found, bins)


def _accuracy(group: str, metrics: Intervals, exported: Intervals, limits: Limits) -> Figure:
    now, before = metrics[group]["accuracy"], exported.get(group, {}).get("accuracy", {}).get("value")
    if now["value"] is None:
        return Figure(f"{group} accuracy: no target")
    words = f"{group} accuracy {interval_text(now)}"
    if before is None:
        return Figure(f"{words}; the artifact tells none to compare it with")
    words += f", {before:.3f} when exported (allowed loss {limits.accuracy_loss:g})"
    high = now["high"]
    is_worse = high is not None and high < before - limits.accuracy_loss
    return Figure(words, "tune again" if is_worse else None)


def _drift(found: Drift, limits: Limits) -> Iterator[Figure]:
    words = f"{found.unseen:.2%} of the events have behaviors that the vocabulary does not hold"
    named = [f"{name!r} ({number:,})" for name, number in list(found.new_names.items())[:MOST_NAMED]]
    if named:
        words += f", such as {', '.join(named)}"
    yield Figure(
        f"{words} (limit {limits.unseen_share:.0%})",
        "tune again" if found.unseen > limits.unseen_share else None,
    )
    has_moved = found.total_variation > max(limits.mix_distance, found.by_chance)
    yield Figure(
        f"the mix of behaviors lies {found.total_variation:.3f} from the trained one in total variation, "
        f"{found.by_chance:.3f} or less by chance (limit {limits.mix_distance:g})",
        "tune again" if has_moved else None,
    )
    words = f"{found.switched:.1%} of the events have behaviors that changed sides"
    for what, names in (("anchors by now", found.became_anchor), ("tail by now", found.became_tail)):
        if names:
            words += f"; {what}: {', '.join(map(repr, names[:MOST_NAMED]))}"
            words += f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    yield Figure(
        f"{words} (limit {limits.switched_share:.0%})",
        "tune again" if found.switched > limits.switched_share else None,
    )


def _calibration(metrics: Intervals, exported: Intervals, limits: Limits) -> Figure:
    now = metrics["all"]["expected_calibration_error"]
    before = exported.get("all", {}).get("expected_calibration_error", {}).get("value")
    words = f"expected calibration error {interval_text(now, 'not known')}"
    if before is not None:
        words += f", {before:.3f} when exported"
    low = now["low"] if now["low"] is not None else now["value"]
    is_off = low is not None and low > limits.calibration_error
    return Figure(f"{words} (limit {limits.calibration_error:g})", "recalibrate" if is_off else None)


def _reliability(bins: pa.Table) -> list[str]:
    filled = [row for row in bins.to_pylist() if row["samples"]]
    return [
        "  how sure the first answer was, and how often it was right:",
        *(
            f"    {row['low']:.2f} to {row['high']:.2f}  {row['samples']:>9,} positions  "
            f"{row['mean_confidence']:.3f}  {row['accuracy']:.3f}"
            for row in filled
        ),
    ]
