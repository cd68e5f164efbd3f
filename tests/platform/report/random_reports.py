"""Reports of random numbers, with hostile names, and what a browser would take from their pages."""

import itertools
import re
from html.parser import HTMLParser

import numpy as np

from behaviorlm_ray.report.content import ReportData

MODELS = {
    "most frequent": "baseline",
    "per-user frequency": "baseline",
    "bigram": "baseline",
    "back-off, order 3": "baseline",
    "no tuning": "untuned",
    "no tuning, PMI": "untuned",
    "one-stage": "tuned",
    "one-stage, adjusted": "tuned",
    "A": "tuned",
    "A, adjusted": "tuned",
    "A+B": "tuned",
    "A+B, adjusted": "tuned",
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
    "<|im_end|>", "n" * 120,
]  # fmt: skip


class PageText(HTMLParser):
    """The text and the tags of a page as a browser would take them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.text = re.sub(r"\s+", " ", " ".join(self.parts))

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


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
                "models": {
                    model: {
                        group: {metric: interval(0.2 + 0.04 * place) for metric in METRICS}
                        for group in GROUPS
                    }
                    for place, model in enumerate(MODELS)
                },
                "samples": {"test": 6543, "by_group": {"anchor": 5000, "tail": 1543}},
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
                for first, second in (("A+B", "one-stage"), ("A+B", "back-off, order 3"))
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
            "behaviors": {model: rows() for model in tuned},
            "reliability": {model: bins() for model in tuned},
            "stages": [
                {
                    "stage": stage,
                    "fingerprint": f"{number:02d}fa8c0b" * 8,
                    "reused": number < 2,
                    "seconds": float(random.uniform(1, 5000)),
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
