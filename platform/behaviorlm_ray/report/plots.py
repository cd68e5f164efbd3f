"""The plots of the report, each an inline SVG at most 480 pixels wide, so that text is legible on a phone."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from behaviorlm_ray.report.content import Interval, LossPoint, ReliabilityBin, SelectedBehavior
from behaviorlm_ray.report.inline_svg import INKS, drawing, inline
from behaviorlm_ray.report.point_numbers import number_points
from behaviorlm_ray.report.wording import readable

WIDTH = 480
NAMED_BEHAVIORS = 60  # up to here the selection plot names every behavior
POINTS_PER_CURVE = 400  # a longer loss curve is drawn as means of equal blocks
_MARKERS = {"tuned": "o", "untuned": "D", "baseline": "s"}


class _Placed(NamedTuple):
    """A model that has both values; x and y are float64[3]: value, low, high (NaN without an interval)."""

    number: int
    kind: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def endpoint_plot(
    models: Sequence[tuple[str, Interval, Interval]], x_label: str, y_label: str, ceiling_x: float | None
) -> Markup | None:
    """Models (kind, x, y) as points with interval bars, numbered from 1 in the order given.

    `ceiling_x` draws a vertical line. None if no model has both values.
    """
    candidates = [
        _Placed(number, kind, _bounds(x), _bounds(y)) for number, (kind, x, y) in enumerate(models, 1)
    ]
    placed = [model for model in candidates if np.isfinite([model.x[0], model.y[0]]).all()]
    if not placed:
        return None
    with drawing(WIDTH, 400) as figure:
        axes = figure.add_subplot()
        for model in placed:
            color = INKS[model.kind]
            (x, x_low, x_high), (y, y_low, y_high) = model.x, model.y
            axes.plot([x_low, x_high], [y, y], color=color, linewidth=1.1, alpha=0.55, solid_capstyle="butt")
            axes.plot([x, x], [y_low, y_high], color=color, linewidth=1.1, alpha=0.55, solid_capstyle="butt")
            axes.plot([x], [y], _MARKERS[model.kind], color=color, markersize=7, markeredgecolor=INKS["page"])
        if ceiling_x is not None and np.isfinite(ceiling_x):
            axes.axvline(ceiling_x, color=INKS["muted"], linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                "ceiling",
                (ceiling_x, 1),
                (-4, -4),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=11,
                color=INKS["muted"],
            )
        axes.set_xlabel(f"{x_label}  →  better")
        axes.set_ylabel(f"{y_label}  →  better")
        axes.margins(0.08)
        kinds = [kind for kind in _MARKERS if any(model.kind == kind for model in placed)]
        if len(kinds) > 1:
            handles = [
                Line2D(
                    [],
                    [],
                    linestyle="none",
                    marker=_MARKERS[kind],
                    color=INKS[kind],
                    label=kind,
                    markersize=7,
                )
                for kind in kinds
            ]
            figure.legend(
                handles=handles, loc="outside upper left", ncols=3, handletextpad=0.1, columnspacing=1.2
            )
        figure.draw_without_rendering()  # the layout is final only now, and the numbers are placed in pixels
        number_points(axes, [(model.number, model.x, model.y) for model in placed])
        return inline(figure, "endpoint", f"{y_label} against {x_label}, one numbered point for each model")


def loss_plot(key: str, stage: str, curve: Sequence[LossPoint]) -> Markup | None:
    """Loss and its parts over optimizer steps; None for an empty curve."""
    if not curve:
        return None
    steps = np.array([point.step for point in curve], float)
    parts = list(dict.fromkeys(name for point in curve for name in point.parts))
    series = {"loss": _values(point.loss for point in curve)}
    if len(parts) > 1:
        series |= {part: _values(point.parts.get(part) for point in curve) for part in parts}
    with drawing(WIDTH, 290) as figure:
        axes = figure.add_subplot()
        for number, (name, values) in enumerate(series.items()):
            color = INKS["ink"] if name == "loss" else INKS[f"series-{(number - 1) % 6 + 1}"]
            noisy = len(steps) >= 60
            axes.plot(
                _block_means(steps),
                _block_means(values),
                color=color,
                linewidth=1 if noisy else 1.6,
                alpha=0.3 if noisy else 1,
                marker="o" if len(steps) == 1 else None,
                label=None if noisy else shortened(name),
            )
            if noisy:
                axes.plot(*_running_mean(steps, values), color=color, linewidth=1.8, label=shortened(name))
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if len(series) > 1:
            figure.legend(loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.2)
        return inline(figure, key, f"Loss of stage {readable(stage)} over optimizer steps")


def selection_plot(behaviors: Sequence[SelectedBehavior]) -> Markup | None:
    """Samples available and taken by behavior (log scale) and their mean difficulty; most frequent first."""
    ordered = sorted(behaviors, key=lambda behavior: (-behavior.available, behavior.behavior))
    ordered = [behavior for behavior in ordered if behavior.available > 0]
    if not ordered:
        return None
    named = len(ordered) <= NAMED_BEHAVIORS
    difficulty = _values(behavior.mean_difficulty for behavior in ordered)
    panels = 2 if np.isfinite(difficulty).any() else 1
    with drawing(WIDTH, 90 + 17 * len(ordered) if named else 200 * panels + 20) as figure:
        if named:
            grid = figure.subplots(1, panels, sharey=True, squeeze=False, width_ratios=(7, 3)[:panels])
            _named_selection(list(grid.flat), ordered)
        else:
            grid = figure.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=(3, 2)[:panels])
            _ranked_selection(list(grid.flat), ordered)
        handles = [
            Line2D([], [], color=INKS["line"], linewidth=7, label="available"),
            Line2D([], [], color=INKS["anchor"], linewidth=7, label="taken, anchor"),
            Line2D([], [], color=INKS["tail"], linewidth=7, label="taken, tail"),
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3, handlelength=0.8, columnspacing=1.2)
        return inline(
            figure, "selection", "Samples available and taken for each behavior, and their mean difficulty"
        )


def reliability_plot(key: str, model: str, bins: Sequence[ReliabilityBin]) -> Markup | None:
    """Accuracy over confidence; the area of a point grows with its samples. None without a filled bin."""
    filled = [one for one in bins if one.samples and _finite(one.mean_confidence) and _finite(one.accuracy)]
    if not filled:
        return None
    samples = np.array([one.samples for one in filled], float)
    confidence, accuracy = (
        _values(one.mean_confidence for one in filled),
        _values(one.accuracy for one in filled),
    )
    with drawing(210, 200) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=INKS["muted"], linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(confidence, accuracy, color=INKS["tuned"], linewidth=1.2)
        axes.scatter(
            confidence,
            accuracy,
            s=6 + 70 * samples / samples.max(),
            color=INKS["tuned"],
            linewidths=0,
            alpha=0.75,
        )
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="confidence", ylabel="accuracy")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([0, 0.5, 1])
            axis.set_ticks([0.25, 0.75], minor=True)
            axis.set_major_formatter(PercentFormatter(1, 0, symbol=" %"))
        return inline(figure, key, f"Accuracy over confidence of {readable(model)}")


def shortened(text: str, characters: int = 26) -> str:
    """Text for a label of a plot: made readable, cut in the middle, where names of behaviors differ least."""
    text = re.sub(r"\s+", " ", readable(text))
    if len(text) <= characters:
        return text
    ending = (characters - 1) // 2
    return f"{text[: characters - 1 - ending]}…{text[-ending:]}"


def _named_selection(panels: Sequence[Axes], ordered: Sequence[SelectedBehavior]) -> None:
    rows = np.arange(len(ordered))
    counts = panels[0]
    counts.barh(rows, [behavior.available for behavior in ordered], 0.72, color=INKS["line"])
    counts.barh(
        rows, [behavior.quota for behavior in ordered], 0.4, color=[_ink(behavior) for behavior in ordered]
    )
    counts.set_yticks(rows, [shortened(behavior.behavior) for behavior in ordered])
    counts.tick_params(axis="y", length=0, labelcolor=INKS["ink"])
    counts.set_ylim(len(ordered) - 0.4, -0.6)
    _logarithmic(counts, "x", ordered)
    counts.set_xlabel("samples")
    for panel in panels:
        panel.grid(visible=False, axis="y")
    if len(panels) > 1:
        difficulty = _values(behavior.mean_difficulty for behavior in ordered)
        panels[1].scatter(difficulty, rows, s=22, color=[_ink(behavior) for behavior in ordered])
        panels[1].tick_params(axis="y", length=0)
        panels[1].xaxis.set_major_locator(MaxNLocator(3))
        panels[1].margins(x=0.12)
        panels[1].set_xlabel("mean difficulty")


def _ranked_selection(panels: Sequence[Axes], ordered: Sequence[SelectedBehavior]) -> None:
    edges = np.arange(len(ordered) + 1) + 0.5
    ranks = np.arange(len(ordered)) + 1
    counts = panels[0]
    _logarithmic(counts, "y", ordered)
    floor = counts.get_ylim()[0]
    available = np.array([behavior.available for behavior in ordered])
    counts.stairs(available, edges, baseline=floor, fill=True, color=INKS["line"])
    for ink, is_anchor in (("anchor", True), ("tail", False)):
        taken = [b.quota if bool(b.is_anchor) is is_anchor and b.quota else floor for b in ordered]
        counts.stairs(taken, edges, baseline=floor, fill=True, color=INKS[ink])
    counts.set_ylabel("samples")
    counts.set_xlim(0.5, len(ordered) + 0.5)
    if len(panels) > 1:
        difficulty = _values(behavior.mean_difficulty for behavior in ordered)
        panels[1].scatter(
            ranks, difficulty, s=7, color=[_ink(behavior) for behavior in ordered], linewidths=0
        )
        panels[1].set_ylabel("mean difficulty")
    panels[-1].set_xlabel("behaviors, most frequent first")


def _logarithmic(axes: Axes, direction: str, ordered: Sequence[SelectedBehavior]) -> None:
    """A logarithmic axis from below one sample, so that a bar of one sample is seen."""
    highest = max(max(behavior.available, behavior.quota) for behavior in ordered)
    if direction == "x":
        axes.set_xscale("log")
        axes.set_xlim(0.6, highest * 1.4)
    else:
        axes.set_yscale("log")
        axes.set_ylim(0.6, highest * 1.4)
    axis = axes.xaxis if direction == "x" else axes.yaxis
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if value < 10_000 else f"{value / 1000:,.0f}k")
    )
    axis.set_tick_params(which="minor", length=0)


def _bounds(interval: Interval) -> NDArray[np.float64]:
    return _values((interval.value, interval.low, interval.high))


def _ink(behavior: SelectedBehavior) -> str:
    return INKS["anchor" if behavior.is_anchor else "tail"]


def _finite(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def _values(values: Iterable[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], float)


def _block_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(values) <= POINTS_PER_CURVE:
        return values
    blocks = np.array_split(values, POINTS_PER_CURVE)
    return np.array(
        [block[np.isfinite(block)].mean() if np.isfinite(block).any() else np.nan for block in blocks]
    )


def _running_mean(
    steps: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over a window of a thirtieth of the curve, at the window's middle step."""
    finite = np.isfinite(values)
    window = max(len(values) // 30, 3)
    if finite.sum() < window:
        return steps[finite], values[finite]
    means = np.convolve(values[finite], np.full(window, 1 / window), "valid")
    middles = np.convolve(steps[finite], np.full(window, 1 / window), "valid")
    return _block_means(middles), _block_means(means)
