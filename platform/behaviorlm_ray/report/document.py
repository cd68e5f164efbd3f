"""An HTML document from a template of a room, in the style of the report. Light: knows nothing of runs."""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from behaviorlm_ray.report import wording


def filled(room: str, name: str, **values: Any) -> str:
    """The HTML document that a template of a room makes of these values, in the style of the report."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        measured=wording.measured,
        signed=wording.signed,
        count=wording.count,
        percent=wording.percent,
        duration=wording.duration,
        probability=wording.probability,
        readable=wording.readable,
        metric=wording.metric_label,
        group=wording.group_label,
    )
    template = environment.from_string((files(room) / name).read_text(encoding="utf-8"))
    style = Markup((files("behaviorlm_ray.report") / "style.css").read_text(encoding="utf-8"))  # our own file
    return template.render(style=style, **values).lstrip()
