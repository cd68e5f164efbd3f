"""From `ReportData` to one HTML file that needs nothing else: no font, image or network, and no script to be read."""

from collections.abc import Mapping
from typing import Any

import yaml

from behaviorlm_ray.report import wording
from behaviorlm_ray.report.content import Interval, ReportData
from behaviorlm_ray.report.document import filled
from behaviorlm_ray.report.drawing import script
from behaviorlm_ray.report.forms import RULES, forms
from behaviorlm_ray.report.panels.behaviors import behaviors_view
from behaviorlm_ray.report.panels.confidence import (
    LISTED,
    coverage_figure,
    coverage_table,
    reliability_figure,
)
from behaviorlm_ray.report.panels.cost import cost_figure, total
from behaviorlm_ray.report.panels.endpoint import endpoint_figure, front_figure, role
from behaviorlm_ray.report.panels.first_screen import groups_called, verdict
from behaviorlm_ray.report.panels.metrics import is_primary, metric_groups, paired, said_of, union
from behaviorlm_ray.report.panels.not_learned import to_know
from behaviorlm_ray.report.panels.selection import by_frequency, selection_figure
from behaviorlm_ray.report.panels.slices import slice_views
from behaviorlm_ray.report.panels.training import training_views
from behaviorlm_ray.report.panels.users import users_view

MOST_SELECTED = 1000
"""Behaviors of the selection in its table."""


def render_report(data: ReportData) -> str:
    """The report as an HTML document."""
    return filled("behaviorlm_ray.report", "template.html", script=script(), data=data, **_view(data))


def _view(data: ReportData) -> dict[str, Any]:
    """What the template shows beyond the data themselves, panel by panel."""
    found = forms(data)
    ceiling = {group: value for group, value in (data.results.ceiling or {}).items() if value is not None}
    chosen = by_frequency(data.selection.behaviors) if data.selection else []
    return {
        "forms": found,
        "rules": RULES,
        "role": role,
        "called": groups_called(data),
        "verdict": verdict(data, found),
        "to_know": to_know(data, found),
        "warnings": _warnings(data),
        "ceiling": ceiling,
        "expected": data.results.in_expectation,
        "figures": {
            "Anchor accuracy": endpoint_figure(found, "anchor", "anchor accuracy", ceiling.get("anchor")),
            "Tail macro recall": endpoint_figure(found, "tail", "tail macro recall", None),
            "Both, and what can be traded": front_figure(found, data.fronts, data.truth_front),
        },
        "areas": [
            (name, front.area, front.expected_area)
            for name, front in data.fronts.items()
            if front.area is not None or front.expected_area is not None
        ],
        "samples": wording.facts(data.results.samples),
        "slices": slice_views(data, found),
        "behaviors": behaviors_view(data, found),
        "users": users_view(data, found),
        "reliability": reliability_figure(data, found),
        "coverage": coverage_figure(data, found),
        "coverage_rows": coverage_table(data, found),
        "coverage_shares": LISTED,
        "training": training_views(data),
        "retention_measures": union(data.results.retention.values()),
        "cost": cost_figure(data),
        "total": total(data),
        "groups": metric_groups(data),
        "group_meanings": wording.GROUP_MEANINGS,
        "primary_comparisons": paired(c for c in data.comparisons if is_primary(c)),
        "other_comparisons": paired(c for c in data.comparisons if not is_primary(c)),
        "said_of": said_of,
        "nothing": Interval(),
        "selection_plot": selection_figure(chosen),
        "selected": chosen[:MOST_SELECTED],
        "selected_left_out": max(len(chosen) - MOST_SELECTED, 0),
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


def _yaml(configuration: Mapping[str, Any]) -> str:
    if not configuration:
        return ""
    return yaml.safe_dump(dict(configuration), sort_keys=False, allow_unicode=True, width=100)
