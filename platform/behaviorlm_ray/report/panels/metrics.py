"""Tables of all metrics by group, and paired comparisons in words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from behaviorlm_ray.evaluation.comparison import PRIMARY
from behaviorlm_ray.report import wording
from behaviorlm_ray.report.content import Interval, PairedDifference, ReportData


@dataclass
class MetricTable:
    """Rows of models against columns of metrics, in one group of samples."""

    name: str
    metrics: list[str]
    rows: list[tuple[str, list[Interval]]]
    best: dict[str, str] = field(default_factory=dict)


def metric_groups(data: ReportData) -> list[tuple[str, list[MetricTable]]]:
    """The tables of each group."""
    groups = wording.ordered_groups([group for model in data.results.models.values() for group in model])
    return [(group, _metric_tables(data, group)) for group in groups]


def paired(comparisons: Iterable[PairedDifference]) -> list[tuple[str, str, list[PairedDifference]]]:
    """By pair of models, in order of first appearance."""
    pairs: dict[tuple[str, str], list[PairedDifference]] = {}
    for comparison in comparisons:
        pairs.setdefault((comparison.first, comparison.second), []).append(comparison)
    return [(first, second, rows) for (first, second), rows in pairs.items()]


def is_primary(comparison: PairedDifference) -> bool:
    """Whether it is of the endpoint."""
    return (comparison.group, comparison.metric) in PRIMARY


def said_of(comparison: PairedDifference) -> str:
    """What the interval of first − second says, in a word."""
    if comparison.low is None or comparison.high is None:
        return ""
    if comparison.low > 0 or comparison.high < 0:
        lower = comparison.metric in wording.LOWER_IS_BETTER
        return "better" if (comparison.low > 0) is not lower else "worse"
    return "unclear"


def union(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys of all mappings in order of first appearance."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _metric_tables(data: ReportData, group: str) -> list[MetricTable]:
    present = union(model.get(group, {}) for model in data.results.models.values())
    known = [metric for metrics in wording.METRIC_TABLES.values() for metric in metrics]
    tables = {**wording.METRIC_TABLES, "Others": tuple(metric for metric in present if metric not in known)}
    return [
        _metric_table(data, group, name, [metric for metric in metrics if metric in present])
        for name, metrics in tables.items()
        if any(metric in present for metric in metrics)
    ]


def _metric_table(data: ReportData, group: str, name: str, metrics: list[str]) -> MetricTable:
    rows = [
        (model, [by_group[group].get(metric, Interval()) for metric in metrics])
        for model, by_group in data.results.models.items()
        if group in by_group
    ]
    table = MetricTable(name, metrics, rows)
    for column, metric in enumerate(metrics):
        shown = [wording.measured(intervals[column].value) for _, intervals in rows]
        numbers = [text for text in shown if text != wording.NOTHING]
        if len(set(numbers)) > 1:
            best = min if metric in wording.LOWER_IS_BETTER else max
            table.best[metric] = best(numbers, key=lambda text: float(text.replace("−", "-")))
    return table
