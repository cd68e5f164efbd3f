"""What each method cost, from the manifests of the stages that its scores came of."""

from collections.abc import Sequence

from behaviorlm.scoring.model_names import arm_of
from behaviorlm_lab.paper.drawn import Drawn, Row
from behaviorlm_lab.paper.finished import PaperRun, methods_of, tokens_of
from behaviorlm_lab.paper.settings import ExhibitSettings

TUNING = ("a_tune", "b_tune", "one_stage", "thinned")
"""Begin the names of stages that tune."""


def cost(exhibit: ExhibitSettings, runs: Sequence[PaperRun]) -> Drawn:
    """A row a method with a model: all that its scores came of, shared stages counted for each."""
    [run] = runs
    rows: list[Row] = []
    for method in methods_of(run, exhibit):
        arm = arm_of(method.shown.predictor)
        if arm not in run.settings.evaluation.arms:
            continue
        way = run.way_to(arm)
        tuned = [one for one in way if one.stage.startswith(TUNING)]
        scored = [one for one in way if one not in tuned]
        rows.append(
            {
                "method": method.label,
                "predictor": method.shown.model,
                "stages": len(way),
                "tuning steps": sum(one.rows.get("steps", 0) for one in tuned),
                "samples tuned on": sum(one.rows.get("samples", 0) for one in tuned),
                "tokens tuned on": sum(map(tokens_of, tuned)),
                "tokens scored": sum(map(tokens_of, scored)),
                "seconds of tuning": sum((one.duration_seconds for one in tuned), 0.0),
                "seconds of all": sum(one.duration_seconds for one in way),
            }
        )
    note = (
        "Seconds are wall time on the machine that ran, start-up included; whatever else ran there is in them. Tokens "
        "and steps can be compared, seconds only roughly."
    )
    return Drawn(rows, None, (note,))
