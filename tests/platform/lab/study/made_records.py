"""Records of study runs that never ran."""

from typing import Any


def made_record(
    condition: str, seed: int, anchors: dict[str, float], base: str = "shipped", shift: float = 0.0
) -> dict[str, Any]:
    def model(anchor: float) -> dict[str, Any]:
        drawn = {"value": anchor, "low": 0.0, "high": 1.0}
        expected = {"anchor_accuracy": anchor, "tail_macro_recall": 0.5 * anchor, "tail_accuracy": 0.1}
        return {"anchor_accuracy": drawn, "tail_macro_recall": drawn, "expected": expected}

    ends = [(0.2 + shift, 0.6), (0.6 + shift, 0.2)]
    expected = [{"anchor_accuracy": anchor, "tail_macro_recall": tail} for anchor, tail in ends]
    points = [{"tau": float(tau), "expected": point} for tau, point in enumerate(expected)]
    front = {"points": points, "area": 0.9, "expected_area": 0.2 + seed / 100}
    settings = {"condition.base": base, "b_tuning.max_steps": 70}
    return {
        "study": "made",
        "condition": condition,
        "seed": seed,
        "made": {"settings": settings, "base": f"the {base} one"},
        "optimizer_samples": {"one_stage": 6400, "ab_tuned": 6400},
        "scoring_samples": {"one_stage": 0, "ab_tuned": 8320},
        "ceiling": {"anchor": 0.5},
        "bound_of_tail_macro_recall": {"expected": 0.6},
        "models": {name: model(value) for name, value in anchors.items()},
        "tau": {"one_stage": 0.25, "ab_tuned": -0.5},
        "validation": {
            "one_stage": {"plain": 0.31, "adjusted": 0.35},
            "ab_tuned": {"plain": 0.4, "adjusted": 0.4},
        },
        "fronts": {"ab_tuned": front, "one_stage": {**front, "expected_area": 0.1}},
        "retention": {"one_stage": {"everyday": {"loss": 2.0 + seed}, "cloze": {"accuracy": 0.5}}},
        "difficulty": {},
    }
