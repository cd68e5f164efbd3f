"""Users, or groups of them, served well and badly, in numbers: none is named."""

from dataclasses import dataclass

from markupsafe import Markup

from behaviorlm_ray.report.breakdown_content import Users, UsersAgainst
from behaviorlm_ray.report.content import ReportData
from behaviorlm_ray.report.drawing import figure, tooltip, values
from behaviorlm_ray.report.encodings import classes, number
from behaviorlm_ray.report.forms import Forms, Shown
from behaviorlm_ray.report.panels.first_screen import groups_called
from behaviorlm_ray.report.panels.lines import color_of
from behaviorlm_ray.report.wording import count, percent


@dataclass(frozen=True)
class UsersView:
    """of: the predictor that is told of. against: how many users it serves better and worse than counting."""

    of: Shown
    users: Users
    plot: Markup | None
    spread: list[tuple[Shown, Users]]
    against: UsersAgainst | None


def users_view(data: ReportData, forms: Forms) -> UsersView | None:
    """The recommended predictor's, or the first one's that there is."""
    found = data.breakdowns.users if data.breakdowns is not None else {}
    spread = [(shown, found[shown.model]) for shown in forms.set_apart if shown.model in found]
    spread = [(shown, users) for shown, users in spread if users.users]
    if not spread or data.breakdowns is None:
        return None
    own, users = spread[0]
    against = None
    if forms.rival is not None and data.breakdowns.subject == own.model:
        against = data.breakdowns.users_against.get(forms.rival.model)
    return UsersView(own, users, _plot(spread[:2], forms, groups_called(data)), spread, against)


def _plot(spread: list[tuple[Shown, Users]], forms: Forms, called: str) -> Markup | None:
    bars = []
    for shown, users in spread:
        width = 1 / max(len(users.histogram), 1)
        for place, served in enumerate(users.histogram):
            label = f"{100 * place * width:.0f}–{percent((place + 1) * width, 0)}"
            bars.append(
                {
                    "name": shown.predictor,
                    "label": label,
                    "order": place,
                    "users": served,
                    "shown": count(served),
                }
            )
    if not bars:
        return None
    spec = {
        "width": 480,
        "height": 220,
        "data": values(bars),
        "mark": {"type": "bar", "cornerRadius": 2},
        "encoding": {
            "x": classes(f"accuracy of each of the {called}", labelAngle=-35),
            "xOffset": {"field": "name", "sort": None},
            "y": number("users", called, scale={"zero": True}, tickMinStep=1),
            "color": color_of(forms, [shown for shown, _ in spread]),
            "tooltip": tooltip(name="predictor", label="accuracy", shown=called),
        },
    }
    return figure(spec, f"How many {called} have which accuracy; the table below has the spread")
