"""Reports of random numbers, with hostile names, and what a browser would take from their pages."""

import itertools
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
from numpy.random import Generator

from behaviorlm.scoring.model_names import split_model_name
from behaviorlm_ray.report.content import ReportData

MODELS = {
    "most_frequent": "baseline",
    "user_frequency": "baseline",
    "bigram": "baseline",
    "markov_order_3": "baseline",
    "untuned": "untuned",
    "untuned+pmi": "untuned",
    "one_stage": "tuned",
    "one_stage+adjusted": "tuned",
    "a_tuned": "tuned",
    "a_tuned+adjusted": "tuned",
    "ab_tuned": "tuned",
    "ab_tuned+adjusted": "tuned",
}
METRICS = [
    "accuracy", "mrr", "ndcg_at_3", "ndcg_at_5", "recall_at_5", "weighted_precision", "weighted_recall",
    "weighted_f1", "macro_precision", "macro_recall", "macro_f1", "macro_recall_at_least_10",
    "expected_calibration_error",
]  # fmt: skip
GROUPS = ["all", "anchor", "tail", "repeats", "changes"]
HOSTILE = '<script>alert("x")</script>'
NAMES = [
    HOSTILE, "</svg><img src=x onerror=alert(1)>", "line\nbreak\x00\x1b[31m", "مرحبا بالعالم",
    "🚕 call a taxi", "$x^2$ & <b>bold</b>", "Light:switch on", "Google", "Google Maps",
    "<|im_end|>", "n" * 120, "turned \u202e round",
]  # fmt: skip


class PageText(HTMLParser):
    """The text and the tags of a page as a browser would take them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._unread = False
        self.feed(page)
        self.text = re.sub(r"\s+", " ", " ".join(self.parts))

    def handle_data(self, data: str) -> None:
        if not self._unread:
            self.parts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._unread = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._unread = tag in ("script", "style")


def random_breakdowns(random: Generator, names: list[str]) -> dict[str, Any]:
    """Every part of them, for every model, with hostile names where names are."""
    coverage = np.arange(1, 21) / 20

    def of_users() -> dict[str, Any]:
        parts = [
            {"users": 40, "samples": 700, "lowest": low, "highest": low + 0.2, "accuracy": low + 0.1}
            | {"repeats": 0.2, "tail": 0.25, "known": 61.0}
            for low in np.arange(5) / 5
        ]
        quantiles = {f"{at:g}": float(at) for at in (0.1, 0.25, 0.5, 0.75, 0.9)}
        histogram = random.integers(0, 60, 10).tolist()
        return {"users": 200, "left_out": 3, "minimum_samples": 5} | {
            "quantiles": quantiles,
            "histogram": histogram,
            "parts": parts,
        }

    def rows(labels: list[str]) -> list[dict[str, Any]]:
        return [
            {"label": label, "samples": 100 + place, "groups": 30, "tail": 0.2}
            | {"accuracy": {model: float(random.random()) for model in MODELS}}
            for place, label in enumerate(labels)
        ]

    return {
        "subject": "ab_tuned+adjusted",
        "test_samples": "c3" * 32,
        "slices": {
            "history": rows(["0", "1", "2", "3–4", "5–9", "10–19"]),
            "known": rows(["0", "1", "2", "3–4", "50–99", "1000+"]),
            "repeat": rows(["changes", "repeats"]),
            "hour": rows([f"{hour:02d}" for hour in range(24)]),
            "weekday": rows(["Mon", "Sun", "Tue"]),
        },
        "confusions": {model: [[[0, 7], [1, 2]] for _ in [*names, None]] for model in MODELS},
        "coverage": {
            model: [
                {"coverage": at, "threshold": 1 - at, "samples": int(6543 * at), "precision": 1 - at / 2}
                for at in coverage.tolist()
            ]
            for model in MODELS
        },
        "users": {model: of_users() for model in MODELS},
        "users_against": {"markov_order_3": {"better": 111, "same": 33, "worse": 56}},
        "examples": [
            {
                "history": [*names[:6], names[4]],
                "events_seen": 12,
                "context": {"hour": "08", "weekday": HOSTILE},
                "expected": [
                    {"behavior": name, "probability": 0.5 / (1 + at)} for at, name in enumerate(names[:3])
                ],
                "chosen": names[0],
                "came": name,
                "is_anchor": True,
                "rank": 1 + place,
            }
            for place, name in enumerate(names[:2])
        ],
        "validation_loss": {
            model: {"all": 1.25, "anchor": 1.125, "tail": 4.0625}
            for model in ("untuned", "one_stage", "a_tuned", "ab_tuned")
        },
    }


def random_report(seed: int, behaviors: int = 70, steps: int = 300) -> ReportData:
    random = np.random.default_rng(seed)
    names = NAMES + [f"behavior {number}" for number in range(behaviors - len(NAMES))]
    counts = np.maximum(1, (4000 / np.arange(1, behaviors + 1) ** 1.3)).astype(int)

    def interval(center: float) -> dict[str, float]:
        value = float(np.clip(center + random.normal(0, 0.03), 0, 1))
        return {
            "value": value,
            "low": value - random.uniform(0.01, 0.03),
            "high": value + random.uniform(0.01, 0.03),
        }

    def rows() -> list[dict]:
        return [
            {
                "behavior": name,
                "is_anchor": bool(count > 100),
                "training_targets": int(count),
                "targets": int(count // 10),
                "predicted": 3,
                "recall": float(random.random()) if count >= 10 else None,
                "precision": float(random.random()),
            }
            for name, count in zip(names, counts, strict=True)
        ] + [
            {
                "behavior": None,
                "is_anchor": False,
                "training_targets": 0,
                "targets": 7,
                "recall": 0.0,
                "precision": None,
            }
        ]

    def bins() -> list[dict]:
        edges = np.arange(16) / 15
        return [
            {
                "low": low,
                "high": high,
                "samples": int(random.integers(0, 500)),
                "mean_confidence": (low + high) / 2,
                "accuracy": float(np.clip((low + high) / 2.4 + random.normal(0, 0.04), 0, 1)),
            }
            for low, high in itertools.pairwise(edges)
        ]

    def curve(start: float) -> list[dict]:
        samples = start * np.exp(-np.arange(steps) / steps * 2) + random.normal(0, 0.15, steps)
        auxiliary = start * 1.4 + random.normal(0, 0.05, steps)
        return [
            {
                "step": step,
                "loss": float(one + 0.3 * two),
                "parts": {"samples": float(one), "dolly": float(two)},
                "tokens": 2048,
            }
            for step, (one, two) in enumerate(zip(samples, auxiliary, strict=True), 1)
        ]

    tuned = list(MODELS)[6:]
    return ReportData.model_validate(
        {
            "title": "Next behavior in smart homes",
            "run": "smartthings-us-2",
            "created": "2026-03-14T15:09:26+00:00",
            "warnings": [f"12 behaviors occur only in the test split, one of them {HOSTILE}"],
            "dataset": {
                "name": "smartthings_us",
                "rows": 123456,
                "users": 789,
                "groups": 321,
                "behaviors": behaviors,
                "anchors": int((counts > 100).sum()),
                "tail": int((counts <= 100).sum()),
                "samples_per_split": {"train": 98765, "validation": 5432, "test": 6543},
                "quarantined": {"unreadable time": 17, "empty behavior": 4},
                "repeat_rate": 0.2345,
                "as_read": {
                    "time": "2024-01-01 07:18 to 2024-01-04 08:26 UTC (3 days)",
                    "quarantine": "<none>",
                },
            },
            "results": {
                "ceiling": {"all": 0.7123, "anchor": 0.8034, "tail": 0.5512},
                "recommended": {
                    "predictor": "ab_tuned",
                    "rule": "adjusted",
                    "model": "ab_tuned+adjusted",
                    "objective": 0.61,
                    "compared": [
                        {"predictor": predictor, "rule": rule, "model": model, "objective": 0.3 + place / 50}
                        for place, model in enumerate(MODELS)
                        for predictor, rule in [split_model_name(model)]
                        if rule in ("plain", "adjusted")
                    ],
                },
                "models": {
                    model: {
                        group: {metric: interval(0.2 + 0.04 * place) for metric in METRICS}
                        for group in GROUPS
                    }
                    for place, model in enumerate(MODELS)
                },
                "samples": {"all": 6543, "groups": 321, "by_group": {"anchor": 5000, "tail": 1543}},
                "retention": {
                    model: {"held_out_loss": {"value": 2.345}, "cloze_accuracy": interval(0.4)}
                    for model in tuned
                },
            },
            "models": {
                model: {
                    "kind": kind,
                    "description": "score − τ log prior, τ = 0.6" if "adjusted" in model else "",
                }
                for model, kind in MODELS.items()
            },
            "comparisons": [
                {
                    "first": first,
                    "second": second,
                    "group": group,
                    "metric": metric,
                    "difference": difference,
                    "low": difference - 0.02,
                    "high": difference + 0.02,
                    "p_value": float(random.random() ** 4),
                }
                for first, second in (
                    ("ab_tuned+adjusted", "one_stage"),
                    ("ab_tuned+adjusted", "markov_order_3"),
                )
                for group, metric in (
                    ("anchor", "accuracy"),
                    ("tail", "macro_recall_at_least_10"),
                    ("all", "mrr"),
                )
                for difference in [float(random.normal(0, 0.05))]
            ],
            "fronts": {
                model: {
                    "anchor_accuracy": np.linspace(0.5 + 0.02 * place, 0.2, 9).tolist(),
                    "tail_macro_recall": np.linspace(0.1, 0.4 + 0.02 * place, 9).tolist(),
                    "area": 0.2 + 0.0111 * place,
                }
                for place, model in enumerate([*tuned, HOSTILE])
            },
            "truth_front": {"anchor_accuracy": [0.6, 0.3], "tail_macro_recall": [0.2, 0.7]},
            "loss_curves": {"a_tune": curve(3.0), "b_tune": curve(1.5)[: steps // 6]},
            "selection": {
                "requested": 3000,
                "selected": 2987,
                "shortfall": 13,
                "difficulty": "excess",
                "behaviors": [
                    {
                        "behavior": name,
                        "is_anchor": bool(count > 100),
                        "available": int(count),
                        "quota": int(min(count, 5 * count**0.5)),
                        "mean_difficulty": float(3 - 0.3 * np.log(count) + random.normal(0, 0.2)),
                    }
                    for name, count in zip(names, counts, strict=True)
                ],
            },
            "behaviors": {model: rows() for model in [*tuned, "markov_order_3"]},
            "reliability": {model: bins() for model in [*tuned, "markov_order_3"]},
            "breakdowns": random_breakdowns(random, names),
            "fingerprints": {"log": "a1" * 32, "vocabulary": "b2" * 32, "test samples": "c3" * 32},
            "stages": [
                {
                    "stage": stage,
                    "fingerprint": f"{number:02d}fa8c0b" * 8,
                    "reused": number < 2,
                    "seconds": float(random.uniform(1, 5000)),
                    "tokens": 123_456 * number or None,
                    "rows": 1000 * number + 11,
                    "warnings": ["3 conversations were cut to 512 tokens"] if stage == "a_tune" else [],
                }
                for number, stage in enumerate(["prepare", "a_tune", "score", "select", "b_tune", "evaluate"])
            ],
            "configuration": {
                "events": {"dataset": "smartthings_us", "user": "home", "note": HOSTILE},
                "seed": 0,
            },
            "commands": ["behaviorlm run --config jobs/configs/smartthings_us.yaml"],
        }
    )
