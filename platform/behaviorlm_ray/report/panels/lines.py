"""A line for each of a few predictors, in the colors that they have all over the page."""

from collections.abc import Sequence
from typing import Any

from behaviorlm_ray.report.drawing import INKS
from behaviorlm_ray.report.encodings import series
from behaviorlm_ray.report.forms import Forms, Shown
from behaviorlm_ray.report.panels.endpoint import role

INK_ORDER = (INKS["accent-2"], "var(--series-3)", "var(--series-4)")


def inks(forms: Forms) -> dict[str, str]:
    """The color of each predictor that is set apart: the accent for the recommended, gray for counting."""
    found, free = {}, list(INK_ORDER)
    for shown in forms.set_apart:
        what = role(shown, forms)
        if what == "recommended":
            found[shown.predictor] = INKS["accent"]
        elif what == "counting":
            found[shown.predictor] = INKS["muted"] if INKS["muted"] not in found.values() else INKS["quiet"]
        else:
            found[shown.predictor] = free.pop(0)
    return found


def color_of(forms: Forms, shown: Sequence[Shown] | None = None) -> dict[str, Any]:
    """The encoding of color by the field `name`."""
    wanted = {one.predictor for one in (forms.set_apart if shown is None else shown)}
    return series("name", {name: ink for name, ink in inks(forms).items() if name in wanted})
