"""What a reader needs first: what to use, by how much it is ahead of counting, on what this rests, what went wrong."""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from behaviorlm_ray.evaluation.comparison import PRIMARY
from behaviorlm_ray.report.content import LossPoint, ReportData
from behaviorlm_ray.report.forms import MOST_FREQUENT, RULES, Forms, Shown
from behaviorlm_ray.report.wording import breakable, count, measured, percent, readable, signed

ALWAYS_ONE = 0.95
"""Share of the test samples for which one behavior is predicted, from which on it learned nothing else (our choice)."""
FEW_USERS, FEW_TAIL = 30, 5
GROUP_WORDS = ("in anchor accuracy", "in tail macro recall")


def verdict(data: ReportData, forms: Forms) -> list[Markup]:
    """Two sentences: what to use and how it stands to counting; what that rests on. Empty without results."""
    if not data.results.models:
        return []
    return [_what_to_use(data, forms), _rests_on(data)]


def to_know(data: ReportData, forms: Forms) -> list[str]:
    """What was not learned, and what is too little to rest on, in sentences."""
    return [*_below_most_frequent(data, forms), *_always_one(data, forms), *_curves(data), *_little(data)]


def groups_called(data: ReportData) -> str:
    """What the groups are that splits and intervals keep together: users, unless the log names a column of them."""
    events = data.configuration.get("events")
    return "groups" if isinstance(events, dict) and events.get("group") else "users"


def name(shown: Shown) -> Markup:
    """A predictor with its rule."""
    rule = RULES[shown.rule]
    mixed = shown.predictor.removesuffix("+counts")
    told = breakable(shown.predictor)
    if mixed != shown.predictor:
        told = Markup("{} mixed with counting").format(breakable(mixed))
    return Markup("<b>{}</b>{}").format(told, f" ({rule})" if rule else "")


def tail_counted(data: ReportData) -> tuple[int, int] | None:
    """Tail behaviors that the endpoint counts, and all there are; None where no table of behaviors is there."""
    rows = next(iter(data.behaviors.values()), [])
    tail = [row for row in rows if row.is_anchor is False and row.behavior is not None]
    counted = [row for row in tail if (row.targets or 0) >= data.tail_minimum_targets]
    return (len(counted), len(tail)) if rows else None


def _what_to_use(data: ReportData, forms: Forms) -> Markup:
    best, counting = forms.recommended, forms.counting
    if best is None:
        told = data.results.recommended
        reason = (
            readable(told.reason)
            if told is not None and told.reason
            else "validation has nothing to choose by"
        )
        return Markup("<b>No predictor can be recommended</b>: {}.").format(reason)
    if best.kind == "baseline":
        models = [shown for shown in forms.best if shown.kind != "baseline"]
        if not models:
            return Markup("Use counting, {}: no model was compared with it.").format(name(best))
        return Markup("Use counting, {}: {}.").format(
            name(best), _against(data, best, models[0], name(models[0]))
        )
    if counting is None:
        return Markup("Use {}; there is no counting beside it.").format(name(best))
    how = (
        name(counting)
        if forms.counting_by_validation
        else Markup("{}, the best on test").format(name(counting))
    )
    return Markup("Use {}: {}.").format(
        name(best), _against(data, best, counting, Markup("counting ({})").format(how))
    )


def _against(data: ReportData, best: Shown, other: Shown, called: Markup) -> Markup:
    """How one stands to another on both groups."""
    told = []
    for (group, metric), words in zip(PRIMARY, GROUP_WORDS, strict=True):
        low = high = None
        difference = None
        for found in data.comparisons:
            if (found.group, found.metric) == (group, metric):
                if (found.first, found.second) == (best.model, other.model):
                    difference, low, high = found.difference, found.low, found.high
                elif (found.first, found.second) == (
                    other.model,
                    best.model,
                ) and found.difference is not None:
                    difference = -found.difference
                    low, high = (None if end is None else -end for end in (found.high, found.low))
        own, others = (getattr(shown, group).value for shown in (best, other))
        if difference is None and own is not None and others is not None:
            difference = own - others
        told.append(_stands(difference, low, high, words))
    return Markup("against {} it is {} and {}").format(called, *told)


def _stands(difference: float | None, low: float | None, high: float | None, words: str) -> Markup:
    if difference is None:
        return Markup("not comparable {}").format(words)
    if low is None or high is None:
        return Markup("<b>{}</b> {}").format(signed(difference), words)
    interval = f"{signed(low)} to {signed(high)}"
    if low <= 0 <= high:
        return Markup("level within chance {} (<b>{}</b>, {})").format(words, signed(difference), interval)
    word = "ahead" if difference > 0 else "behind"
    return Markup("{} by <b>{}</b> {} ({})").format(word, measured(abs(difference)), words, interval)


def _rests_on(data: ReportData) -> Markup:
    samples = data.results.samples
    parts = []
    if "all" in samples:
        parts.append(f"{count(samples['all'])} test samples")
    if "groups" in samples:
        parts.append(f"{count(samples['groups'])} {groups_called(data)}")
    rests = " of ".join(parts)
    counted = tail_counted(data)
    if counted is not None:
        tail = (
            f"{count(counted[0])} of {count(counted[1])} tail behaviors, those with at least "
            f"{data.tail_minimum_targets} test targets"
        )
        rests = f"{rests} and on {tail}" if rests else tail
    return escape(f"This rests on {rests}." if rests else "What this rests on is not told in the results.")


def _below_most_frequent(data: ReportData, forms: Forms) -> list[str]:
    found = [shown for shown in forms.best if shown.predictor == MOST_FREQUENT]
    floor = found[0].accuracy.value if found else None
    if floor is None:
        return []
    return [
        f"{shown.model} has not learned this log: it is right for {percent(shown.accuracy.value)} of the samples, and "
        f"always naming the most frequent behavior for {percent(floor)}."
        for shown in forms.best
        if shown.kind == "tuned" and shown.accuracy.value is not None and shown.accuracy.value < floor
    ]


def _always_one(data: ReportData, forms: Forms) -> list[str]:
    told = []
    for shown in forms.best:
        rows = data.behaviors.get(shown.model, [])
        total = sum(row.predicted or 0 for row in rows)
        most = max(rows, key=lambda row: row.predicted or 0, default=None)
        if shown.kind == "baseline" or most is None or not total:
            continue
        share = (most.predicted or 0) / total
        if share >= ALWAYS_ONE:
            told.append(
                f"{shown.model} has learned one behavior only: it predicts {most.behavior} for {percent(share)} of the "
                "samples."
            )
    return told


def _curves(data: ReportData) -> list[str]:
    told = []
    for stage, curve in data.loss_curves.items():
        ends = loss_ends(curve)
        if ends is not None and not ends[1] < ends[0]:
            told.append(
                f"{stage} did not learn: its loss was {measured(ends[0])} over the first steps and {measured(ends[1])} "
                "over the last; lower the learning rate, or give it more steps."
            )
        if any(point.loss is not None and not math.isfinite(point.loss) for point in curve):
            told.append(f"{stage}: the loss was not a number at some steps; lower the learning rate.")
    return told


def loss_ends(curve: Sequence[LossPoint]) -> tuple[float, float] | None:
    """Mean loss over the first and over the last fifth of a curve; None for fewer than ten steps."""
    losses = [point.loss for point in curve if point.loss is not None and math.isfinite(point.loss)]
    fifth = len(losses) // 5
    if fifth < 2:
        return None
    return sum(losses[:fifth]) / fifth, sum(losses[-fifth:]) / fifth


def _little(data: ReportData) -> list[str]:
    told = []
    users = data.results.samples.get("groups")
    if isinstance(users, int) and users < FEW_USERS:
        told.append(
            f"The test part has {count(users)} {groups_called(data)} only: intervals over so few are rough."
        )
    counted = tail_counted(data)
    if counted is not None and counted[0] < FEW_TAIL:
        told.append(
            f"Of the tail only {count(counted[0])} behaviors have {data.tail_minimum_targets} test targets: its number "
            "says little; a larger share for test (split.test) or a longer log helps."
        )
    return told
