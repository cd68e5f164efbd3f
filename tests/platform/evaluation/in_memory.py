"""The comparison computed with all scores in memory at once: what evaluation in batches is held against."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from behaviorlm.baselines import fit_baselines
from behaviorlm.baselines.timelines import TimelineArrays, timeline_arrays
from behaviorlm.baselines.weights import CONCENTRATION_GRID
from behaviorlm.metrics.front import endpoint_area
from behaviorlm.metrics.intervals import paired_difference, percentile_intervals, resample
from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.metrics.outcomes import Outcomes
from behaviorlm.metrics.tables import per_behavior_table, reliability
from behaviorlm.predictor.counts import fit_counts
from behaviorlm.predictor.rare_histories import without_rare
from behaviorlm.scoring.rule_fitting import fit_numbers, fold_of, pair_codes
from behaviorlm.timelines.parts import labels_with_terminator
from behaviorlm_ray.evaluation.samples import EvaluatedSamples
from behaviorlm_ray.preparation.prepared_log import PreparedLog, gather
from tests.behaviorlm.random_parts import NAMES
from tests.platform.sample_groups import group_names

GRID = (-0.5, 0.0, 0.25, 0.6, 1.0)
ARMS = ("untuned", "one_stage", "ab_tuned")
MIXES = {
    "one_stage": np.log([0.31, 0.29, 0.19, 0.13, 0.08]),
    "ab_tuned": np.log([0.23, 0.22, 0.21, 0.18, 0.16]),
}
"""What they were tuned on."""


def samples_of(log: PreparedLog) -> EvaluatedSamples:
    later = [np.arange(65, len(part)) for part in log.parts]
    return EvaluatedSamples([np.arange(3, 60)] * len(log.parts), later)


def by_sorting(scores: np.ndarray, targets: np.ndarray, own: np.ndarray) -> Outcomes:
    """Outcomes from a whole ranking of each row, one row at a time; own: scores that confidence is of."""
    rank, predicted, confidence = [], [], []
    for row, target, said in zip(scores.astype(np.float64), targets, own.astype(np.float64), strict=True):
        order = sorted(range(len(row)), key=lambda k: (-row[k], k))
        predicted.append(order[0])
        rank.append(order.index(target) if target >= 0 else -1)
        confidence.append(np.exp(said[order[0]]) / np.exp(said).sum())
    return Outcomes(targets, np.array(predicted, np.int32), np.array(rank, np.int32), np.array(confidence), 5)


def ends(predicted: np.ndarray, targets: np.ndarray, minimum: int) -> tuple[float, float]:
    """Anchor accuracy and tail macro recall, behaviors 0 and 1 being the anchors."""
    anchors = (targets == 0) | (targets == 1)
    recalls = [np.mean(predicted[targets == k] == k) for k in (2, 3, 4) if (targets == k).sum() >= minimum]
    return float(np.mean(predicted[anchors] == targets[anchors])), float(np.mean(recalls))


Both = tuple[np.ndarray, np.ndarray]
"""Of the validation and of the test samples."""


def counted(log: PreparedLog) -> dict[str, Both]:
    """Every baseline, and counting as it is served."""
    table = pa.concat_tables([part.table for part in log.parts])
    timelines = timeline_arrays(table, log.vocabulary.names)
    samples, second = samples_of(log), len(log.parts[0])
    asked = [np.concatenate([rows[0], rows[1] + second]) for rows in (samples.validation, samples.test)]
    found = {
        name: (baseline.predict(timelines, asked[0]), baseline.predict(timelines, asked[1]))
        for name, baseline in fit_baselines(timelines).items()
    }
    columns = [name for name in table.column_names if name.startswith("before.")]
    markov = without_rare(fit_counts(timelines, columns))[0].markov
    roomy = replace(timelines, contexts=timelines.contexts + 1)
    anybody = [shares(markov.predict(roomy, rows)) for rows in asked]
    pasts = [past_counts_of(timelines, rows) for rows in asked]
    targets = timelines.behavior[asked[0]]
    seen, rows = targets >= 0, np.arange(len(targets))

    def likelihood(pair: tuple[float, ...]) -> float:
        said = with_habits(anybody[0], pasts[0], pair)
        return float(np.log(said[rows, targets][seen]).mean())

    best = max(product(CONCENTRATION_GRID[::-1], repeat=2), key=likelihood)
    validation, test = (
        np.log(with_habits(of, past, best)).astype(np.float32)
        for of, past in zip(anybody, pasts, strict=True)
    )
    return found | {"counts": (validation, test)}


def past_counts_of(timelines: TimelineArrays, rows: np.ndarray) -> np.ndarray:
    """How often each behavior is in the past of a row, and how often it followed there what came last; [2, n, K]."""
    found = np.zeros((2, len(rows), timelines.behaviors))
    for place, row in enumerate(rows):
        past = timelines.behavior[timelines.user_start[row] : row].tolist()
        for before, event in zip([None, *past], past, strict=False):
            if event >= 0:
                found[0, place, event] += 1
                found[1, place, event] += before is not None and before == past[-1]
    return found


def with_habits(anybody: np.ndarray, past: np.ndarray, pair: tuple[float, ...]) -> np.ndarray:
    """Shares of the past mixed in, the more the longer it is: first of all of it, then of what followed the last."""
    for counts, concentration in zip(past, pair, strict=True):
        size = counts.sum(axis=1, keepdims=True)
        own = counts / np.maximum(size, 1)
        weight = size / (size + concentration)
        anybody = weight * own + (1 - weight) * anybody
    return anybody


def shares(scores: np.ndarray) -> np.ndarray:
    exponents = np.exp(scores.astype(np.float64))
    return exponents / exponents.sum(axis=1, keepdims=True)


def with_counting(model: Both, counts: Both, targets: np.ndarray) -> tuple[np.ndarray, Both]:
    """The mixture under which the validation targets are most likely, and counting's share of each behavior."""
    seen, rows = targets >= 0, np.arange(len(targets))

    def mixture(place: int, weights: np.ndarray) -> np.ndarray:
        said = weights * shares(counts[place]) + (1 - weights) * shares(model[place])
        return np.log(said / said.sum(axis=1, keepdims=True))

    steps = np.arange(20) / 20
    pairs = [np.array([one, one, other, other, other]) for one in steps for other in steps]
    with np.errstate(divide="ignore"):
        best = max(pairs, key=lambda weights: mixture(0, weights)[rows, targets][seen].mean())
        return best, (mixture(0, best).astype(np.float32), mixture(1, best).astype(np.float32))


class InMemory:
    """Every rule of every predictor, with all scores in memory at once."""

    def __init__(self, log: PreparedLog) -> None:
        samples, self.known = samples_of(log), log.vocabulary
        self.validation, self.test = (
            gather(log, rows, "behavior") for rows in (samples.validation, samples.test)
        )
        self.prior = np.log((self.known.counts + 1) / (self.known.counts + 1).sum())
        self.groups = group_names(log, samples.validation)
        self.folds = fold_of(self.groups)
        self.whole: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        """Scores on test, and those that confidence is of."""
        self.rules: dict[str, Any] = {}
        self.tau: dict[str, float] = {}
        self.objectives: dict[str, dict[str, float]] = {}
        self.plain: dict[str, dict[str, float]] = {}
        self.chosen: dict[str, np.ndarray] = {}
        """On validation, by model."""

    def add(self, name: str, said: Both, mix: np.ndarray | None = None) -> None:
        chosen_on, test = said
        # the same to the last bit: scores that are rounded tie under a rule, and noise would decide
        of_validation, of_test = (normalize_label_scores(scores) for scores in said)
        adjusted = {one: (chosen_on - one * self.prior).astype(np.float32).argmax(axis=1) for one in GRID}
        everywhere = np.ones(len(self.validation), bool)
        tau = self.best_tau(adjusted, everywhere)
        cross_fitted = np.full(len(self.validation), -2)
        for fold in set(self.folds):
            there = self.folds == fold
            cross_fitted[there] = adjusted[self.best_tau(adjusted, ~there)][there]
        share = np.exp(self.prior)
        counts = 1 - np.exp(-share[2:] * len(self.validation))
        shift = np.array([-np.log(share[:2].sum())] * 2 + [0.0] * 3)
        shift[2:] = np.log(counts / counts.sum() / share[2:])
        shift += 0 if mix is None else self.prior - mix
        numbers = fit_numbers(
            lambda pairs: pair_codes(of_validation, self.validation, self.known.is_anchor, self.prior, pairs),
            self.validation,
            self.known.is_anchor,
            self.folds,
        )
        scale, lift = np.ones(5), -numbers.tau * self.prior
        scale[2:], lift[2:] = numbers.tail_scale, lift[2:] + numbers.tail_shift
        assert numbers.right is not None
        by_rule = {
            "": chosen_on.argmax(axis=1),
            "+bayes": (of_validation + shift).argmax(axis=1),
            "+adjusted": cross_fitted,
            "+fitted": np.where(numbers.right, self.validation, -2),
        }
        self.chosen |= {name + rule: chosen for rule, chosen in by_rule.items()}
        accuracy, recall = ends(by_rule[""], self.validation, 1)
        self.tau[name] = tau
        self.plain[name] = {
            "anchor_accuracy": accuracy,
            "tail_macro_recall": recall,
            "objective": (accuracy + recall) / 2,
        }
        self.objectives[name] = {
            "plain": self.plain[name]["objective"],
            "bayes": self.worth(by_rule["+bayes"]),
            "adjusted": self.worth(cross_fitted),
            "fitted": self.worth(by_rule["+fitted"]),
        }
        self.rules[name] = {
            "plain": {"kind": "plain"},
            "bayes": {"kind": "bayes", "shift": shift.tolist()},
            "adjusted": {"kind": "logit_adjusted", "tau": tau},
            "fitted": {
                "kind": "fitted",
                "tail_scale": numbers.tail_scale,
                "tail_shift": numbers.tail_shift,
                "tau": numbers.tau,
            },
        }
        self.whole[name + "+bayes"] = of_test + shift, test
        self.whole[name + "+adjusted"] = (test - tau * self.prior).astype(np.float32), test
        self.whole[name + "+fitted"] = of_test * scale + lift, test

    def best_tau(self, adjusted: dict[float, np.ndarray], there: np.ndarray) -> float:
        values = {one: round(self.worth(chosen[there], there), 9) for one, chosen in adjusted.items()}
        return min(GRID, key=lambda one: (-values[one], abs(one), one))

    def worth(self, chosen: np.ndarray, rows: np.ndarray | None = None) -> float:
        targets = self.validation if rows is None else self.validation[rows]
        return sum(ends(chosen, targets, 1)) / 2

    def gains(self, models: list[str], safe: str) -> list[dict[str, float]]:
        """Over the safe choice, each draw of users written out; as wide as holds for all at once."""
        random, users, spread = np.random.default_rng(4), np.unique(self.groups), []
        for _ in range(60):
            drawn = users[random.integers(0, len(users), len(users))]
            rows = np.concatenate([np.flatnonzero(self.groups == user) for user in drawn])
            other = self.worth(self.chosen[safe][rows], rows)
            spread.append([self.worth(self.chosen[name][rows], rows) - other for name in models])
        table = pd.DataFrame(spread)
        error = table.std(ddof=0)
        farthest = ((table - table.mean()).abs() / error.where(error > 0, 1.0)).max(axis=1).quantile(0.95)
        values = [self.worth(self.chosen[model]) - self.worth(self.chosen[safe]) for model in models]
        wide = (error * farthest).tolist()
        return [{"value": v, "low": v - w, "high": v + w} for v, w in zip(values, wide, strict=True)]

    def best(self, name: str) -> str:
        """The rule that validation prefers."""
        found = self.objectives[name]
        return max(found, key=lambda rule: round(found[rule], 9))  # of equal ones the first


def in_memory(log: PreparedLog, scores: dict[str, dict[str, np.ndarray]]) -> tuple[dict, dict]:
    """results and details, with all scores in memory at once."""
    all_of = InMemory(log)
    targets = all_of.test
    lengths = np.array([len(label) for label in labels_with_terminator(log.prompt)])
    baselines, fronts = counted(log), {}
    for name, said in baselines.items():
        all_of.whole[name] = said[1], said[1]
        all_of.add(name, said)
    for name, of_arm in scores.items():
        test = of_arm["test"]
        all_of.whole[name] = test, test
        if "without_history" in of_arm:
            for form, changed in (
                ("pmi", test - of_arm["without_history"]),
                ("per_token", (test / lengths).astype(np.float32)),
            ):
                all_of.whole[f"{name}+{form}"] = changed, changed
        all_of.add(name, (of_arm["validation"], test), MIXES.get(name))
        points = []
        for strength in np.arange(-20, 31) / 20:
            adjusted = (test - strength * all_of.prior).astype(np.float32)
            accuracy, recall = ends(adjusted.argmax(axis=1), targets, 10)
            points.append({"tau": strength, "anchor_accuracy": accuracy, "tail_macro_recall": recall})
        fronts[name] = {
            "points": [point | {"expected": None} for point in points],
            "area": endpoint_area(points),
            "expected_area": None,
        }
    arm = max(scores, key=lambda name: round(all_of.objectives[name][all_of.best(name)], 9))
    mixture = f"{arm}+counts"
    said_by_arm = scores[arm]["validation"], scores[arm]["test"]
    weight, both = with_counting(said_by_arm, baselines["counts"], all_of.validation)
    all_of.whole[mixture] = both[1], both[1]
    mix = MIXES.get(arm)
    if mix is not None:
        both_mixes = weight * np.exp(all_of.prior) + (1 - weight) * np.exp(mix)
        mix = np.log(both_mixes / both_mixes.sum())
    all_of.add(mixture, both, mix)
    measured = {name: by_sorting(ranked, targets, own) for name, (ranked, own) in all_of.whole.items()}
    results, details = written(log, all_of, measured, ["counts", *scores, mixture])
    shares_of_counting = {"counts_weight": weight[0], "tail_counts_weight": weight[2]}
    details |= {"fronts": fronts, "mixtures": {mixture: {"kind": "fused"} | shares_of_counting}}
    return results | {"validation": {name: all_of.plain[name] for name in scores}}, details


def written(
    log: PreparedLog, all_of: InMemory, measured: dict[str, Outcomes], served: list[str]
) -> tuple[dict, dict]:
    """What can be said of outcomes alone."""
    known, samples, targets = log.vocabulary, samples_of(log), all_of.test
    is_repeat, groups = gather(log, samples.test, "is_repeat"), group_names(log, samples.test)
    drawn: dict[str, Any] = {"resamples": 60, "seed": 4}
    options: list[dict[str, Any]] = [
        {
            "predictor": name,
            "rule": rule,
            "model": name if rule == "plain" else f"{name}+{rule}",
            "objective": objective,
        }
        for name in served
        for rule, objective in all_of.objectives[name].items()
    ]
    mixture = [option for option in options if option["predictor"] == served[-1]]
    safe = max(mixture[:2], key=lambda option: round(option["objective"], 9))
    gains = all_of.gains([option["model"] for option in options], safe["model"])
    for option, gain in zip(options, gains, strict=True):
        option["gain"] = gain
    sure = [option for option in options if option["gain"]["low"] > 0]
    winner = max(sure, key=lambda option: round(option["objective"], 9)) if sure else safe
    looked_at = {
        name: model
        for name, model in measured.items()
        if name.rpartition("+")[2] not in ("bayes", "adjusted", "fitted")
        or name.rpartition("+")[2] == all_of.best(name.rpartition("+")[0])
        or (name.endswith("+adjusted") and name.removesuffix("+adjusted") in ARMS)
        or name == winner["model"]
    }
    results = {
        "recommended": winner | {"compared": options},
        "ceiling": None,
        "in_expectation": None,
        "models": {
            name: percentile_intervals(resample(model, known.is_anchor, groups, is_repeat, **drawn))
            for name, model in measured.items()
        },
        "samples": {
            "all": len(targets),
            "anchor": sum(target in (0, 1) for target in targets),
            "tail": sum(target not in (0, 1) for target in targets),
            "unseen": sum(target < 0 for target in targets),
            "repeats": sum(is_repeat),
            "changes": sum(~is_repeat),
            "validation": len(all_of.validation),
            "validation_groups": len(set(group_names(log, samples.validation))),
            "groups": len(set(groups)),
        },
    }
    asked: list[tuple[Any, str]] = [("ab_tuned", name) for name in looked_at if name != "ab_tuned"]
    asked += [
        (winner["model"], name)
        for predictor in all_of.objectives
        if (name := f"{predictor}+{all_of.best(predictor)}".removesuffix("+plain"))
        != winner["model"]
        != "ab_tuned"
    ]
    differences = {
        (first, second): paired_difference(
            *(
                resample(measured[name], known.is_anchor, groups, is_repeat, **drawn)
                for name in (first, second)
            )
        )
        for first, second in asked
    }
    details = {
        "tau": all_of.tau,
        "rules": all_of.rules,
        "validation": all_of.objectives,
        "truth": None,
        "comparisons": [
            {
                "first": first,
                "second": second,
                "group": group,
                "metric": metric,
                "difference": of[group][metric]["value"],
                "low": of[group][metric]["low"],
                "high": of[group][metric]["high"],
                "p_value": of[group][metric]["p"],
            }
            for (first, second), of in differences.items()
            for group, metric in (
                ("all", "accuracy"),
                ("anchor", "accuracy"),
                ("tail", "macro_recall_at_least_10"),
            )
        ],
        "per_behavior": {
            name: per_behavior_table(model, NAMES, known.is_anchor, known.counts).to_pylist()
            for name, model in looked_at.items()
        },
        "reliability": {name: reliability(model).to_pylist() for name, model in looked_at.items()},
    }
    return results, details
