"""Loss over the optimizer steps of each tuning, and at its two ends the loss on the validation samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from behaviorlm_ray.pipeline.arms import PRESETS
from behaviorlm_ray.report.breakdown_content import GroupLosses
from behaviorlm_ray.report.content import LossPoint, ReportData
from behaviorlm_ray.report.drawing import INKS, SERIES, figure, shortened, tooltip
from behaviorlm_ray.report.encodings import dots, layer, number, series
from behaviorlm_ray.report.wording import count, measured

POINTS_PER_CURVE = 300
"""A longer curve is drawn as means of equal blocks."""
NOISY = 60
"""Steps from which on a running mean is drawn over the curve."""
WIDE = 6
"""Largest over smallest loss from which on the axis is logarithmic."""
BEFORE_AFTER = {
    "a_tune": ("untuned", "a_tuned"),
    "one_stage": ("untuned", "one_stage"),
    "thinned": ("untuned", "thinned"),
    "b_tune": ("a_tuned", "ab_tuned"),
}
"""The arms whose weights a tuning starts from and ends with, by the stage's own name."""
GROUPS = {"validation, anchor targets": "anchor", "validation, tail targets": "tail"}


@dataclass(frozen=True)
class TrainingView:
    """The curve of one stage. validated: whether it has the ends on validation."""

    stage: str
    plot: Markup
    validated: bool


def training_views(data: ReportData) -> list[TrainingView]:
    """One for each curve with a point."""
    found = []
    for stage, curve in data.loss_curves.items():
        ends = validation_ends(data, stage, len(curve))
        if (plot := _plot(stage, curve, ends)) is not None:
            found.append(TrainingView(stage, plot, bool(ends)))
    return found


def validation_ends(data: ReportData, stage: str, steps: int) -> list[dict[str, Any]]:
    """The loss on validation before and after a tuning, by group of the targets, where both models were measured."""
    losses = data.breakdowns.validation_loss if data.breakdowns is not None else {}
    name, _, arm = stage.removesuffix(")").partition(" (")
    before, after = BEFORE_AFTER.get(name, ("", ""))
    if name == "b_tune":  # what an arm's own went on from is not measured
        before = "" if arm else str(data.configuration.get("b_tuning_from", before))
    if arm:  # it ends with that arm, unless the arm is tuned on
        after = arm if _tuning(data, arm) == after else ""
    points = []
    for step, model in ((0, before), (steps, after)):
        for what, group in GROUPS.items():
            value = getattr(losses.get(model, GroupLosses()), group)
            if value is not None:
                points.append(
                    {"name": what, "step": step, "loss": value, "shown": measured(value), "at": model}
                )
    return points


def _tuning(data: ReportData, arm: str) -> str | None:
    """Which tuning's model an arm is; None: not known."""
    own = (data.configuration.get("arms") or {}).get(arm)
    if own is not None:
        return own["tuning"]
    return PRESETS[arm].tuning if arm in PRESETS else None


def _plot(stage: str, curve: Sequence[LossPoint], ends: list[dict[str, Any]]) -> Markup | None:
    if not any(point.loss is not None and math.isfinite(point.loss) for point in curve):
        return None
    steps, lines = _lines(curve)
    is_noisy = len(steps) >= NOISY
    thin = [row for name, of in lines.items() for row in _rows(name, _blocks(steps), _blocks(of))]
    strong = (
        [row for name, of in lines.items() for row in _rows(name, *_running(steps, of))] if is_noisy else thin
    )
    is_point = len(steps) == 1
    layers = [
        *([layer("line", data=thin, strokeWidth=1, opacity=0.25)] if is_noisy else []),
        layer("line", data=strong, strokeWidth=1.8),
        dots(
            {"tooltip": tooltip(name="what", count="step", shown="loss")},
            strong,
            size=100,
            opacity=int(is_point),
        ),
    ]
    if ends:
        layers.append(
            dots({"tooltip": tooltip(name="what", at="model", shown="loss")}, ends, shape="diamond", size=120)
        )
    losses = [row["loss"] for row in [*strong, *ends]]
    is_wide = min(losses) > 0 and max(losses) > WIDE * min(losses)
    scale = {"type": "log", "nice": False, "padding": 8} if is_wide else {}
    encoding = {
        "x": number("step", "optimizer step", scale={"nice": False}, grid=False, tickMinStep=1),
        "y": number("loss", "loss, logarithmic" if is_wide else "loss", scale=scale, format="~r"),
        "color": series("name", _inks(list(lines), bool(ends))),
    }
    spec = {"width": 520, "height": 250, "encoding": encoding, "layer": layers}
    return figure(spec, f"Loss of stage {stage} over optimizer steps, and on validation before and after it")


def _lines(curve: Sequence[LossPoint]) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """The steps, counted from 1, and the loss with its parts, where there is more than one."""
    steps = np.array([point.step for point in curve], float) + 1
    parts = list(dict.fromkeys(name for point in curve for name in point.parts))
    lines = {"loss of the step": _array([point.loss for point in curve])}
    if len(parts) > 1:
        lines |= {
            f"part: {shortened(name)}": _array([point.parts.get(name) for point in curve]) for name in parts
        }
    return steps, lines


def _inks(lines: list[str], has_ends: bool) -> dict[str, str]:
    inks = {name: SERIES[2 + (place - 1) % 4] if place else INKS["ink"] for place, name in enumerate(lines)}
    return inks | (dict(zip(GROUPS, (INKS["accent"], INKS["tail"]), strict=True)) if has_ends else {})


def _rows(name: str, steps: NDArray[np.float64], losses: NDArray[np.float64]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "step": round(float(step), 1),
            "loss": float(f"{loss:.5g}"),
            "shown": measured(loss),
            "count": count(step),
        }
        for step, loss in zip(steps.tolist(), losses.tolist(), strict=True)
        if math.isfinite(loss)
    ]


def _array(numbers: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if number is None else number for number in numbers], float)


def _blocks(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(numbers) <= POINTS_PER_CURVE:
        return numbers
    blocks = np.array_split(numbers, POINTS_PER_CURVE)
    return np.array(
        [block[np.isfinite(block)].mean() if np.isfinite(block).any() else np.nan for block in blocks]
    )


def _running(
    steps: NDArray[np.float64], losses: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over a window of a thirtieth of the curve, at the window's middle step."""
    finite = np.isfinite(losses)
    window = max(len(losses) // 30, 3)
    if finite.sum() < window:
        return steps[finite], losses[finite]
    weights = np.full(window, 1 / window)
    return _blocks(np.convolve(steps[finite], weights, "valid")), _blocks(
        np.convolve(losses[finite], weights, "valid")
    )
