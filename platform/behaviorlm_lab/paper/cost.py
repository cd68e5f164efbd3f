"""What each method cost, from the manifests of the stages that its scores came of."""

from collections.abc import Sequence

from behaviorlm.scoring.model_names import arm_of
from behaviorlm_lab.paper.drawn import Drawn, Row
from behaviorlm_lab.paper.finished import PaperRun, methods_of, tokens_of
from behaviorlm_lab.paper.messages import quoted
from behaviorlm_lab.paper.settings import ExhibitSettings

TUNING = ("a_tune", "b_tune", "one_stage", "thinned")
"""Begin the names of stages that tune."""
FITTING = "oppose_"
"""Begins the names of stages that fit an opponent."""


def cost(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """A row a method that has stages of its own, an arm, an opponent or an endpoint: all that its scores came of, what
    is shared counted for each. Counting has none: it is done while results are compared.
    """
    [run] = runs
    rows: list[Row] = []
    is_fitted = False
    for method in methods_of(run, exhibit):
        name = arm_of(method.shown.predictor)
        if not run.has_way_to(name):
            continue
        way = run.way_to(name)
        tuned = [one for one in way if one.stage.startswith(TUNING)]
        fitted = [one for one in way if one.stage.startswith(FITTING)]
        scored = [one for one in way if one not in tuned]
        is_fitted = is_fitted or bool(fitted)
        rows.append(
            {
                "method": method.label,
                "predictor": method.shown.model,
                "stages": len(way),
                "tuning steps": sum(one.rows.get("steps", 0) for one in tuned),
                "samples tuned on": sum(one.rows.get("samples", 0) for one in tuned),
                "tokens tuned on": sum(map(tokens_of, tuned)),
                "tokens scored": sum(map(tokens_of, scored)),
                "seconds of tuning or fitting": sum((one.duration_seconds for one in [*tuned, *fitted]), 0.0),
                "seconds of all": sum(one.duration_seconds for one in way),
            }
        )
    note = (
        "Seconds are wall time on the machine that ran, start-up included; whatever else ran there is in them. Tokens "
        "and steps can be compared, seconds only roughly."
    )
    of_fitting = (
        ("An opponent is fitted, with its whole search, and scores in one stage.",) if is_fitted else ()
    )
    return Drawn(rows, None, (note, *of_fitting), _message(rows))


def _message(rows: list[Row]) -> str:
    """What the dearest costs of the cheapest that is tuned at all, in what does not depend on the machine."""
    tuned = [row for row in rows if row["tuning steps"]]
    if len(tuned) < 2:
        return ""
    least, most = (of(tuned, key=lambda row: row["tokens tuned on"]) for of in (min, max))
    times = most["tokens tuned on"] / max(least["tokens tuned on"], 1)
    return (
        f"{quoted(most['method'])} is tuned on the most tokens, {times:.1f} times those of {quoted(least['method'])}, "
        "which is tuned on the fewest."
    )
