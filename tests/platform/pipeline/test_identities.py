"""What identifies each stage of the shipped configurations, pinned: a change here makes every finished stage run again.

`identities.json` holds, for each stage, the hash of what it would be made from and how, with constants for what is
read from outside. A key that is added later enters an identity only where it is not at its default.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from behaviorlm.config import load_settings
from behaviorlm.model.precision import Precision
from behaviorlm.prompts.conversations import AuxiliarySource
from behaviorlm_ray.pipeline.b_tune import b_tune
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.inputs import RunInputs
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.validate import validate, validate_rung
from behaviorlm_ray.stages.stage import in_order

ROOT = Path(__file__).resolve().parents[3]
PINNED: dict[str, dict[str, list[str]]] = json.loads(
    Path(__file__).with_name("identities.json").read_text(encoding="utf-8")
)
KINDS = {
    "as it is": [],
    "cross-fitted": ["difficulty.source=cross_fit", "difficulty.measure=reducible"],
}


class ConstantInputs(RunInputs):
    """Inputs of which nothing is read."""

    log = "log"
    base = "base"
    cloze = "cloze"
    removed_dropout = ()
    precision = Precision("float32", "float32", "")

    def conversations(self, sources: Sequence[AuxiliarySource]) -> dict[str, str]:
        return {f"source_{number}": f"source {number}" for number in range(len(sources))}


@pytest.mark.parametrize("case", PINNED)
def test_every_stage_keeps_its_identity(case: str) -> None:
    name, kind = case.split(", ")
    settings = load_settings(RunSettings, str(ROOT / "jobs" / "configs" / f"{name}.yaml"), KINDS[kind])
    run = Run(settings, ConstantInputs(settings))
    goals = [evaluate(run), validate(run, "untuned"), validate(run, "one_stage")]
    goals += [validate(run, "ab_tuned"), validate_rung(run, 10, b_tune(run, 10))]
    found: dict[str, list[str]] = {}
    for stage in in_order(goals):
        found.setdefault(stage.name, []).append(stage.recipe)
    assert {stage: sorted(recipes) for stage, recipes in found.items()} == PINNED[case]


def recipes(*overrides: str) -> dict[str, str]:
    """What identifies each stage of a shipped configuration with some keys changed."""
    path = str(ROOT / "jobs" / "configs" / "smartthings_us.yaml")
    settings = load_settings(RunSettings, path, overrides)
    run = Run(settings, ConstantInputs(settings))
    goals = [evaluate(run), validate(run, "untuned")]
    return {stage.name: stage.recipe for stage in in_order(goals)}


def test_few_shots_identify_all_but_what_is_tuned_on_anchors() -> None:
    plain, few = recipes(), recipes("few_shot.tail_samples=3")
    kept = {"prepare", "conversations", "a_tune"}
    assert {name for name, recipe in plain.items() if few[name] == recipe} == kept
    assert recipes("few_shot.seed=5") == plain
    assert set(recipes("few_shot.tail_samples=3", "few_shot.seed=5").items()).isdisjoint(
        {item for item in few.items() if item[0] not in kept}
    )


def test_a_share_of_the_data_identifies_what_is_tuned_on_anchors_too() -> None:
    plain, part = recipes(), recipes("few_shot.share=0.5")
    assert recipes("few_shot.share=1.0") == plain
    assert {name for name, recipe in plain.items() if part[name] == recipe} == {"prepare", "conversations"}


def test_opponents_identify_the_comparison_only_and_each_is_a_stage() -> None:
    plain, more = recipes(), recipes("evaluation.opponents=[gru4rec, sasrec]")
    assert recipes("evaluation.opponents=[]") == plain
    assert more.keys() - plain.keys() == {"oppose_gru4rec", "oppose_sasrec"}
    assert {name for name, recipe in plain.items() if more[name] != recipe} == {"evaluate"}
    few = recipes("evaluation.opponents=[gru4rec]", "few_shot.tail_samples=3")
    assert few["oppose_gru4rec"] != more["oppose_gru4rec"]


def test_a_profile_is_part_of_what_is_prepared() -> None:
    plain = recipes()
    assert recipes("prompt.profile=0") == plain
    assert {name for name, recipe in recipes("prompt.profile=3").items() if plain[name] == recipe} == {
        "conversations"
    }


def test_a_normalization_identifies_what_is_scored_and_what_follows_from_it_only() -> None:
    plain, trie = recipes(), recipes("scoring.normalization=trie")
    assert recipes("scoring.normalization=full") == plain
    kept = {"prepare", "conversations", "a_tune", "one_stage"}
    assert {name for name, recipe in plain.items() if trie[name] == recipe} == kept
    assert recipes("execution.allow_plain=false") == plain


def test_a_loss_identifies_what_is_tuned_and_what_follows_from_it_only() -> None:
    trie = recipes("scoring.normalization=trie")
    labels = recipes("scoring.normalization=trie", "loss.tokens=labels")
    assert recipes("scoring.normalization=trie", "loss.tokens=all") == trie
    kept = {"prepare", "conversations", "predict_untuned", "validate_untuned"}
    assert {name for name, recipe in trie.items() if labels[name] == recipe} == kept
    defaults = ["temperature=1.0", "focal=0", "class_balance=0.0", "oversample=0"]
    assert recipes("scoring.normalization=trie", *(f"loss.{key}" for key in defaults)) == trie
    assert recipes("loss.focal=0.0") == recipes()
    allowed = ("scoring.normalization=trie", "loss.tokens=allowed")
    losses = [labels, recipes(*allowed), recipes(*allowed, "loss.temperature=2")]
    for key in (
        "focal=2",
        "focal=1",
        "class_balance=0.9",
        "class_balance=0.99",
        "oversample=0.5",
        "oversample=1",
    ):
        losses.append(recipes("scoring.normalization=trie", f"loss.{key}"))
    for loss in losses:
        assert {name for name, recipe in trie.items() if loss[name] == recipe} == kept
    assert len({loss["one_stage"] for loss in losses}) == len(losses)


def test_a_pull_identifies_a_tuning_and_what_follows_from_it_and_its_reference_by_the_samples_only() -> None:
    plain, kept = recipes(), recipes("a_tuning.keep_tail={}")
    assert kept.keys() - plain.keys() == {"reference"}
    same = {name for name, recipe in plain.items() if kept[name] == recipe}
    assert "one_stage" in same and not same & {"a_tune", "score", "select", "b_tune", "predict_ab_tuned"}
    softer = recipes("a_tuning.keep_tail={temperature: 2.0, weight: 0.5}")
    assert softer["reference"] == kept["reference"] and softer["a_tune"] != kept["a_tune"]
    fewer = recipes("a_tuning.keep_tail={share: 0.5}")
    assert fewer["reference"] != kept["reference"]
