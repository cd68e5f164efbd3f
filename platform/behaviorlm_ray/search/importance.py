"""Which keys of the space mattered: the share of the objective's variance that each explains (Optuna's fANOVA)."""

from collections.abc import Sequence

import optuna

from behaviorlm_ray.search.proposals import distribution
from behaviorlm_ray.search.space import Parameters, Space

LEAST_TRIALS = 4
"""Fewer say nothing (our choice)."""


def parameter_importance(
    space: Space, trials: Sequence[tuple[Parameters, float]], seed: int = 0
) -> dict[str, float]:
    """Importance of each key, 0 to 1, summing to 1, the greatest first; trials: parameters and objective.

    Empty with fewer than LEAST_TRIALS trials or equal objectives. Keys that not every trial has, or that never changed,
    are left out.
    """
    if len(trials) < LEAST_TRIALS or len({value for _, value in trials}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for parameters, value in trials:
        study.add_trial(
            optuna.trial.create_trial(
                params={
                    key: choice.index(chosen) if (choice := space[key].choice) is not None else chosen
                    for key, chosen in parameters.items()
                },
                distributions={key: distribution(space[key]) for key in parameters},
                value=value,
            )
        )
    everywhere = [key for key in space if all(key in parameters for parameters, _ in trials)]
    changed = [key for key in everywhere if len({repr(parameters[key]) for parameters, _ in trials}) > 1]
    if not changed:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=changed)
    return dict(sorted(found.items(), key=lambda item: -item[1]))
