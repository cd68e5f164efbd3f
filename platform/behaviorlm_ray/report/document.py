"""An HTML document from a template of a room, in the style of the report. Light: knows nothing of runs."""

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from behaviorlm_ray.report import wording

OWN = "behaviorlm_ray.report"


def filled(room: str, name: str, script: Markup | None = None, **values: Any) -> str:
    """The HTML document that a template of a room makes of these values, in the style of the report.

    A template may include pieces of its room. script: the only one that the page may run, known to it by its digest.
    """

    def text(piece: str) -> str:
        return (files(room) / piece).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(text),
    )
    environment.filters.update(
        measured=wording.measured,
        signed=wording.signed,
        count=wording.count,
        percent=wording.percent,
        duration=wording.duration,
        probability=wording.probability,
        readable=wording.readable,
        breakable=wording.breakable,
        metric=wording.metric_label,
        group=wording.group_label,
    )
    style = Markup((files(OWN) / "style.css").read_text(encoding="utf-8"))  # our own file
    page = environment.get_template(name).render(style=style, script=script, policy=_policy(script), **values)
    return page.lstrip()


def _policy(script: Markup | None) -> str:
    """What a browser lets the page do: nothing from elsewhere, and no script but this one."""
    allowed = ""
    if script is not None:
        digest = base64.b64encode(hashlib.sha256(str(script).encode("utf-8")).digest()).decode()
        allowed = f"; script-src 'sha256-{digest}'"
    return f"default-src 'none'; style-src 'unsafe-inline'{allowed}"
