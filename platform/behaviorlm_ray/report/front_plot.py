"""The plot of the fronts: what each model reaches on anchors and tail as logit adjustment gets stronger."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from behaviorlm_ray.report.content import Front
from behaviorlm_ray.report.inline_svg import INKS, drawing, inline
from behaviorlm_ray.report.plots import WIDTH, shortened

SERIES = 6
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
"""Six colors are told apart; further models take the same colors with other dashes."""


def front_plot(fronts: Mapping[str, Front], truth: Front | None) -> Markup | None:
    """A line for each model, a dot where there is no adjustment, and the truth's frontier; None without a point."""
    drawn = {name: (points, front) for name, front in fronts.items() if (points := _points(front))}
    if not drawn:
        return None
    rows = -(-(len(drawn) + (truth is not None)) // 2)
    with drawing(WIDTH, 340 + 20 * rows) as figure:
        axes = figure.add_subplot()
        handles = []
        if truth is not None and (best := _points(truth)):
            best.sort()
            handles.append(_line(axes, best, "best possible, expected", INKS["muted"], DASHES[1]))
        for number, (name, (points, front)) in enumerate(drawn.items()):
            color, dash = INKS[f"series-{number % SERIES + 1}"], DASHES[number // SERIES % len(DASHES)]
            handles.append(_line(axes, points, shortened(name), color, dash))
            if (plain := unadjusted(front)) is not None:
                axes.plot(*plain, "o", color=color, markersize=6, markeredgecolor=INKS["page"])
        axes.set_xlabel("anchor accuracy  →  better")
        axes.set_ylabel("tail macro recall  →  better")
        axes.margins(0.06)
        figure.legend(handles=handles, loc="outside upper left", ncols=2, handlelength=2, columnspacing=1.2)
        return inline(figure, "fronts", "Tail macro recall against anchor accuracy as logit adjustment grows")


def unadjusted(front: Front) -> tuple[float, float] | None:
    """The point without adjustment: at tau 0, or the first where taus are not given; None where it was not measured."""
    taus = [0.0] if front.tau is None else front.tau
    for tau, anchor, tail in zip(taus, front.anchor_accuracy, front.tail_macro_recall, strict=False):
        if tau == 0 and anchor is not None and tail is not None:
            return anchor, tail
    return None


def _line(axes: Axes, points: Sequence[tuple[float, float]], label: str, color: str, dash: Any) -> Line2D:
    """Draw it. Returns it for the legend."""
    anchor, tail = zip(*points, strict=True)
    [line] = axes.plot(anchor, tail, color=color, linestyle=dash, linewidth=1.5, label=label)
    return line


def _points(front: Front) -> list[tuple[float, float]]:
    pairs = zip(front.anchor_accuracy, front.tail_macro_recall, strict=True)
    return [(anchor, tail) for anchor, tail in pairs if anchor is not None and tail is not None]
