"""The first screen: what to use, against what, on what it rests; and what was not learned, in words."""

from typing import Any

import pytest

from behaviorlm_ray.report.content import ReportData
from behaviorlm_ray.report.forms import Forms, forms
from behaviorlm_ray.report.page import render_report
from behaviorlm_ray.report.panels.endpoint import MOST_SHOWN, endpoint_figure
from behaviorlm_ray.report.panels.first_screen import verdict
from behaviorlm_ray.report.panels.not_learned import loss_ends, to_know


def measured(anchor: float | None, tail: float | None, accuracy: float = 0.5) -> dict[str, Any]:
    def of(value: float | None) -> dict[str, Any]:
        return {"value": value, "low": None, "high": None}

    return {
        "anchor": {"accuracy": of(anchor)},
        "tail": {"macro_recall_at_least_10": of(tail)},
        "all": {"accuracy": of(accuracy)},
    }


def compared(**objectives: float | None) -> list[dict[str, Any]]:
    return [
        {
            "predictor": name.partition("+")[0],
            "rule": name.partition("+")[2] or "plain",
            "model": name,
            "objective": of,
        }
        for name, of in objectives.items()
    ]


@pytest.fixture
def content() -> dict[str, Any]:
    models = {
        "most_frequent": measured(0.3, 0.0, 0.3),
        "bigram": measured(0.4, 0.2),
        "bigram+adjusted": measured(0.35, 0.3),
        "ab_tuned": measured(0.6, 0.2),
        "ab_tuned+adjusted": measured(0.5, 0.45),
    }
    objectives = {
        "most_frequent": 0.15,
        "bigram": 0.2,
        "bigram+adjusted": 0.3,
        "ab_tuned": 0.4,
        "ab_tuned+adjusted": 0.5,
    }
    rows = [
        {"behavior": f"b{n}", "is_anchor": n < 2, "targets": 30 if n < 9 else 2, "predicted": 10}
        for n in range(12)
    ]
    return {
        "title": "t",
        "results": {
            "models": models,
            "samples": {"all": 1500, "groups": 120},
            "recommended": {"model": "ab_tuned+adjusted", "compared": compared(**objectives)},
        },
        "models": {name: {"kind": "baseline"} for name in ("most_frequent", "bigram", "bigram+adjusted")},
        "behaviors": {"ab_tuned+adjusted": rows},
    }


def opened(content: dict[str, Any]) -> tuple[ReportData, Forms]:
    data = ReportData.model_validate(content)
    return data, forms(data)


def said(content: dict[str, Any]) -> list[str]:
    return [sentence.striptags() for sentence in verdict(*opened(content))]


def test_each_predictor_stands_once_under_the_rule_of_validation_and_by_the_endpoint(
    content: dict[str, Any],
) -> None:
    _, found = opened(content)
    assert [shown.model for shown in found.best] == ["ab_tuned+adjusted", "bigram+adjusted", "most_frequent"]
    assert [shown.model for shown in found.others] == ["bigram", "ab_tuned"]
    assert found.recommended is not None and found.recommended.model == "ab_tuned+adjusted"
    assert (
        found.counting is not None
        and found.counting.model == "bigram+adjusted"
        and found.counting_by_validation
    )


def test_the_verdict_names_what_to_use_by_how_much_and_on_what_it_rests(content: dict[str, Any]) -> None:
    content["comparisons"] = [
        {"first": "bigram+adjusted", "second": "ab_tuned+adjusted", "group": "anchor", "metric": "accuracy"}
        | {"difference": -0.15, "low": -0.2, "high": -0.1}
    ]
    content["results"]["recommended"]["reason"] = "it is the safe choice"
    assert said(content) == [
        "Use ab_tuned (logit adjustment): against counting by bigram (logit adjustment) it is ahead by 0.150 in "
        "anchor accuracy (+0.100 to +0.200) and +0.150 in tail macro recall.",
        "Why: it is the safe choice.",
        "This rests on 1,500 test samples of 120 users and on 7 of 10 tail behaviors, those with at least 10 test "
        "targets.",
    ]


def test_what_is_within_chance_is_said_to_be(content: dict[str, Any]) -> None:
    content["comparisons"] = [
        {
            "first": "ab_tuned+adjusted",
            "second": "bigram+adjusted",
            "group": "tail",
            "metric": "macro_recall_at_least_10",
        }
        | {"difference": 0.15, "low": -0.01, "high": 0.31}
    ]
    assert "level within chance in tail macro recall (+0.150, −0.010 to +0.310)" in said(content)[0]


def test_counting_is_recommended_where_it_wins_and_nothing_where_validation_is_silent(
    content: dict[str, Any],
) -> None:
    content["results"]["recommended"]["model"] = "bigram+adjusted"
    assert said(content)[0].startswith(
        "bigram (logit adjustment) is recommended, but a model does better on test: against ab_tuned (logit"
    )
    content["results"]["models"]["ab_tuned+adjusted"] = measured(0.2, 0.1)
    assert said(content)[0].startswith(
        "Use bigram (logit adjustment): against ab_tuned (logit adjustment) it is +0.150"
    )
    content["results"]["recommended"] = {"model": None, "reason": "there is no validation"}
    assert said(content)[0] == "No predictor can be recommended: there is no validation."


def test_results_of_an_earlier_version_are_judged_by_what_they_have(content: dict[str, Any]) -> None:
    content["results"]["recommended"] = None
    content["objectives"] = {"ab_tuned": {"plain": 0.5, "adjusted": 0.4}}
    _, found = opened(content)
    assert found.recommended is not None and found.recommended.model == "ab_tuned"
    assert "counting by bigram, the best on test, it is" in said(content)[0]


def test_what_was_not_learned_is_said(content: dict[str, Any]) -> None:
    content["results"]["models"]["chat"] = measured(0.1, 0.1, 0.2)  # what was only asked had nothing to learn
    content["models"]["chat"] = {"kind": "opponent"}
    assert to_know(*opened(content)) == []
    for name in ("ab_tuned", "ab_tuned+adjusted"):
        content["results"]["models"][name] = measured(0.1, 0.1, 0.2)
    content["behaviors"]["ab_tuned+adjusted"][0]["predicted"] = 10_000
    content["loss_curves"] = {"a_tune": [{"step": step, "loss": 2.0 + step / 100} for step in range(20)]}
    content["results"]["samples"]["groups"] = 9
    told = to_know(*opened(content))
    assert (
        told[0].startswith("Not learned: ab_tuned (20.0 %) is right less often than")
        and "(30.0 %)" in told[0]
    )
    assert told[1] == "One behavior only: ab_tuned+adjusted predicts b0 for 98.9 % of the samples."
    assert "loss of a_tune was 2.015 over its first steps and 2.175 over its last" in told[2]
    assert "9 users only" in told[3]


def test_a_loss_that_fell_is_no_remark_and_a_short_curve_has_no_ends() -> None:
    data = ReportData.model_validate(
        {"title": "t", "loss_curves": {"a": [{"step": step, "loss": 2.0 - step / 100} for step in range(20)]}}
    )
    assert to_know(data, forms(data)) == []
    assert loss_ends(data.loss_curves["a"][:9]) is None


def test_a_model_behind_counting_is_not_said_to_be_used(content: dict[str, Any]) -> None:
    content["results"]["models"]["ab_tuned+adjusted"] = measured(0.3, 0.1)
    assert "but counting does better on test" in said(content)[0] and not said(content)[0].startswith("Use")


def test_forms_that_differ_by_rounding_are_equal_and_the_recommended_one_is_shown(
    content: dict[str, Any],
) -> None:
    compared_ones = content["results"]["recommended"]["compared"]
    compared_ones[3]["objective"], compared_ones[4]["objective"] = 0.5, 0.5 + 1e-15
    content["results"]["recommended"]["model"] = "ab_tuned"
    _, found = opened(content)
    assert found.recommended is not None and found.recommended in found.best
    content["results"]["recommended"]["model"] = "bigram"  # of another version, that chose by something else
    _, found = opened(content)
    assert found.recommended is not None and found.recommended in found.best


def test_counting_is_held_against_the_model_that_validation_prefers_tuned_or_not(
    content: dict[str, Any],
) -> None:
    results = content["results"]
    results["models"] |= {"one_stage": measured(0.9, 0.9)}
    results["recommended"] = {
        "model": "bigram+adjusted",
        "compared": [*results["recommended"]["compared"], *compared(one_stage=0.1)],
    }
    assert "against ab_tuned (logit adjustment)" in said(content)[0]
    results["models"] = {
        name: of for name, of in results["models"].items() if name in ("bigram+adjusted", "ab_tuned")
    }
    content["models"]["ab_tuned"] = {"kind": "untuned"}
    assert "against ab_tuned it is" in said(content)[0]


def test_what_is_recommended_is_in_the_plots_wherever_it_stands(content: dict[str, Any]) -> None:
    content["results"]["models"] |= {f"arm_{number}": measured(0.9, 0.9) for number in range(MOST_SHOWN)}
    _, found = opened(content)
    assert found.recommended not in found.best[:MOST_SHOWN]
    drawn = str(endpoint_figure(found, "anchor", "anchor accuracy", None))
    assert '"name":"ab_tuned"' in drawn and '"name":"bigram"' in drawn and drawn.count('"name":"arm_') == 14


def test_groups_in_place_of_users_are_called_so(content: dict[str, Any]) -> None:
    content["configuration"] = {"events": {"group": "household"}}
    content["results"]["samples"]["groups"] = 1
    content["breakdowns"] = {
        "users": {"ab_tuned+adjusted": {"users": 1, "histogram": [0, 1], "quantiles": {"0.5": 0.7}}},
        "slices": {"history": [{"label": "0", "samples": 3, "accuracy": {"ab_tuned+adjusted": 0.5}}]},
    }
    data, found = opened(content)
    assert to_know(data, found)[0].startswith("Little: the test part has one of the groups only")
    page = render_report(data)
    assert "Accuracy over groups" in page and "accuracy of each of the groups" in page
    assert "a user's accuracy" not in page and '"title":"users"' not in page


def test_counting_that_is_ahead_on_validation_but_not_served_makes_no_preference_of_it(
    content: dict[str, Any],
) -> None:
    content["results"]["models"]["ab_tuned+adjusted"] = measured(0.3, 0.1)
    content["results"]["recommended"]["compared"] += compared(markov_order_3=0.9)
    content["results"]["models"]["markov_order_3"] = measured(0.9, 0.9)
    content["models"]["markov_order_3"] = {"kind": "baseline"}
    assert said(content)[0].startswith(
        "ab_tuned (logit adjustment) is recommended of what can be served, but counting does better on test"
    )


def test_the_best_opponent_has_a_sentence_and_is_nobodys_rival(content: dict[str, Any]) -> None:
    before = said(content)
    content["results"]["models"] |= {"sasrec": measured(0.7, 0.6), "gru4rec": measured(0.9, 0.9)}
    content["models"] |= {name: {"kind": "opponent"} for name in ("sasrec", "gru4rec")}
    content["objectives"] = {"sasrec": {"plain": 0.45}, "gru4rec": {"plain": 0.4}}
    told = said(content)
    assert [told[0], told[2]] == before
    assert told[1] == (
        "An opponent does better on test. Opponents are measured, not exported: against sasrec it is "
        "−0.200 in anchor accuracy and −0.150 in tail macro recall."
    )
    content["results"]["models"]["sasrec"] = measured(0.1, 0.1)
    assert said(content)[1].startswith("Opponents are measured, not exported: against sasrec it is +0.400")
    content["results"]["recommended"]["model"] = "bigram+adjusted"
    assert "against ab_tuned (logit adjustment)" in said(content)[0]
    page = render_report(opened(content)[0])
    assert 'opponent-dot"></span> opponents' in page
