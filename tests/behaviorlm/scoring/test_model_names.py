"""Names of models: a predictor and a rule, also where the predictor's own name has a plus in it."""

import pytest

from behaviorlm.scoring.model_names import RULES, arm_of, model_name, split_model_name


@pytest.mark.parametrize("predictor", ["ab_tuned", "counts", "one_stage+counts", "bigram"])
@pytest.mark.parametrize("rule", RULES)
def test_a_name_is_put_together_and_taken_apart(predictor: str, rule: str) -> None:
    name = model_name(predictor, rule)
    assert split_model_name(name) == (predictor, rule)
    assert (name == predictor) == (rule == "plain")


def test_an_arm_called_like_a_rule_is_an_arm_and_a_mixture_belongs_to_its_arm() -> None:
    assert split_model_name("fitted") == ("fitted", "plain")
    assert split_model_name("fitted+counts") == ("fitted+counts", "plain")
    assert [arm_of(name) for name in ("counts", "one_stage+counts", "one_stage")] == [
        "counts",
        "one_stage",
        "one_stage",
    ]
