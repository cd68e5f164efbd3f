"""The report: every number is on it, log text is inert, nothing is fetched, missing parts do no harm."""

import itertools
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from behaviorlm_ray.report.content import Front, ReportData, Results
from behaviorlm_ray.report.front_plot import unadjusted
from behaviorlm_ray.report.page import render_report
from behaviorlm_ray.report.results import shown_retention

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


@pytest.fixture(scope="module")
def report() -> ReportData:
    return random_report(seed=3)


@pytest.fixture(scope="module")
def small_report() -> ReportData:
    """Every part, but few plots, so that many variants are drawn quickly."""
    report = random_report(seed=6, behaviors=len(NAMES), steps=12)
    first = {
        "reliability": dict(list(report.reliability.items())[:1]),
        "loss_curves": dict(list(report.loss_curves.items())[:1]),
    }
    return report.model_copy(update=first)


@pytest.fixture(scope="module")
def page(report: ReportData) -> str:
    return render_report(report)


def test_every_number_of_the_results_is_on_the_page(report: ReportData, page: str) -> None:
    text = PageText(page).text
    for groups in report.results.models.values():
        for metrics in groups.values():
            for of in metrics.values():
                assert f"{of.value:.3f}" in text
                assert f"{of.low:.3f} – {of.high:.3f}".replace("-", "−") in text
    for number in (
        "123,456",
        "789",
        "98,765",
        "6,543",
        "23.4 %",
        "0.712",
        "0.803",
        "0.551",
        "2.345",
        "2,987",
    ):
        assert number in text
    for front in report.fronts.values():
        assert f"{front.area:.3f}" in text
    for comparison in report.comparisons:
        assert f"{comparison.difference:+.3f}".replace("-", "−") in text
    for stage in report.stages:
        assert stage.fingerprint[:12] in text and f"{stage.rows:,}" in text


def test_every_behavior_is_listed_for_every_model_with_its_counts_and_metrics(
    report: ReportData, page: str
) -> None:
    cells = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)]
    found = {tuple(words[-4:]) for words in cells}
    for rows in report.behaviors.values():
        for row in rows:
            shown = [f"{row.training_targets:,}", f"{row.targets:,}"]
            shown += ["–" if value is None else f"{value:.3f}" for value in (row.recall, row.precision)]
            assert tuple(shown) in found
    assert page.count("unseen in training</i>") == len(report.behaviors)


def test_text_from_the_log_is_inert_in_tables_and_in_plots() -> None:
    page = render_report(
        random_report(seed=4, behaviors=len(NAMES) + 5)
    )  # few enough to be named in the plot
    parsed = PageText(page)
    assert not {tag for tag, _ in parsed.tags} & {"script", "img", "b-", "iframe", "object", "embed", "link"}
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in parsed.text and "&lt;script&gt;" in page
    assert r"line\nbreak\x00\x1b[31m" in parsed.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page)


def test_the_page_refers_to_nothing_outside_itself(page: str) -> None:
    assert "http:" not in page and "https:" not in page and "@import" not in page
    for tag, attributes in PageText(page).tags:
        assert "src" not in attributes and "srcset" not in attributes
        href = attributes.get("href", attributes.get("xlink:href"))
        assert href is None or href.startswith("#"), (tag, href)
    assert re.findall(r"url\(([^)]*)\)", page) and all(
        url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", page)
    )
    assert "default-src 'none'" in page


def test_every_reference_within_the_page_has_exactly_one_target(page: str) -> None:
    tags = PageText(page).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = {href.removeprefix("#") for _, attributes in tags if (href := attributes.get("href"))}
    references |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert references <= set(ids)


@pytest.mark.parametrize("part", [None, *ReportData.model_fields])
def test_a_report_reads_with_any_one_part_alone(small_report: ReportData, part: str | None) -> None:
    whole = small_report.model_dump(mode="json")
    data = {"title": "Alone"} | ({part: whole[part]} if part else {})
    parsed = PageText(render_report(ReportData.model_validate(data)))
    assert ("Alone" if part != "title" else whole["title"]) in parsed.text
    assert "How to read this" in parsed.text


@pytest.mark.parametrize("part", [name for name in ReportData.model_fields if name != "title"])
def test_a_report_reads_with_any_one_part_missing(small_report: ReportData, part: str) -> None:
    data = {name: value for name, value in small_report.model_dump(mode="json").items() if name != part}
    assert "How to read this" in render_report(ReportData.model_validate(data))


def test_undefined_numbers_are_dashes_and_never_reach_the_page_as_nan(small_report: ReportData) -> None:
    nothing = {"value": None, "low": None, "high": None}
    broken = {"value": float("nan"), "low": float("nan"), "high": float("inf")}
    data = small_report.model_dump() | {
        "results": {
            "models": {
                "one": {"tail": {"accuracy": nothing}},
                "two": {"anchor": {"accuracy": broken}},
                "three": {},
            }
        },
        "loss_curves": {
            "a_tune": [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": None}],
            "b_tune": [],
        },
        "reliability": {
            "one": [{"low": 0, "high": 1, "samples": 0, "mean_confidence": None, "accuracy": None}]
        },
        "behaviors": {"one": [{"behavior": "walk"}], "two": []},
        "selection": {"behaviors": [{"behavior": "walk", "available": 0, "quota": 0}]},
        "comparisons": [{"first": "one", "second": "two", "group": "all", "metric": "mrr"}],
        "fronts": {"one": {"anchor_accuracy": [None], "tail_macro_recall": [0.1]}},
    }
    text = PageText(render_report(ReportData.model_validate(data))).text
    assert not re.search(r"\b(nan|inf|None)\b", text)
    assert "–" in text


def test_the_dot_of_a_front_is_the_model_without_adjustment_wherever_it_lies() -> None:
    anchor, tail = [0.6, 0.5, 0.4], [0.1, 0.2, 0.3]
    assert unadjusted(Front(anchor_accuracy=anchor, tail_macro_recall=tail, tau=[-0.5, 0, 1])) == (0.5, 0.2)
    assert unadjusted(Front(anchor_accuracy=anchor, tail_macro_recall=tail)) == (0.6, 0.1)
    assert unadjusted(Front(anchor_accuracy=anchor, tail_macro_recall=tail, tau=[0.5, 1, 1.5])) is None
    assert unadjusted(Front(anchor_accuracy=[None], tail_macro_recall=[0.1], tau=[0])) is None


def test_the_endpoint_in_expectation_stands_beside_its_bound_and_a_dash_where_nothing_counts() -> None:
    values = [{"value": 0.111, "low": None, "high": None}] * 2
    groups = {"anchor": {"accuracy": values[0]}, "tail": {"macro_recall_at_least_10": values[1]}}
    front = {"anchor_accuracy": [0.6, 0.5], "tail_macro_recall": [0.1, 0.2], "tau": [-0.5, 0]}
    data = {
        "title": "expected",
        "synthetic": True,
        "results": {
            "models": {"one": groups, "two": groups, "three": groups},
            "in_expectation": {
                "bound": {"anchor_accuracy": 0.777, "tail_macro_recall": 0.666},
                "models": {
                    "one": {"anchor_accuracy": 0.543, "tail_macro_recall": 0.321},
                    "two": {"anchor_accuracy": 0.234, "tail_macro_recall": None},
                },
            },
        },
        "fronts": {"one": front | {"area": 0.135, "expected_area": 0.246}},
        "truth_front": {"anchor_accuracy": [0.7], "tail_macro_recall": [0.6], "expected_area": 0.468},
    }
    page = render_report(ReportData.model_validate(data))
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr.*?</tr>", page, re.DOTALL)]
    ends = {words[1]: words[-2:] for words in rows if len(words) > 3}
    assert ends["one"] == ["0.543", "0.321"] and ends["two"] == ["0.234", "–"] and ends["three"] == ["–", "–"]
    assert rows[4][0] == "bound" and rows[4][-2:] == ["0.777", "0.666"]
    assert ["one", "0.135", "0.246"] in rows and ["best", "possible", "0.468"] in rows


def test_the_data_of_a_report_survive_json(small_report: ReportData) -> None:
    again = ReportData.model_validate_json(small_report.model_dump_json())
    assert again == small_report
    assert render_report(again) == render_report(small_report)


def test_a_log_without_conversations_has_no_table_of_knowledge_and_models_without_any_no_row() -> None:
    assert shown_retention({"untuned": {}, "ab_tuned": {}}) == {}
    found = shown_retention({"untuned": {}, "ab_tuned": {"talk": {"loss": 1.5}, "cloze": {"accuracy": 0.25}}})
    assert found == {"ab_tuned": {"talk loss": {"value": 1.5}, "cloze accuracy": {"value": 0.25}}}
    pages = [
        render_report(ReportData(title="t", results=Results.model_validate({"retention": of})))
        for of in (found, shown_retention({"untuned": {}}))
    ]
    assert ['id="retention"' in page for page in pages] == [True, False]


def test_the_best_value_is_marked_and_for_the_calibration_error_it_is_the_lowest() -> None:
    def of(value: float) -> dict[str, dict[str, float]]:
        return {"accuracy": {"value": value}, "expected_calibration_error": {"value": value}}

    page = render_report(
        ReportData(
            title="t",
            results=Results.model_validate({"models": {"x": {"all": of(0.25)}, "y": {"all": of(0.75)}}}),
        )
    )
    assert re.findall(r'<span class="best">([\d.]+)', page) == [
        "0.250",
        "0.750",
    ]  # x: calibration error; y: accuracy


def test_ten_thousand_behaviors_still_make_a_page_that_opens() -> None:
    page = render_report(random_report(seed=5, behaviors=10_000, steps=5_000))
    assert len(page) < 12e6
    assert "9,000 rarer behaviors are left out" in page


def test_a_browser_without_network_shows_the_page(report: ReportData, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render_report(report), encoding="utf-8")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium on this machine: the page was written but not opened")
        return
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    flags += ["--disable-sync", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run(
        [browser, *flags, "--dump-dom", path.as_uri()], capture_output=True, timeout=120, check=True
    )
    parsed = PageText(shown.stdout.decode("utf-8"))
    assert "How to read this" in parsed.text and HOSTILE in parsed.text
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert (
        sum(tag == "svg" for tag, _ in parsed.tags)
        == sum(tag == "svg" for tag, _ in PageText(path.read_text()).tags)
        > 5
    )
