"""Exhibits that compare: accuracy by method and group, the main table, what each part is worth, what a key does."""

from collections.abc import Iterable, Sequence
from typing import Any

from behaviorlm.metrics.measures import ENDPOINT_MINIMUM_TARGETS
from behaviorlm.scoring.model_names import DECISION_RULES
from behaviorlm_lab.paper.drawn import HIGH, LOW, Drawn, Row, colored, measured
from behaviorlm_lab.paper.finished import Method, PaperRun, methods_of
from behaviorlm_lab.paper.logs import known_behaviors
from behaviorlm_lab.paper.messages import interval, leader, overlap, quoted, sorted_by_sign
from behaviorlm_lab.paper.settings import VARIED, ExhibitSettings
from behaviorlm_ray.report.content import Endpoint, Interval
from behaviorlm_ray.report.forms import RULES

WHOLE = "ab_tuned"
"""What an ablation takes something away from."""
ANCHOR, TAIL = ("anchor", "accuracy"), ("tail", "macro_recall_at_least_10")
"""The two numbers of the endpoint."""
ENDS = {"anchor accuracy": ANCHOR, "tail macro recall": TAIL}
MAIN = {
    **ENDS,
    "accuracy": ("all", "accuracy"),
    "tail accuracy": ("tail", "accuracy"),
    "macro F1": ("all", "macro_f1"),
    "weighted F1": ("all", "weighted_f1"),
    "MRR": ("all", "mrr"),
    "NDCG@3": ("all", "ndcg_at_3"),
}
GROUPS = ("all", "anchor", "tail")
BEST = "best possible"


def accuracy(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """A row a method and group: the share of the group's samples that are right."""
    [run] = runs
    best = run.data.results.ceiling or {}
    rows: list[Row] = [
        {
            "method": method.label,
            "predictor": method.shown.model,
            "group": group,
            **_measured("accuracy", method.interval(run.data, group, "accuracy")),
            BEST: best.get(group),
        }
        for method in methods_of(run, exhibit)
        for group in GROUPS
    ]
    notes = [decided(exhibit)]
    if best:
        notes.append("Dashed: the most that anybody could have in the group alone, expected under the truth.")
    message = _sentence(
        f"{group}: {leader([row for row in rows if row['group'] == group], 'accuracy')}" for group in GROUPS
    )
    return Drawn(rows, _dots(rows, bool(best)), tuple(notes), f"Most accurate. {message}")


def main_table(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """A row a method: the endpoint, in expectation, too, where the truth is known, and further metrics."""
    [run] = runs
    truth = run.data.results.in_expectation
    rows: list[Row] = []
    for method in methods_of(run, exhibit):
        row: Row = {"method": method.label, "predictor": method.shown.model}
        for name, of in MAIN.items():
            row |= _measured(name, method.interval(run.data, *of))
        rows.append(row | ({} if truth is None else expected(run, method)))
    notes = [decided(exhibit), *counted(runs)]
    if truth is not None:
        bound = truth.bound
        notes.append(
            f"Nobody could expect more than {_three(bound.anchor_accuracy)} and {_three(bound.tail_macro_recall)}; no "
            "one predictor has both."
        )
    chosen = next(
        (row for row in rows if run.forms.recommended and row["predictor"] == run.forms.recommended.model),
        None,
    )
    message = _sentence(f"most {name}: {leader(rows, name)}" for name in ENDS)
    if chosen is not None:
        ends = " and ".join(f"{name} {interval(chosen, name)}" for name in ENDS)
        message += f" Validation recommends {quoted(chosen['method'])}, which has {ends}."
    return Drawn(rows, None, tuple(notes), message)


def ablations(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """A row a variant: its endpoint, and how far whole A → B is ahead on the same samples, both decided plainly."""
    [run] = runs
    found = {(one.second, one.group, one.metric): one for one in run.data.comparisons if one.first == WHOLE}
    of_whole = run.data.results.retention.get(WHOLE, {})
    retained = [name for name in of_whole if name.endswith(" loss") or name == "cloze accuracy"]
    rows: list[Row] = []
    for method in methods_of(run, exhibit):
        row: Row = {"method": method.label, "predictor": method.shown.model}
        for name, of in ENDS.items():
            row |= _measured(name, method.interval(run.data, *of))
            pair = found.get((method.shown.predictor, *of)) if method.shown.predictor != WHOLE else None
            ahead = (None, None, None) if pair is None else (pair.difference, pair.low, pair.high)
            row |= measured(f"A → B less it, {name}, plain", *ahead)
        kept = run.data.results.retention.get(method.shown.predictor, {})
        rows.append(
            row | expected(run, method) | {name: kept.get(name, Interval()).value for name in retained}
        )
    note = (
        "A → B less it: paired over the same samples and groups; an interval that holds 0 tells nothing apart. What "
        "auxiliary conversations are for is in the last columns: held-out conversations, in nats a token, and cloze "
        "questions."
    )
    message = _sentence(
        f"{name}: {quoted(rows[0]['method'])} is {sorted_by_sign(rows[1:], f'A → B less it, {name}, plain', 'method')}"
        for name in ENDS
    )
    return Drawn(rows, None, (decided(exhibit), *counted(runs), note), message)


def sensitivity(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """A row a key and value: the endpoint of A → B with that key alone changed; first as it is."""
    [run] = runs
    varied = [(key, value) for key, values in exhibit.vary.items() for value in values]
    asked = {WHOLE: "as it is"} | {
        f"{VARIED}{number}": str(value) for number, (_, value) in enumerate(varied)
    }
    keys = ["–", *(key for key, _ in varied)]
    rows: list[Row] = []
    for key, method in zip(keys, methods_of(run, exhibit.model_copy(update={"methods": asked})), strict=True):
        row: Row = {"key": key, "value": method.label, "predictor": method.shown.model}
        for name, of in ENDS.items():
            row |= _measured(name, method.interval(run.data, *of))
        rows.append(row | expected(run, method))
    message = _sentence(_spread(rows, name) for name in ENDS)
    return Drawn(rows, None, (decided(exhibit), *counted(runs)), message)


def _spread(rows: Sequence[Row], name: str) -> str:
    """From which to which value of a key a column goes, and whether any is apart from the settings as they are."""
    known = [row for row in rows if row[name] is not None]
    if not known:
        return f"{name}: not measured"
    least, most = min(known, key=lambda row: row[name]), max(known, key=lambda row: row[name])
    apart = [f"{row['key']} {row['value']}" for row in known if not overlap(row, rows[0], name)]
    told = ", ".join(apart) if apart else "no setting"
    ends = [f"{row[name]:.3f} ({row['key']} {row['value']})".replace("– ", "") for row in (least, most)]
    return f"{name}: {ends[0]} to {ends[1]}, {told} apart from as it is"


def _sentence(parts: Iterable[str]) -> str:
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def expected(run: PaperRun, method: Method) -> Row:
    """The endpoint in expectation, where the truth is known."""
    truth = run.data.results.in_expectation
    if truth is None:
        return {}
    found = truth.models.get(method.shown.model, Endpoint())
    return {"anchor, expected": found.anchor_accuracy, "tail, expected": found.tail_macro_recall}


def decided(exhibit: ExhibitSettings) -> str:
    """By which rule predictions are decided, in a sentence."""
    if exhibit.rule == "plain":
        return "Every method says what it finds most probable: no rule is put on top."
    rules = ", ".join(RULES[rule] for rule in DECISION_RULES if RULES[rule])
    return (
        f"Each method is decided by the rule that validation prefers for it: none, or one of these: {rules}."
    )


def counted(runs: Sequence[PaperRun]) -> list[str]:
    """Over what the tail's number is, in sentences: few behaviors count where test samples are few."""
    found: dict[str, None] = {}
    for run in runs:
        tail = [row for row in known_behaviors(run) if not row.is_anchor]
        enough = sum((row.targets or 0) >= ENDPOINT_MINIMUM_TARGETS for row in tail)
        found[f"{enough} of {len(tail)}"] = None
    notes = [
        f"Tail macro recall is over the tail behaviors with {ENDPOINT_MINIMUM_TARGETS} test targets or more, which "
        f"are {' or '.join(found)}."
    ]
    if any(run.data.results.in_expectation is not None for run in runs):
        notes.append(
            "Expected: the endpoint of the same choices under the known truth, over the tail behaviors of which as "
            "many are expected, which need not be the same ones."
        )
    return notes


def _measured(name: str, of: Interval) -> Row:
    return measured(name, of.value, of.low, of.high)


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _dots(rows: Sequence[Row], has_best: bool) -> dict[str, Any]:
    """A panel a group, a line a method."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    x = {
        "type": "quantitative",
        "scale": {"zero": True},
        "axis": {"format": ".1f", "tickCount": 5, "labelFlush": False},
        "title": "accuracy",
    }
    y = {"field": "method", "type": "nominal", "sort": methods, "title": None}
    color = {"field": "method", "type": "nominal", "scale": colored(methods), "legend": None}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"x": {"field": f"accuracy{LOW}", **x}, "x2": {"field": f"accuracy{HIGH}"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {"x": {"field": "accuracy", **x}},
        },
    ]
    if has_best:
        at = {"x": {"field": BEST, "aggregate": "max", **x}, "y": None, "color": {"value": "#57606a"}}
        layers.append({"mark": {"type": "rule", "strokeDash": [5, 4]}, "encoding": at})
    return {
        "data": {"values": rows},
        "spacing": 30,
        "facet": {"column": {"field": "group", "type": "nominal", "sort": list(GROUPS), "title": None}},
        "spec": {
            "width": 210,
            "height": {"step": 26},
            "encoding": {"y": y, "color": color},
            "layer": layers,
        },
    }
