"""What a finished run hands over: results.json, details.json, the resolved configuration and the report."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml

from behaviorlm.baselines import BASELINES
from behaviorlm.events.summary import doubts, summary
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.opponents.names import OPPONENTS
from behaviorlm.scoring.model_names import (
    ADJUSTED,
    BAYES,
    COUNTS,
    FITTED,
    PER_TOKEN,
    PMI,
    arm_of,
    split_model_name,
)
from behaviorlm_ray import storage
from behaviorlm_ray.endpoints.settings import EndpointSettings
from behaviorlm_ray.evaluation.samples import WITHOUT_VALIDATION
from behaviorlm_ray.pipeline.arms import ArmSettings
from behaviorlm_ray.pipeline.conversation_checks import left_out_by_all
from behaviorlm_ray.pipeline.evaluate import DETAILS, PREDICTIONS, RESULTS, evaluate
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.select import SUMMARY
from behaviorlm_ray.preparation.prepared_log import PreparedLog, gather, group_count
from behaviorlm_ray.report.content import ReportData
from behaviorlm_ray.report.example import example_lines
from behaviorlm_ray.report.page import render_report
from behaviorlm_ray.report.results_table import short_table
from behaviorlm_ray.report.run_files import REPORT, REPORT_DATA
from behaviorlm_ray.report.tensorboard import write_tensorboard
from behaviorlm_ray.report.verdict import verdict
from behaviorlm_ray.scoring.retention import CLOZE
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.stages.runner import Runner
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning.worker import CURVE

SERVED_COUNTING = (
    "back-off over the last three behaviors and the context, as it is exported: without rare histories"
)
CONFIG = "config.yaml"
"""The resolved configuration of a run, which repeats it."""


@dataclass(frozen=True)
class WrittenReport:
    """Where a report is, and what is said of it in lines: of a run the verdict, the main table, an example in words."""

    place: Location
    lines: list[str]


def write_results(run: Run, runner: Runner) -> WrittenReport:
    """Write the folder of the run. Runs what has not run."""
    settings, folder = run.settings, run.output_folder
    evaluated = runner.run(evaluate(run))
    data = report_data(run, runner)
    resolved = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    for name in (RESULTS, DETAILS):
        storage.write_replacing(folder / name, storage.read_text(evaluated.folder / name).encode())
    with storage.writing_file(folder / PREDICTIONS) as path:
        shutil.copyfile(storage.local_copy(evaluated.folder / PREDICTIONS), path)
    storage.write_replacing(folder / CONFIG, resolved.encode())
    storage.write_replacing(folder / REPORT_DATA, data.model_dump_json().encode())
    storage.write_replacing(folder / REPORT, render_report(data).encode())
    storage.remove_folder(folder / "tensorboard")
    with storage.writing(folder / "tensorboard") as curves, storage.storage_errors(str(folder), "write"):
        write_tensorboard(_curves(runner.named(evaluate(run))), curves)
    results = _read_json(evaluated.folder / RESULTS)
    notes = [*data.warnings, *([] if settings.auxiliary else left_out_by_all([]))]
    told = [f"note: {note}" for note in notes if WITHOUT_VALIDATION not in note]  # which the verdict says
    lines = [
        "",
        *verdict(results, data.objectives),
        *told,
        "",
        *short_table(results),
        "",
        *example_lines(run, runner),
        "",
    ]
    # .../stages/<stage>-<fingerprint>/attempts/<attempt>
    reached = [output.folder.parents[1].name for output in runner.outputs.values()]
    RunRecord(folder).finished_with(reached)
    return WrittenReport(folder / REPORT, lines)


def report_data(run: Run, runner: Runner) -> ReportData:
    """Everything the report shows, collected from the outputs of the stages."""
    settings = run.settings
    evaluated = runner.run(evaluate(run))
    outputs = runner.named(evaluate(run))
    log = open_log(runner.run(prepare(run)), settings)
    results = _read_json(evaluated.folder / RESULTS)
    details = _read_json(evaluated.folder / DETAILS)
    results["retention"] = shown_retention(results["retention"])
    warnings = {name: warnings_of(output, log) for name, output in outputs.items()}
    notes = {
        name: model_note(name, details["tau"], settings.all_arms, settings.evaluation.endpoints)
        for name in results["models"]
    }
    return ReportData.model_validate(
        {
            "title": f"behaviorlm: {settings.name}",
            "run": settings.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "warnings": [f"{name}: {text}" for name, texts in warnings.items() for text in texts],
            "synthetic": settings.evaluation.truth is not None,
            "dataset": _dataset(settings.events, log),
            "results": results,
            "models": notes,
            "comparisons": details["comparisons"],
            "fronts": {name: report_front(found) for name, found in details["fronts"].items()},
            "truth_front": truth_front(details["truth"]),
            "loss_curves": _curves(outputs),
            "selection": _selection(outputs.get("select"), log, settings.difficulty.measure),
            "behaviors": details["per_behavior"],
            "reliability": details["reliability"],
            "breakdowns": details["breakdowns"],
            "objectives": details["validation"],
            "fingerprints": {
                "log": run.inputs.log,
                "vocabulary": hashlib.sha256(log.vocabulary.to_json().encode()).hexdigest(),
                "test samples": details["breakdowns"]["test_samples"],
            },
            "stages": [_stage_row(name, output, warnings[name]) for name, output in outputs.items()],
            "configuration": settings.model_dump(mode="json"),
            "commands": [f"behaviorlm run --config {run.output_folder / CONFIG}"],
        }
    )


def report_front(found: dict[str, Any]) -> dict[str, Any]:
    """What the report draws of `adjustment_front`: the points in expectation where the truth is known."""
    points = [point["expected"] or point for point in found["points"]]
    return {
        **{name: [point[name] for point in points] for name in ("anchor_accuracy", "tail_macro_recall")},
        "tau": [point["tau"] for point in found["points"]],
        "area": found["area"],
        "expected_area": found["expected_area"],
    }


def truth_front(truth: dict[str, Any] | None) -> dict[str, Any] | None:
    """The frontier of the endpoint, expected under the truth."""
    if truth is None:
        return None
    found = truth["frontier"]["endpoint"]
    ends = {name: found[f"expected_{name}"] for name in ("anchor_accuracy", "tail_macro_recall")}
    return ends | {"area": found["area"], "expected_area": found["expected_area"]}


def shown_retention(
    retention: Mapping[str, dict[str, dict[str, float]]],
) -> dict[str, dict[str, dict[str, float]]]:
    """What the report shows of retention, {model: {measure: {"value"}}}; nothing where nothing was measured."""
    return {model: found for model, sources in retention.items() if (found := _retention(sources))}


def _retention(sources: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of one model: {measure: {"value"}}."""
    losses = {f"{source} loss": found["loss"] for source, found in sources.items() if source != CLOZE}
    answers = {f"{CLOZE} {name}": value for name, value in sources.get(CLOZE, {}).items()}
    return {name: {"value": value} for name, value in (losses | answers).items()}


def model_note(
    name: str,
    tau: Mapping[str, float],
    arms: Mapping[str, ArmSettings],
    endpoints: Mapping[str, EndpointSettings] = MappingProxyType({}),
) -> dict[str, str]:
    """Kind and description of a model, with its rule."""
    predictor, rule = split_model_name(name)
    arm = arm_of(predictor)
    if arm in arms:
        kind = "untuned" if arms[arm].tuning == "untuned" else "tuned"
        description = arms[arm].description or ", ".join(
            f"{key}: {value}" for key, value in arms[arm].values.items()
        )
        description += ", mixed with counting" if arm != predictor else ""
    elif predictor in OPPONENTS:
        kind, description = "opponent", f"{OPPONENTS[predictor]}; measured, not exported"
    elif predictor in endpoints:
        kind, description = "opponent", endpoints[predictor].description
    else:
        kind = "baseline"
        description = SERVED_COUNTING if predictor == COUNTS else BASELINES[predictor].description
    rules = {
        ADJUSTED: f", with logit adjustment (tau {tau.get(predictor, 0):g}, chosen on validation)",
        BAYES: ", decided by the Bayes rule of the endpoint",
        FITTED: ", decided by three numbers fitted on validation",
        PMI: ", minus the score without history",
        PER_TOKEN: ", as the mean per label token",
    }
    return {"kind": kind, "description": description + rules.get(rule, "")}


def _dataset(events: EventsConfig, log: PreparedLog) -> dict[str, Any]:
    """The whole log, not only what was evaluated."""
    counts = log.counts
    targets = [np.flatnonzero(part.is_target) for part in log.parts]
    return {
        "name": events.dataset,
        **{key: counts.get(key) for key in ("rows", "users", "behaviors", "anchors", "tail")},
        "groups": group_count(log, targets),
        "samples_per_split": {
            split: counts.get(f"samples_{split}", 0) for split in ("train", "validation", "test")
        },
        "quarantined": counts["quarantined"],
        "repeat_rate": float(gather(log, targets, "is_repeat").mean()),
        "as_read": summary(log.facts.naming_nobody(), events),
    }


def _selection(output: StageOutput | None, log: PreparedLog, measure: str) -> dict[str, Any] | None:
    if output is None:
        return None
    found = _read_json(output.folder / SUMMARY)
    vocabulary = log.vocabulary
    is_anchor = dict(zip(vocabulary.names, vocabulary.is_anchor.tolist(), strict=True))
    behaviors = [
        {"behavior": name, "is_anchor": is_anchor[name], **values}
        for name, values in found["behaviors"].items()
    ]
    rest = {key: found[key] for key in ("requested", "selected", "shortfall", "outside_band")}
    return {"behaviors": behaviors, "difficulty": measure, **rest}


def warnings_of(output: StageOutput, log: PreparedLog) -> list[str]:
    """Those of a stage; a report is handed on, so that users are not named in it."""
    unnamed = dict(zip(doubts(log.facts), doubts(log.facts.naming_nobody()), strict=True))
    return [unnamed.get(text, text) for text in output.manifest.warnings]


def _stage_row(name: str, output: StageOutput, warnings: list[str]) -> dict[str, Any]:
    manifest = output.manifest
    return {
        "stage": name,
        "fingerprint": manifest.fingerprint,
        "reused": output.reused,
        "seconds": manifest.duration_seconds,
        "tokens": int(manifest.cost["tokens"]) if "tokens" in manifest.cost else None,
        "rows": None if manifest.main_count is None else manifest.main_count[1],
        "warnings": warnings,
    }


def _curves(outputs: Mapping[str, StageOutput]) -> dict[str, list[dict[str, Any]]]:
    """The loss curve of every tuned model by its stage."""
    return {
        name: [json.loads(line) for line in storage.read_text(output.folder / CURVE).splitlines()]
        for name, output in outputs.items()
        if CURVE in output.manifest.files
    }


def _read_json(place: Location) -> dict[str, Any]:
    return json.loads(storage.read_text(place))
