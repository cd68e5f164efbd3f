"""The model card: README.md with Hugging Face metadata, written from the artifact and the run's results."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from behaviorlm.predictor.artifact import Artifact
from behaviorlm.predictor.rules import rule_in_words
from behaviorlm.scoring.config import Normalization
from behaviorlm.scoring.model_names import arm_of, split_model_name
from behaviorlm_ray.console.tables import interval_text, markdown
from behaviorlm_ray.evaluation.comparison import PRIMARY
from behaviorlm_ray.export.choice import Chosen, Told
from behaviorlm_ray.export.finished_run import FinishedRun
from behaviorlm_ray.preparation.few_shots import few_shots_in_words

SHOWN = (
    ("all", "accuracy"),
    *PRIMARY,
    ("all", "mrr"),
    ("all", "recall_at_5"),
    ("all", "expected_calibration_error"),
)
AMONG: dict[Normalization, str] = {
    "full": "a name's probability is one among all texts",
    "trie": "a name's probability is one among the names that may be answered, token by token",
}


def write_card(
    path: Path, artifact: Artifact, run: FinishedRun, chosen: Chosen, compared: Sequence[Told]
) -> None:
    """Write it. compared: what the run chose from; empty where the predictor was named."""
    text = "\n".join([*_metadata(artifact), "", *_text(artifact, run, chosen, compared)])
    path.write_text(text + "\n", encoding="utf-8")


def calibration_errors(artifact: Artifact) -> list[tuple[str, str, str]]:
    """Of each group, on the run's test part with intervals, before and after calibration; empty without any."""
    if artifact.uncalibrated is None:
        return []
    both = artifact.uncalibrated, artifact.metrics
    cells = {
        group: [_cell(found, group, "expected_calibration_error") for found in both]
        for group in ("all", "anchor", "tail")
    }
    return [(group, before, after) for group, (before, after) in cells.items()]


def _metadata(artifact: Artifact) -> Iterator[str]:
    weights = artifact.weights
    library = "peft" if weights is not None and weights.form == "adapter" else "transformers"
    about: dict[str, Any] = {
        "library_name": library if weights is not None else "behaviorlm",
        "tags": ["behaviorlm", "next-behavior-prediction", artifact.predictor.kind],
        "license": "other",
        "model-index": [
            {
                "name": artifact.origin.run,
                "results": [
                    {
                        "task": {"type": "next-behavior-prediction", "name": "Next behavior prediction"},
                        "dataset": {"type": "private", "name": artifact.origin.dataset},
                        "metrics": [
                            {"type": f"{group}_{metric}", "value": round(value, 4)}
                            for group, metric in SHOWN
                            if (value := _value(artifact.metrics, group, metric)) is not None
                        ],
                    }
                ],
            }
        ],
    }
    if weights is not None and "/" in weights.base.base:
        about["base_model"] = weights.base.base
    yield "---"
    yield yaml.safe_dump(about, sort_keys=False, allow_unicode=True).rstrip()
    yield "---"


def _text(artifact: Artifact, run: FinishedRun, chosen: Chosen, compared: Sequence[Told]) -> Iterator[str]:
    origin, counts = artifact.origin, run.log.counts
    anchors = int(artifact.is_anchor.sum())
    yield from (f"# {_plain(origin.run)}: what a user does next", "")
    yield (
        f"Predicts the next of {len(artifact.names)} behaviors ({anchors} anchors, the others tail), "
        f"given what a user did before. Kind: {artifact.predictor.kind} ({_plain(origin.predictor)}); decision rule: "
        f"{rule_in_words(artifact.decision)}."
    )
    if artifact.weights is not None:
        named = artifact.normalization
        yield f"The language model's label scores are normalized as `{named}`: {AMONG[named]}."
    yield from ("", "```python", "from behaviorlm.predictor.behavior_model import BehaviorModel", "")
    yield from (
        'model = BehaviorModel.load("this/folder")',
        "model.predict(history, context, at=now, k=5)",
        "```",
        "",
    )
    yield from ("## Data", "")
    yield (
        f"{_plain(origin.dataset)}: {counts.get('events', '?')} events of {counts.get('users', '?')} users; targets: "
        f"{counts.get('samples_train', '?')} training, {counts.get('samples_validation', '?')} validation, "
        f"{counts.get('samples_test', '?')} test. Fingerprint of the log: {origin.fingerprints.get('log', '?')[:16]}."
    )
    few = few_shots_in_words(run.log)
    if few is not None:
        yield from ("", f"Made with few shots: {few}.")
    yield from ("", "## Results on the test part", "", *_results(artifact, run), "")
    reason = run.results["recommended"].get("reason")
    recommended = f"Recommended by the run{f': {reason}' if reason else ''}. What it compared has"
    by = recommended if compared else "Named by whoever exported it, and compared with no other. It has"
    yield from (f"{by} this mean of anchor accuracy and tail macro recall on validation:", "")
    for one in compared or [chosen.told]:
        value = "nothing to choose by" if one.objective is None else f"{one.objective:.3f}"
        yield f"- {one.name}: {value} ({one.in_words})"
    yield from ("", "## How sure it is", "", *_sureness(artifact), "")
    yield from ("## Privacy and limits", "", *_limits(artifact), "")
    yield from ("## License and owner", "", *_license(artifact))


def _results(artifact: Artifact, run: FinishedRun) -> Iterator[str]:
    """A row for it, and one for each predictor by counting of the run."""
    rows = {f"**{_plain(artifact.origin.predictor)}, as exported**": artifact.metrics}
    arms = set(run.arms)
    rows |= {
        name: found
        for name, found in run.results["models"].items()
        if arm_of(split_model_name(name).predictor) not in arms
    }
    yield from markdown(
        ["predictor", *(f"{group} {metric}" for group, metric in SHOWN)],
        [[name, *(_cell(found, *of) for of in SHOWN)] for name, found in rows.items()],
    )
    samples = run.results["samples"]
    yield ""
    yield f"{samples['all']} samples of {samples['groups']} groups; 95 % intervals over groups."


def _sureness(artifact: Artifact) -> Iterator[str]:
    errors = calibration_errors(artifact)
    if not errors:
        yield "Probabilities are the predictor's own: validation has too few samples of a group to calibrate them."
    else:
        yield "Probabilities were calibrated on validation. Expected calibration error on the test part:"
        yield from ("", *markdown(("group", "before", "after"), errors))
    yield ""
    if not artifact.thresholds:
        yield "There were no validation samples to tell."
        return
    yield "`predict(min_probability=…)` abstains below a probability; on validation that gave:"
    yield from (
        "",
        "| min_probability | answered | right of these | among the first five |",
        "|---:|---:|---:|---:|",
    )
    for one in artifact.thresholds[::2]:
        cells = ["" if value is None else f"{value:.3f}" for value in (one.precision, one.recall_at_5)]
        yield f"| {one.min_probability:.2f} | {one.coverage:.3f} | {' | '.join(cells)} |"


def _limits(artifact: Artifact) -> Iterator[str]:
    yield "- Neither the log nor its column of users is in this folder; names of behaviors are."
    if artifact.counting is not None:
        counting = artifact.counting
        yield (
            f"- Counts of histories of two and more behaviors, and of any with their context, are kept from "
            f"{counting.minimum} events on: {counting.kept} pairs are here, {counting.dropped} rarer ones were dropped."
            " Events are counted, not users: what one user alone did so often is here, with its context."
        )
        if counting.habits is not None:
            yield (
                "- A user's habits are counted from the history that is handed over and kept nowhere, so hand over all "
                f"of it: what is likely of anybody counts as {counting.habits.of_user:g} events of it, frequencies in "
                f"it as {counting.habits.of_last:g} events that followed the last behavior."
            )
    if artifact.weights is not None:
        yield "- Weights can remember what they were tuned on; nothing here bounds how much."
    unseen = [behavior.name for behavior in artifact.behaviors if not behavior.count]
    if unseen:
        yield f"- Never seen in training: {', '.join(_plain(name) for name in unseen)}."
    found = artifact.verification
    if found is not None:
        yield (
            f"- Checked when it was exported: the scores of {found.samples} held-out samples equal the run's to "
            f"{found.largest_difference:.2g} nats ({found.dtype}; allowed {found.tolerance:g})."
        )


def _license(artifact: Artifact) -> Iterator[str]:
    if artifact.weights is not None:
        base = artifact.weights.base.base
        named = (
            base if "/" in base else f"in this folder, fingerprint {artifact.weights.base_fingerprint[:16]}"
        )
        yield f"- Base model: {named}. Its license binds this one, too; see there, and set `license` above."
    yield from ("- Owner: (fill in)", "- Intended use: (fill in)", "- Contact: (fill in)")


def _cell(found: Mapping[str, Any], group: str, metric: str) -> str:
    return interval_text(found.get(group, {}).get(metric) or {}, "")


def _value(found: Mapping[str, Any], group: str, metric: str) -> float | None:
    value: float | None = found.get(group, {}).get(metric, {}).get("value")
    return value


def _plain(text: str) -> str:
    """Text of a log or a config as it cannot be taken for Markdown, HTML or a line of its own."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", re.sub(r"\s+", " ", text))
