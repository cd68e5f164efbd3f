"""A finished run, opened from its folder alone: the log and the conversations that it read may be gone.

Its stages are found by content: each manifest holds the hashes of what the stage was made from.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from behaviorlm.config import parse_yaml, validate_settings
from behaviorlm.errors import ConfigError, StorageError
from behaviorlm.model.base_model import weights_dtype
from behaviorlm.model.config import ModelConfig
from behaviorlm.scoring.config import Normalization
from behaviorlm_ray import storage
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.evaluation.samples import EvaluatedSamples, SampleFacts, sample_facts
from behaviorlm_ray.export.run_folder import CONFIG_FILE, read_run_folder
from behaviorlm_ray.pipeline.evaluate import (
    DETAILS,
    RESULTS,
    TRAINED_ON,
    arm_scores,
    loss_of,
    training_mix,
)
from behaviorlm_ray.pipeline.evaluate import VERSION as EVALUATE_VERSION
from behaviorlm_ray.pipeline.predict import SCORES, evaluated_samples, normalization_of
from behaviorlm_ray.pipeline.predict import VERSION as PREDICT_VERSION
from behaviorlm_ray.pipeline.prepare import open_log
from behaviorlm_ray.pipeline.run import CHOSEN_DTYPE
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from behaviorlm_ray.stages.finding import StageOutput, output_in
from behaviorlm_ray.stages.manifests import read_manifest
from behaviorlm_ray.stages.run_record import read_asked
from behaviorlm_ray.storage import Location


@dataclass(frozen=True)
class FinishedRun:
    """A run with results. evaluated: its comparison; by_content: all its stages' outputs by their content's hash."""

    folder: Location
    settings: RunSettings
    evaluated: StageOutput
    by_content: dict[str, StageOutput]

    @cached_property
    def results(self) -> dict[str, Any]:
        """results.json."""
        return json.loads(storage.read_text(self.evaluated.folder / RESULTS))

    @cached_property
    def details(self) -> dict[str, Any]:
        """details.json."""
        return json.loads(storage.read_text(self.evaluated.folder / DETAILS))

    @property
    def arms(self) -> list[str]:
        """Models that the run compared, in its order."""
        return list(self.settings.evaluation.arms)

    @cached_property
    def prepared(self) -> StageOutput:
        """The preparation. Raises StorageError where it is gone or damaged."""
        return self._made_of(self.evaluated, "prepared")

    @cached_property
    def log(self) -> PreparedLog:
        """The prepared log."""
        return open_log(self.prepared, self.settings)

    @cached_property
    def samples(self) -> EvaluatedSamples:
        """What its models were measured on."""
        return evaluated_samples(self.log, self.settings)

    @cached_property
    def facts(self) -> SampleFacts:
        """What is known of those samples."""
        return sample_facts(self.log, self.samples)

    def scores(self, arm: str) -> ArmScores:
        """The label scores of an arm. Raises StorageError where they are gone."""
        found = arm_scores(self._predicted(arm), self.log, self.samples)
        counts = self.details[TRAINED_ON][arm]
        return replace(found, mix=training_mix(self.settings, arm, counts))

    def score_folder(self, arm: str) -> Location:
        """Where the label scores of an arm lie. Raises StorageError where they are gone."""
        return self._predicted(arm).folder / SCORES

    def normalization(self, arm: str) -> Normalization:
        """How the label scores of an arm are normalized. Raises StorageError where they are gone."""
        return normalization_of(self._predicted(arm))

    def temperature(self, arm: str) -> float:
        """What logits are divided by in the label scores of an arm."""
        tuned = self.settings.all_arms[arm].tuning != "untuned"
        return loss_of(self.settings, arm).temperature if tuned else 1.0

    def model(self, arm: str) -> StageOutput | None:
        """The stage that tuned the model of an arm; None: the base. Raises StorageError where it is gone."""
        predicted = self._predicted(arm)
        return self._made_of(predicted, "model") if "model" in predicted.manifest.inputs else None

    def trained_on(self, arm: str) -> dict[str, int]:
        """Samples of each behavior that the model of an arm was last tuned on; empty for an untuned one."""
        counts = self.details[TRAINED_ON][arm]
        return {} if counts is None else dict(zip(self.log.vocabulary.names, counts, strict=True))

    def base(self, arm: str, place: str | None) -> ModelConfig:
        """The base model of an arm, in the dtype that the run loaded it in; place: where it lies now, if it has moved.

        Raises ModelError where the base is gone, StorageError where the arm's scores are.
        """
        moved = {} if place is None else {"base": place, "revision": None}
        config = self.settings.model.model_copy(update=moved)
        if config.dtype != "auto":
            return config
        chosen = self._predicted(arm).manifest.config["model"].get(CHOSEN_DTYPE)
        dtype = chosen or str(weights_dtype(config)).removeprefix("torch.")
        return config.model_copy(update={"dtype": dtype})

    def _predicted(self, arm: str) -> StageOutput:
        return _of_this_version(self._made_of(self.evaluated, arm), PREDICT_VERSION, self.folder)

    def _made_of(self, output: StageOutput, name: str) -> StageOutput:
        content = output.manifest.inputs[name]
        if content not in self.by_content:
            raise StorageError(
                f"{self.folder}: what {output.manifest.stage} was made from ({name}) is no longer below "
                f"{self.folder.parent / 'stages'}; `behaviorlm run --config {self.folder / CONFIG_FILE}` makes it again"
            )
        found = self.by_content[content]
        problems = storage.damaged_files(found.folder, found.manifest.digests)
        if problems:
            raise StorageError(f"{found.folder}: {problems[0]}; run the same command again to repair it")
        return found


def open_finished(text: str) -> FinishedRun:
    """The run in a folder, local or on S3. Raises ConfigError where there is none that has finished."""
    found = read_run_folder(text)
    folder, source = found.place, str(found.place / CONFIG_FILE)
    settings = validate_settings(RunSettings, parse_yaml(found.config, source).values, source)
    root = folder.parent / "stages"
    names = read_asked(folder).finished or storage.list_folders(root)
    outputs = [output for name in names if (output := _output(root / name)) is not None]
    digest = hashlib.sha256(found.results).hexdigest()
    evaluated = next(
        (
            output
            for output in outputs
            if output.manifest.stage == "evaluate" and output.manifest.files[RESULTS].sha256 == digest
        ),
        None,
    )
    if evaluated is None:
        raise ConfigError(
            f"{folder}: no stage below {root} made its {RESULTS}, so the run was moved without its stages or has not "
            f"finished again; `behaviorlm run --config {folder / CONFIG_FILE}` finishes it"
        )
    _of_this_version(evaluated, EVALUATE_VERSION, folder)
    return FinishedRun(folder, settings, evaluated, {one.manifest.content_hash: one for one in outputs})


def _of_this_version(output: StageOutput, version: int, run: Location) -> StageOutput:
    if output.manifest.version != version:
        raise ConfigError(
            f"{output.folder} is of another version of behaviorlm (stage version {output.manifest.version}, not "
            f"{version}); `behaviorlm run --config {run / CONFIG_FILE}` mends that"
        )
    return output


def _output(folder: Location) -> StageOutput | None:
    if storage.read_bytes(folder / "manifest.json") is None:
        return None
    manifest = read_manifest(folder)
    return output_in(folder / "attempts" / manifest.attempt, manifest, reused=True)
