"""What the run took: seconds and tokens by stage."""

from markupsafe import Markup

from behaviorlm_ray.report.content import ReportData
from behaviorlm_ray.report.drawing import INKS, figure, tooltip, values
from behaviorlm_ray.report.encodings import names, number
from behaviorlm_ray.report.wording import count, duration, readable


def cost_figure(data: ReportData) -> Markup | None:
    """A bar for each stage, in the order of the run."""
    rows = [
        {
            "stage": readable(stage.stage),
            "order": order,
            "minutes": stage.seconds / 60,
            "time": duration(stage.seconds),
            "tokens": count(stage.tokens),
        }
        for order, stage in enumerate(data.stages)
        if stage.seconds is not None
    ]
    if not rows:
        return None
    spec = {
        "width": 520,
        "height": {"step": 20},
        "data": values(rows),
        "mark": {"type": "bar", "color": INKS["accent-2"], "height": {"band": 0.6}, "cornerRadiusEnd": 2},
        "encoding": {
            "y": names("stage"),
            "x": number("minutes", "minutes", scale={"zero": True}),
            "tooltip": tooltip(stage="stage", time="time", tokens="tokens"),
        },
    }
    return figure(spec, "Time of each stage; the table has time and tokens")


def total(data: ReportData) -> str:
    """Time and tokens of all stages, in a sentence; empty where no stage tells its time."""
    seconds = [stage.seconds for stage in data.stages if stage.seconds is not None]
    tokens = sum(stage.tokens or 0 for stage in data.stages)
    if not seconds:
        return ""
    told = f"All stages together took {duration(sum(seconds))}"
    return f"{told} and read {count(tokens)} tokens." if tokens else f"{told}."
