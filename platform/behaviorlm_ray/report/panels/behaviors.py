"""Behavior by behavior: how often each is found, by the recommended predictor and by counting, and for what taken."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from behaviorlm_ray.report.content import BehaviorRow, ReportData
from behaviorlm_ray.report.drawing import embedded
from behaviorlm_ray.report.forms import Forms, Shown
from behaviorlm_ray.report.wording import readable

MOST_BEHAVIORS = 1000
"""Rows of the table; more would make the page too heavy to open."""
UNSEEN = "unseen in training"
MOST_CHOICES = 12


@dataclass(frozen=True)
class BehaviorView:
    """One row. place: of the behavior in the vocabulary. confused: (name, times); beside: recall of the rival."""

    place: int
    row: BehaviorRow
    group: str
    beside: float | None
    confused: list[tuple[str, int]]


@dataclass(frozen=True)
class BehaviorsView:
    """of: whose numbers stand in the rows at first. choices: others that a script can put there, from `embedded`."""

    of: Shown
    rival: Shown | None
    rows: list[BehaviorView]
    left_out: int
    choices: list[Shown]
    embedded: Markup


def behaviors_view(data: ReportData, forms: Forms) -> BehaviorsView | None:
    """The recommended predictor first; rows by training targets, then test targets, then name; the unseen last."""
    shown = [one for one in _first(forms) if data.behaviors.get(one.model)][:MOST_CHOICES]
    if not shown:
        return None
    of, rival = shown[0], forms.rival
    own = data.behaviors[of.model]
    beside = data.behaviors.get(rival.model, []) if rival is not None and rival.model != of.model else []
    names = [UNSEEN if row.behavior is None else readable(row.behavior) for row in own]
    order = sorted(range(len(own)), key=lambda place: _frequency(own[place]))
    named = [place for place in order if own[place].behavior is not None]
    kept = named[:MOST_BEHAVIORS] + [place for place in order if own[place].behavior is None]
    confused = _confused(data, of, names)
    rows = [
        BehaviorView(
            number,
            own[place],
            "unseen" if own[place].behavior is None else "anchor" if own[place].is_anchor else "tail",
            beside[place].recall if place < len(beside) else None,
            [(names[instead], times) for instead, times in confused[place] if instead < len(names)],
        )
        for number, place in enumerate(kept)
    ]
    return BehaviorsView(
        of,
        rival if beside else None,
        rows,
        max(len(named) - MOST_BEHAVIORS, 0),
        shown,
        _embedded(data, shown, names, kept),
    )


def _first(forms: Forms) -> list[Shown]:
    ordered = [*([] if forms.recommended is None else [forms.recommended]), *forms.best]
    return list({shown.model: shown for shown in ordered}.values())


def _frequency(row: BehaviorRow) -> tuple[bool, int, int, str]:
    return row.behavior is None, -(row.training_targets or 0), -(row.targets or 0), row.behavior or ""


def _confused(data: ReportData, of: Shown, names: Sequence[str]) -> list[list[tuple[int, int]]]:
    found = data.breakdowns.confusions.get(of.model, []) if data.breakdowns is not None else []
    return [*found, *([[]] * (len(names) - len(found)))]


def _embedded(data: ReportData, shown: list[Shown], names: list[str], kept: list[int]) -> Markup:
    """Recall, precision and confusions of each choice, in the order of the rows."""
    models = []
    for one in shown:
        rows, confused = data.behaviors[one.model], _confused(data, one, names)
        models.append(
            [
                [
                    *(
                        None if value is None else round(value, 4)
                        for value in (rows[place].recall, rows[place].precision)
                    ),
                    [pair for pair in confused[place] if pair[0] < len(names)],
                ]
                for place in kept
                if place < len(rows)
            ]
        )
    return embedded({"names": names, "models": models})
