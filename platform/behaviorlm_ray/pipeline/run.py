"""A run, or one arm of it, as its stages are declared from it."""

from dataclasses import dataclass
from typing import Any

from behaviorlm.config import Settings
from behaviorlm_ray.pipeline.inputs import RunInputs
from behaviorlm_ray.pipeline.settings import RunSettings, with_changed_keys
from behaviorlm_ray.stages.run_record import RunRecord
from behaviorlm_ray.stages.runner import Runner
from behaviorlm_ray.storage import Location

MODEL = "model"
"""The folder of a tuned model in the output of its stage."""
NORMALIZATION = "normalization"
"""The key of `scoring_identity`."""

CHOSEN_DTYPE = "chosen_dtype"
"""The key of `model_identity`."""


@dataclass(frozen=True)
class Run:
    """Settings and inputs of a run. arm: the arm whose changed keys the settings have; empty for the run itself."""

    settings: RunSettings
    inputs: RunInputs
    arm: str = ""

    def for_arm(self, arm: str) -> "Run":
        """The run with the changed keys of an arm; it shares every stage that they do not touch."""
        values = self.settings.all_arms[arm].values
        if not values:
            return self
        return Run(with_changed_keys(self.settings, values, f"arms.{arm}.values"), self.inputs, arm)

    def runner(self, record: RunRecord | None = None) -> Runner:
        """What runs or plans its stages. record: where it is written which were asked for; None: nowhere."""
        return Runner(self.settings.storage.place, record)

    @property
    def output_folder(self) -> Location:
        """Where its report and results are written."""
        return self.settings.storage.place / self.settings.name

    @property
    def resolved(self) -> RunSettings:
        """The settings with which a stage loads the base: in the dtype that was chosen for the whole run."""
        dtype = self.inputs.precision.dtype
        return self.settings.model_copy(
            update={"model": self.settings.model.model_copy(update={"dtype": dtype})}
        )

    @property
    def model_identity(self) -> dict[str, Any]:
        """How the base is adapted; the base itself is named by its fingerprint, not by its path.

        Its dtype is the one asked for, and beside it the one chosen where `auto` is not that of the files: what was
        made when `auto` meant that keeps its identity.
        """
        asked, precision = plain(self.settings.model), self.inputs.precision
        found = {key: value for key, value in asked.items() if key not in ("base", "revision")}
        is_changed = asked["dtype"] == "auto" and precision.dtype != precision.stored
        return found | ({CHOSEN_DTYPE: precision.dtype} if is_changed else {})

    @property
    def scoring_identity(self) -> dict[str, Any]:
        """How label scores are normalized, where that is not the default: what was scored before keeps its identity."""
        normalization = self.settings.scoring.normalization
        return {} if normalization == "full" else {NORMALIZATION: normalization}

    @property
    def few_shot_identity(self) -> dict[str, Any]:
        """How few samples are used, where not all are: what had all, and what had all anchors, keeps its identity."""
        few = self.settings.few_shot
        told = {key: value for key, value in plain(few).items() if key != "share" or value < 1}
        return {} if few.uses_all else {"few_shot": told}

    @property
    def few_anchors_identity(self) -> dict[str, Any]:
        """The same of what is tuned on samples with an anchor target."""
        few = self.settings.few_shot
        return {} if few.share == 1 else {"few_shot": {"share": few.share, "seed": few.seed}}


def open_run(settings: RunSettings) -> Run:
    """The run of these settings; nothing is looked at yet."""
    return Run(settings, RunInputs(settings))


def plain(settings: Settings) -> dict[str, Any]:
    """Settings as JSON values, as they stand in identities."""
    return settings.model_dump(mode="json")
