"""What a reader needs first: what to use, by how much it is ahead of counting, and on what this rests."""

from markupsafe import Markup, escape

from behaviorlm.scoring.model_names import COUNTS, arm_of
from behaviorlm_ray.evaluation.comparison import PRIMARY
from behaviorlm_ray.report.content import ReportData
from behaviorlm_ray.report.forms import RULES, Forms, Shown, is_mixture
from behaviorlm_ray.report.wording import breakable, count, measured, readable, signed

GROUP_WORDS = ("in anchor accuracy", "in tail macro recall")


def verdict(data: ReportData, forms: Forms) -> list[Markup]:
    """What to use and why, how it stands to counting and to the best opponent where there is any; what that rests on.
    Empty without results.
    """
    if not data.results.models:
        return []
    return [_what_to_use(data, forms), *_why(data, forms), *_against_opponent(data, forms), _rests_on(data)]


def groups_called(data: ReportData) -> str:
    """What the groups are that splits and intervals keep together: users, unless the log names a column of them."""
    events = data.configuration.get("events")
    return "groups" if isinstance(events, dict) and events.get("group") else "users"


def name(shown: Shown) -> Markup:
    """A predictor with its rule."""
    rule = RULES[shown.rule]
    told = Markup("<b>{}</b>").format(
        "counting" if shown.predictor == COUNTS else breakable(arm_of(shown.predictor))
    )
    notes = [*(["mixed with counting"] if is_mixture(shown) else []), *([rule] if rule else [])]
    return Markup("{} ({})").format(told, ", ".join(notes)) if notes else told


def tail_counted(data: ReportData) -> tuple[int, int] | None:
    """Tail behaviors that the endpoint counts, and all there are; None where no table of behaviors is there."""
    rows = next(iter(data.behaviors.values()), [])
    tail = [row for row in rows if row.is_anchor is False and row.behavior is not None]
    counted = [row for row in tail if (row.targets or 0) >= data.tail_minimum_targets]
    return (len(counted), len(tail)) if rows else None


def _what_to_use(data: ReportData, forms: Forms) -> Markup:
    best = forms.recommended
    if best is None:
        told = data.results.recommended
        reason = (
            readable(told.reason)
            if told is not None and told.reason
            else "validation has nothing to choose by"
        )
        return Markup("<b>No predictor can be recommended</b>: {}.").format(reason)
    rival, is_counting = forms.rival, best.kind == "baseline"
    if rival is None:
        nobody = "no model was compared with it" if is_counting else "there is no counting beside it"
        return Markup("Use {}: {}.").format(name(best), nobody)
    called = name(rival)
    if not is_counting and rival.predictor != COUNTS:
        called = Markup("counting by {}").format(called)
    if not is_counting and not forms.counting_by_validation:
        called = Markup("{}, the best on test,").format(called)
    stands = _against(data, best, rival, called)
    if best.mean is not None and rival.mean is not None and best.mean < rival.mean:
        other = Markup("<b>{} does better on test</b>").format("a model" if is_counting else "counting")
        is_beaten = not is_counting and (rival.objective or 0.0) > (
            best.objective or 0.0
        )  # by counting that is only compared
        among = " of what can be served" if is_beaten else ""
        return Markup("{} is recommended{}, but {}: {}.").format(name(best), among, other, stands)
    return Markup("Use {}: {}.").format(name(best), stands)


def _why(data: ReportData, forms: Forms) -> list[Markup]:
    """How sure validation is of it."""
    told = data.results.recommended
    if forms.recommended is None or told is None or not told.reason:
        return []
    return [Markup("Why: {}.").format(readable(told.reason))]


def _against_opponent(data: ReportData, forms: Forms) -> list[Markup]:
    """How what is recommended stands to the best opponent."""
    best, opponent = forms.recommended, forms.opponent
    if best is None or opponent is None:
        return []
    stands = _against(data, best, opponent, name(opponent))
    told = Markup("Opponents are measured, not exported: {}.").format(stands)
    is_beaten = best.mean is not None and opponent.mean is not None and best.mean < opponent.mean
    return [Markup("<b>An opponent does better on test.</b> {}").format(told) if is_beaten else told]


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
