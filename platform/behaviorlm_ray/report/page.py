"""From `ReportData` to one HTML file that needs nothing else: no script, font, image or network."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from markupsafe import Markup

from behaviorlm_ray.evaluation.comparison import PRIMARY
from behaviorlm_ray.report import plots, wording
from behaviorlm_ray.report.content import (
    BehaviorRow,
    Interval,
    PairedDifference,
    ReportData,
    SelectedBehavior,
)
from behaviorlm_ray.report.document import filled
from behaviorlm_ray.report.front_plot import front_plot

FREQUENT_BEHAVIORS = 40  # shown at once; the rest is folded
MOST_BEHAVIORS = 1000  # rows of one table; more would make the page too heavy to open

Figures = list[tuple[str, Markup]]


@dataclass
class MetricTable:
    """Rows of models against columns of metrics, in one group of samples."""

    name: str
    metrics: list[str]
    rows: list[tuple[str, list[Interval]]]
    best: dict[str, str] = field(default_factory=dict)


def render_report(data: ReportData) -> str:
    """The report as an HTML document."""
    return filled("behaviorlm_ray.report", "template.html", data=data, **_view(data))


def _view(data: ReportData) -> dict[str, Any]:
    """What the template shows beyond the data themselves."""
    groups = wording.ordered_groups([group for model in data.results.models.values() for group in model])
    return {
        "warnings": _warnings(data),
        "samples": wording.facts(data.results.samples),
        "primary": PRIMARY,
        "endpoint": [
            (
                name,
                *(_interval(data, name, group, metric) for group, metric in (*PRIMARY, ("all", "accuracy"))),
            )
            for name in data.results.models
        ],
        "endpoint_plot": _endpoint_plot(data),
        "front_plot": front_plot(data.fronts, data.truth_front),
        "areas": [
            (name, front.area, front.expected_area)
            for name, front in data.fronts.items()
            if front.area is not None or front.expected_area is not None
        ],
        "endpoint_expected": data.results.in_expectation,
        "kind_of": _kinds(data),
        "description_of": {name: note.description for name, note in data.models.items()},
        "ceiling": {
            group: value for group, value in (data.results.ceiling or {}).items() if value is not None
        },
        "groups": [(group, _metric_tables(data, group)) for group in groups],
        "group_meanings": wording.GROUP_MEANINGS,
        "primary_comparisons": _paired(c for c in data.comparisons if (c.group, c.metric) in PRIMARY),
        "other_comparisons": _paired(c for c in data.comparisons if (c.group, c.metric) not in PRIMARY),
        "verdict": _verdict,
        "retention_measures": _union(data.results.retention.values()),
        "nothing": Interval(),
        "loss_plots": _loss_plots(data),
        "selection_plot": plots.selection_plot(data.selection.behaviors) if data.selection else None,
        "selection_rows": _folded(_by_frequency(data.selection.behaviors) if data.selection else []),
        "behavior_tables": [
            (model, _folded(_most_frequent(rows))) for model, rows in data.behaviors.items() if rows
        ],
        "reliability_plots": _reliability_plots(data),
        "configuration": _yaml(data.configuration),
    }


def _warnings(data: ReportData) -> list[str]:
    """The run's warnings and then those of its stages, each once."""
    of_stages = [
        f"{stage.stage}: {warning}"
        for stage in data.stages
        for warning in stage.warnings
        if warning not in data.warnings
    ]
    return list(dict.fromkeys([*data.warnings, *of_stages]))


def _kinds(data: ReportData) -> dict[str, str]:
    return {name: data.models[name].kind if name in data.models else "tuned" for name in data.results.models}


def _interval(data: ReportData, model: str, group: str, metric: str) -> Interval:
    return data.results.models[model].get(group, {}).get(metric, Interval())


def _endpoint_plot(data: ReportData) -> Markup | None:
    kinds = _kinds(data)
    x, y = PRIMARY
    models = [
        (kinds[name], _interval(data, name, *x), _interval(data, name, *y)) for name in data.results.models
    ]
    ceiling = (data.results.ceiling or {}).get("anchor")
    return plots.endpoint_plot(models, "anchor accuracy", "tail macro recall", ceiling)


def _metric_tables(data: ReportData, group: str) -> list[MetricTable]:
    present = _union(model.get(group, {}) for model in data.results.models.values())
    known = [metric for metrics in wording.METRIC_TABLES.values() for metric in metrics]
    tables = {**wording.METRIC_TABLES, "Others": tuple(metric for metric in present if metric not in known)}
    return [
        _metric_table(data, group, name, [metric for metric in metrics if metric in present])
        for name, metrics in tables.items()
        if any(metric in present for metric in metrics)
    ]


def _metric_table(data: ReportData, group: str, name: str, metrics: list[str]) -> MetricTable:
    rows = [
        (model, [_interval(data, model, group, metric) for metric in metrics])
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


def _paired(comparisons: Iterable[PairedDifference]) -> list[tuple[str, str, list[PairedDifference]]]:
    pairs: dict[tuple[str, str], list[PairedDifference]] = {}
    for comparison in comparisons:
        pairs.setdefault((comparison.first, comparison.second), []).append(comparison)
    return [(first, second, rows) for (first, second), rows in pairs.items()]


def _verdict(comparison: PairedDifference) -> str:
    """What the interval of first − second says, in a word."""
    if comparison.low is None or comparison.high is None:
        return ""
    if comparison.low > 0 or comparison.high < 0:
        lower = comparison.metric in wording.LOWER_IS_BETTER
        return "better" if (comparison.low > 0) is not lower else "worse"
    return "unclear"


def _loss_plots(data: ReportData) -> Figures:
    drawn = [
        (stage, plots.loss_plot(f"loss-{number}", stage, curve))
        for number, (stage, curve) in enumerate(data.loss_curves.items())
    ]
    return [(stage, plot) for stage, plot in drawn if plot is not None]


def _reliability_plots(data: ReportData) -> Figures:
    drawn = [
        (model, plots.reliability_plot(f"reliability-{number}", model, bins))
        for number, (model, bins) in enumerate(data.reliability.items())
    ]
    return [(model, plot) for model, plot in drawn if plot is not None]


def _most_frequent(rows: Sequence[BehaviorRow]) -> list[BehaviorRow]:
    """By training targets, then test targets, then name; the row of the unseen comes last."""
    return sorted(
        rows,
        key=lambda row: (
            row.behavior is None,
            -(row.training_targets or 0),
            -(row.targets or 0),
            row.behavior or "",
        ),
    )


def _by_frequency(behaviors: Sequence[SelectedBehavior]) -> list[SelectedBehavior]:
    return sorted(behaviors, key=lambda behavior: (-behavior.available, behavior.behavior))


def _folded(rows: Sequence[Any]) -> dict[str, Any]:
    """The rows shown, those folded away, and how many are left out because the table would be too long.

    A last row for unseen behaviors is shown in any case.
    """
    unseen = [row for row in rows[-1:] if row.behavior is None]
    named = list(rows[: len(rows) - len(unseen)])
    return {
        "shown": named[:FREQUENT_BEHAVIORS] + unseen,
        "rest": named[FREQUENT_BEHAVIORS:MOST_BEHAVIORS],
        "left_out": max(len(named) - MOST_BEHAVIORS, 0),
    }


def _union(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys of all mappings in order of first appearance."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _yaml(configuration: Mapping[str, Any]) -> str:
    return (
        yaml.safe_dump(dict(configuration), sort_keys=False, allow_unicode=True, width=100)
        if configuration
        else ""
    )
