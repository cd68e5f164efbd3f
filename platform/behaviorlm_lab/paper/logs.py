"""Exhibits about the log: the distribution of behaviors with the anchor cut, a table of the data, and each behavior."""

from collections.abc import Sequence
from typing import Any

from behaviorlm_lab.paper.drawn import GROUPS, Drawn, Row
from behaviorlm_lab.paper.finished import PaperRun, methods_of
from behaviorlm_lab.paper.messages import quoted
from behaviorlm_lab.paper.settings import ExhibitSettings
from behaviorlm_ray.report.content import BehaviorRow
from behaviorlm_ray.report.drawing import labels

MOST_NAMED = 80
"""Behaviors whose names stand below the bars."""


def distribution(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """Training targets of each behavior, the most frequent first; anchors are above the cut."""
    [run] = runs
    behaviors = known_behaviors(run)
    total = sum(row.training_targets or 0 for row in behaviors)
    cut = run.settings.vocabulary.anchor_threshold
    rows: list[Row] = [
        {
            "rank": rank,
            "behavior": row.behavior,
            "group": group_of(row),
            "training targets": row.training_targets,
            "share": (row.training_targets or 0) / max(total, 1),
        }
        for rank, row in enumerate(behaviors, 1)
    ]
    anchors = [row for row in rows if row["group"] == "anchor"]
    covered = sum(row["share"] for row in anchors)
    message = f"{len(anchors)} anchors of {len(rows)} behaviors have {covered:.1%} of the {total:,} training targets."
    note = (
        f"The dashed line is the cut: {cut:.2%} of them. The scale is logarithmic: the tops of bars count, not their "
        "lengths."
    )
    return Drawn(rows, _bars(rows, cut), (note,), message)


def data_table(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """What each run's log is like; one row a run."""
    rows = [_log_row(run) for run in runs]
    first = rows[0]
    message = (
        f"{first['log']}: {first['events']:,} events of {first['behaviors']} behaviors, {first['anchors']} of them "
        f"anchors; {first['of them tail']:,} of the {first['test samples measured']:,} test samples that are measured "
        "have a tail target."
    )
    return Drawn(rows, None, (), message)


def behaviors_table(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """Recall of every behavior by each method."""
    [run] = runs
    methods = methods_of(run, exhibit)
    recalls = [
        {row.behavior: row.recall for row in run.data.behaviors[method.shown.model]} for method in methods
    ]
    rows: list[Row] = [
        {
            "behavior": row.behavior,
            "group": group_of(row),
            "training targets": row.training_targets,
            "test targets": row.targets,
            **{
                f"recall, {method.label}": recall[row.behavior]
                for method, recall in zip(methods, recalls, strict=True)
            },
        }
        for row in known_behaviors(run)
    ]
    few = run.settings.few_shot.tail_samples
    notes = [
        "Recalls of single behaviors rest on as many test targets as stand beside them: no interval is told, and one "
        "target more or less of ten is a tenth.",
        *(
            []
            if few is None
            else [f"Of each tail behavior at most {few} of the training targets are tuned on."]
        ),
    ]
    return Drawn(rows, None, tuple(notes), _better(rows, [f"recall, {method.label}" for method in methods]))


def _better(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """How many tail behaviors the last method tells more, and less, often than each of the others."""
    *others, last = columns
    tail = [row for row in rows if row["group"] == "tail" and row[last] is not None]
    told = [
        f"{quoted(other.removeprefix('recall, '))}: {sum(row[last] > row[other] for row in tail)} more and "
        f"{sum(row[last] < row[other] for row in tail)} less often"
        for other in others
    ]
    name = quoted(last.removeprefix("recall, "))
    return f"Of {len(tail)} tail behaviors {name} tells, held against {'; '.join(told)}." if told else ""


def known_behaviors(run: PaperRun) -> list[BehaviorRow]:
    """The vocabulary with its counts, the most frequent first."""
    every = next(iter(run.data.behaviors.values()))
    known = [row for row in every if row.behavior is not None]
    return sorted(known, key=lambda row: (-(row.training_targets or 0), row.behavior or ""))


def group_of(row: BehaviorRow) -> str:
    """anchor or tail."""
    return "anchor" if row.is_anchor else "tail"


def _log_row(run: PaperRun) -> Row:
    dataset, samples = run.data.dataset, run.data.results.samples
    assert dataset is not None
    few = run.settings.few_shot
    return {
        **run.at,
        "log": dataset.name,
        "events": dataset.rows,
        "users": dataset.users,
        "behaviors": dataset.behaviors,
        "anchors": dataset.anchors,
        "tail behaviors": dataset.tail,
        **{f"{split} samples": number for split, number in dataset.samples_per_split.items()},
        "test samples measured": samples.get("all"),
        "of them anchor": samples.get("anchor"),
        "of them tail": samples.get("tail"),
        "repeat rate": dataset.repeat_rate,
        "set aside": sum(dataset.quarantined.values()),
        "tail shots": few.tail_samples,
        "share used": few.share,
    }


def _bars(rows: Sequence[Row], cut: float) -> dict[str, Any]:
    shown = [
        {**row, "label": label}
        for row, label in zip(rows, labels([str(row["behavior"]) for row in rows]), strict=True)
        if row["training targets"]
    ]
    is_named = len(shown) <= MOST_NAMED
    x = {
        "field": "label",
        "type": "nominal",
        "sort": None,
        "title": None if is_named else f"{len(shown)} behaviors, the most frequent first",
        "axis": {"labelAngle": -60} if is_named else {"labels": False, "ticks": False},
    }
    least = min(row["share"] for row in shown) / 1.5
    scale = {"type": "log", "domainMin": least, "nice": False}
    y = {"type": "quantitative", "scale": scale, "title": "share of the training targets (log scale)"}
    colors = {"domain": list(GROUPS), "range": list(GROUPS.values())}
    return {
        "width": max(420, min(14 * len(shown), 1000)),
        "height": 260,
        "data": {"values": shown},
        "layer": [
            {
                "mark": {"type": "bar"},
                "encoding": {
                    "x": x,
                    "y": {"field": "share", **y, "axis": {"format": "~%", "tickCount": 6}},
                    "y2": {"datum": least},
                    "color": {"field": "group", "type": "nominal", "scale": colors},
                },
            },
            {
                "data": {"values": [{}]},
                "mark": {"type": "rule", "strokeDash": [5, 4], "strokeWidth": 1.5},
                "encoding": {"y": {"datum": cut, **y}},
            },
            {
                "data": {"values": [{}]},
                "mark": {"type": "text", "align": "right", "dy": -7, "fontSize": 12},
                "encoding": {
                    "x": {"value": "width"},
                    "y": {"datum": cut, **y},
                    "text": {"value": f"anchor cut: {100 * cut:g} %"},
                },
            },
        ],
    }
