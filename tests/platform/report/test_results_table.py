"""The table that a run ends with: it fits a terminal and has every model."""

from behaviorlm_ray.evaluation.recommendation import Option
from behaviorlm_ray.report.results_table import short_table


def test_every_model_has_a_line_that_fits_a_terminal() -> None:
    def of(value: float | None) -> dict[str, float | None]:
        return {"value": value, "low": None if value is None else 0.0, "high": value}

    groups = {"anchor": {"accuracy": of(0.25)}, "tail": {"macro_recall_at_least_10": of(None)}}
    models = {
        name: groups | {"all": {"accuracy": of(0.5)}} for name in ("bigram", "all_then_auxiliary+adjusted")
    }
    chosen = {
        "compared": [vars(Option("all_then_auxiliary", "adjusted", "all_then_auxiliary+adjusted", 0.4))]
    }
    lines = short_table({"models": models | {"bigram+bayes": models["bigram"]}, "recommended": chosen})
    assert [line.split()[0] for line in lines[1:]] == list(models)
    assert lines[1].split() == ["bigram", "0.250", "[0.000,", "0.250]", "–", "0.500"]
    expected = {"models": {"bigram": {"anchor_accuracy": 0.1, "tail_macro_recall": None}}, "bound": {}}
    with_truth = short_table({"models": models, "in_expectation": expected, "recommended": chosen})
    assert with_truth[1].split()[-2:] == ["0.100", "–"] and with_truth[-1].split()[0] == "bound"
    assert max(map(len, with_truth)) <= 110
