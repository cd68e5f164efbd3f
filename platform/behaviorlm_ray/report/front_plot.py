"""The plot of the fronts: what each tuned model reaches on anchors and tail as logit adjustment gets stronger."""

from collections.abc import Mapping

from markupsafe import Markup
from matplotlib.lines import Line2D

from behaviorlm_ray.report.content import Front
from behaviorlm_ray.report.inline_svg import INKS, drawing, inline
from behaviorlm_ray.report.plots import WIDTH, shortened

SERIES = 6
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
"""Six colors are told apart; further models take the same colors with other dashes."""


def front_plot(fronts: Mapping[str, Front], truth: Front | None) -> Markup | None:
    """A line for each model, a dot where there is no adjustment, and the truth's frontier; None without a point."""
    drawn = {name: points for name, front in fronts.items() if (points := _points(front))}
    if not drawn:
        return None
    rows = -(-(len(drawn) + (truth is not None)) // 2)
    with drawing(WIDTH, 340 + 20 * rows) as figure:
        axes = figure.add_subplot()
        handles = []
        if truth is not None and (best := _points(truth)):
            best.sort()
            style = {"color": INKS["muted"], "linewidth": 1.2, "linestyle": (0, (4, 3))}
            axes.plot(*zip(*best, strict=True), **style)
            handles.append(Line2D([], [], label="best possible, expected", **style))
        for number, (name, points) in enumerate(drawn.items()):
            style = {
                "color": INKS[f"series-{number % SERIES + 1}"],
                "linestyle": DASHES[number // SERIES % len(DASHES)],
                "linewidth": 1.5,
            }
            axes.plot(*zip(*points, strict=True), **style)
            axes.plot(*points[0], "o", color=style["color"], markersize=6, markeredgecolor=INKS["page"])
            handles.append(Line2D([], [], label=shortened(name), **style))
        axes.set_xlabel("anchor accuracy  →  better")
        axes.set_ylabel("tail macro recall  →  better")
        axes.margins(0.06)
        figure.legend(handles=handles, loc="outside upper left", ncols=2, handlelength=2, columnspacing=1.2)
        return inline(figure, "fronts", "Tail macro recall against anchor accuracy as logit adjustment grows")


def _points(front: Front) -> list[tuple[float, float]]:
    pairs = zip(front.anchor_accuracy, front.tail_macro_recall, strict=True)
    return [(anchor, tail) for anchor, tail in pairs if anchor is not None and tail is not None]
