"""The plots of a search's report: front, importance, slices. Inline SVG in the style of the runs' reports."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.ticker import PercentFormatter

from behaviorlm_ray.report.inline_svg import INKS, drawing, inline
from behaviorlm_ray.report.wording import readable
from behaviorlm_ray.search.objective import ANCHOR, TAIL

WIDTH = 480


def front_plot(
    trials: Sequence[Mapping[str, Any]], front: Sequence[int], floor: float | None, best: int | None
) -> Markup | None:
    """Trials by anchor accuracy (x) and tail macro recall (y); front joined, stopped ones faint, winner filled."""
    measured = {each["trial"]: (each["metrics"].get(ANCHOR), each["metrics"].get(TAIL)) for each in trials}
    points = {trial: point for trial, point in measured.items() if None not in point}
    if not points:
        return None
    whole = {trial["trial"] for trial in trials if trial["status"] == "finished"}
    with drawing(WIDTH, 380) as figure:
        axes = figure.add_subplot()
        for trial, (x, y) in points.items():
            color, alpha = (INKS["tuned"], 1.0) if trial in whole else (INKS["muted"], 0.5)
            fill = color if trial == best else "none"
            axes.plot([x], [y], "o", markersize=7, color=color, alpha=alpha, markerfacecolor=fill)
            axes.annotate(str(trial + 1), (x, y), (5, 4), textcoords="offset points", fontsize=9, alpha=alpha)
        on_front = sorted(points[trial] for trial in front if trial in points)
        if len(on_front) > 1:
            xs, ys = zip(*on_front, strict=True)
            axes.plot(xs, ys, color=INKS["tail"], linewidth=1.4, zorder=0)
        if floor is not None:
            axes.axvline(floor, color=INKS["muted"], linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("anchor accuracy")
        axes.set_ylabel("tail macro recall")
        return inline(figure, "front", "Trials by anchor accuracy and tail macro recall on validation")


def importance_plot(importance: Mapping[str, float]) -> Markup | None:
    """A bar for each key."""
    if not importance:
        return None
    names, shares = zip(*reversed(list(importance.items())), strict=True)
    with drawing(WIDTH, 60 + 34 * len(names)) as figure:
        axes = figure.add_subplot()
        axes.barh([readable(name) for name in names], shares, color=INKS["series-1"], height=0.6)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(visible=False, axis="y")
        return inline(figure, "importance", "Share of the objective's variance that each key explains")


def slice_plot(name: str, key: str, points: Sequence[tuple[Any, float]], metric: str, is_log: bool) -> Markup:
    """A metric against one key. Values that are no numbers stand side by side by their text."""
    values, measured = zip(*points, strict=True)
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    with drawing(300, 230) as figure:
        axes = figure.add_subplot()
        shown = list(values) if is_number else [readable(str(value)) for value in values]
        axes.plot(shown, measured, "o", markersize=6, color=INKS["series-1"], markerfacecolor="none")
        if is_number and is_log:
            axes.set_xscale("log")
        axes.set_ylabel(metric)
        return inline(figure, name, f"{metric} against {readable(key)}")
