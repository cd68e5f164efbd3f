"""The report of a run: one HTML file with tables and plots, readable offline, on a phone, light or dark."""

from behaviorlm_ray.report.content import (
    BehaviorRow,
    DatasetSummary,
    Interval,
    LossPoint,
    ModelNote,
    PairedDifference,
    ReliabilityBin,
    ReportData,
    Results,
    SelectedBehavior,
    SelectionSummary,
    StageRow,
)
from behaviorlm_ray.report.page import render_report, write_report

__all__ = [
    "BehaviorRow",
    "DatasetSummary",
    "Interval",
    "LossPoint",
    "ModelNote",
    "PairedDifference",
    "ReliabilityBin",
    "ReportData",
    "Results",
    "SelectedBehavior",
    "SelectionSummary",
    "StageRow",
    "render_report",
    "write_report",
]
