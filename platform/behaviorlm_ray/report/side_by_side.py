"""Several runs side by side: what each recommends and reaches, and whether their numbers can be compared at all."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from pydantic import ValidationError

from behaviorlm.errors import ConfigError
from behaviorlm_ray import storage
from behaviorlm_ray.console.tables import interval_text, table_lines
from behaviorlm_ray.report.content import Interval, ReportData
from behaviorlm_ray.report.document import filled
from behaviorlm_ray.report.drawing import INKS, figure, labels, script, tooltip, values
from behaviorlm_ray.report.encodings import dots, layer, names, number, series
from behaviorlm_ray.report.forms import RULES, Forms, forms
from behaviorlm_ray.report.panels.first_screen import tail_counted
from behaviorlm_ray.report.panels.metrics import union
from behaviorlm_ray.report.panels.not_learned import to_know
from behaviorlm_ray.report.run_files import REPORT_DATA, report_content
from behaviorlm_ray.report.wording import count, measured
from behaviorlm_ray.storage import Location

LOG, VOCABULARY, TEST = "log", "vocabulary", "test samples"
"""Fingerprints of a run's data."""
INK_OF = {"recommended": INKS["accent"], "best counting": INKS["muted"]}


@dataclass(frozen=True)
class ComparedRun:
    """One run. named: as the caller named it; place: its folder."""

    named: str
    place: Location
    data: ReportData
    forms: Forms

    @property
    def counted(self) -> str:
        """How many tail behaviors its endpoint rests on."""
        found = tail_counted(self.data)
        return "–" if found is None else f"{count(found[0])} of {count(found[1])}"

    @property
    def to_know(self) -> list[str]:
        """What was not learned, in sentences."""
        return to_know(self.data, self.forms)


def read_run(named: str) -> ComparedRun:
    """What a run's report is made of. Raises ConfigError where there is none, or one of another version."""
    place = storage.location(named)
    content = report_content(named)
    try:
        data = ReportData.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{place / REPORT_DATA} was written by another version: {'.'.join(map(str, first['loc']))}: {first['msg']}"
            "; `behaviorlm run` with the run's configuration writes it anew"
        ) from None
    return ComparedRun(named, place, data, forms(data))


def comparability(runs: Sequence[ComparedRun]) -> list[str]:
    """Whether the runs' numbers can be compared, in sentences; the first is the verdict."""
    logs, vocabularies, tests = (_kinds(runs, what) for what in (LOG, VOCABULARY, TEST))
    if tests is None or logs is None:
        return ["Whether these runs were measured on the same test samples is not known: one does not tell."]
    if len(tests) == 1:
        told = ["All runs were measured on the same test samples: their numbers can be compared."]
        if len(logs) > 1:
            told = [
                f"The test samples are of the same users and places in their timelines, but the logs are not the same "
                f"({_grouped(logs)}): their numbers can be compared only if the events are."
            ]
        if vocabularies is not None and len(vocabularies) > 1:
            told.append(
                "But their vocabularies or the cut into anchors and tail differ "
                f"({_grouped(vocabularies)}): compare the accuracy over all samples only."
            )
        return told
    if len(logs) == 1:
        return [
            f"The log is the same, the test samples are not ({_grouped(tests)}): the split or evaluation.max_samples "
            "differs, so the numbers cannot be compared."
        ]
    return [f"The runs are of different logs ({_grouped(logs)}): their numbers cannot be compared."]


def table(runs: Sequence[ComparedRun]) -> list[str]:
    """Lines for a terminal: what each run recommends and reaches, and counting beside it."""
    head = [
        "",
        "recommended",
        "anchor accuracy",
        "tail macro recall",
        "best counting",
        "anchor",
        "tail",
        "samples",
    ]
    rows = [head]
    for run in runs:
        best, counting = run.forms.recommended, run.forms.counting
        rows.append(
            [
                run.named,
                "none" if best is None else best.model,
                *(interval_text({} if best is None else vars(of(best))) for of in _ENDS),
                "none" if counting is None else counting.model,
                *(measured(None if counting is None else of(counting).value) for of in _ENDS),
                count(run.data.results.samples.get("all")),
            ]
        )
    return table_lines(rows)


def render_side_by_side(runs: Sequence[ComparedRun]) -> str:
    """The page."""
    keys = union(_flat(run.data.configuration) for run in runs)
    settings = [(key, [_flat(run.data.configuration).get(key, "–") for run in runs]) for key in keys]
    return filled(
        "behaviorlm_ray.report",
        "side_by_side.html",
        script=script(),
        runs=runs,
        rules=RULES,
        comparable=comparability(runs),
        figures={
            "Anchor accuracy": _figure(runs, "anchor", "anchor accuracy"),
            "Tail macro recall": _figure(runs, "tail", "tail macro recall"),
        },
        fingerprints=[
            (what, [run.data.fingerprints.get(what, "–") for run in runs]) for what in (LOG, VOCABULARY, TEST)
        ],
        differing=[(key, shown) for key, shown in settings if len(set(shown)) > 1],
    )


_ENDS: tuple[Callable[[Any], Interval], ...] = (lambda shown: shown.anchor, lambda shown: shown.tail)


def _kinds(runs: Sequence[ComparedRun], what: str) -> dict[str, list[str]] | None:
    """The runs by a fingerprint; None where one lacks it."""
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(run.data.fingerprints.get(what, ""), []).append(run.named)
    return None if "" in found else found


def _grouped(kinds: dict[str, list[str]]) -> str:
    return "; ".join(", ".join(names) for names in kinds.values())


def _flat(settings: Any, key: str = "") -> dict[str, str]:
    """Every setting by its whole key, as it is named on a command line."""
    inner: Iterable[tuple[Any, Any]] = []
    if isinstance(settings, dict):
        inner = settings.items()
    elif isinstance(settings, list) and any(isinstance(value, dict) for value in settings):
        inner = enumerate(settings)
    else:
        return {key: str(settings)}
    found: dict[str, str] = {}
    for name, value in inner:
        found |= _flat(value, f"{key}.{name}" if key else str(name))
    return found


def _figure(runs: Sequence[ComparedRun], which: str, title: str) -> Markup | None:
    rows = [
        {
            "run": run.named,
            "label": label,
            "order": order,
            "series": series,
            "predictor": shown.model,
            "value": of.value,
            "low": of.value if of.low is None else of.low,
            "high": of.value if of.high is None else of.high,
            "shown": interval_text(vars(of)),
        }
        for order, (run, label) in enumerate(zip(runs, labels([run.named for run in runs], 30), strict=True))
        for series, shown in (("recommended", run.forms.recommended), ("best counting", run.forms.counting))
        if shown is not None and (of := getattr(shown, which)).value is not None
    ]
    if not rows:
        return None
    spec = {
        "width": 460,
        "height": {"step": 40},
        "data": values(rows),
        "encoding": {
            "y": names(),
            "yOffset": {"field": "series", "type": "nominal", "sort": list(INK_OF)},
            "color": series("series", INK_OF),
            "tooltip": tooltip(run="run", series="what", predictor="predictor", shown=title),
        },
        "layer": [
            layer("rule", {"x": number("low", None), "x2": {"field": "high"}}, strokeWidth=2, opacity=0.45),
            dots({"x": number("value", None)}),
        ],
    }
    return figure(spec, f"{title} of what each run recommends and of its best counting")
