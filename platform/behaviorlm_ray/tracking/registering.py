"""The end of a tracked run: what validation prefers is exported, and becomes a version of a model in the registry."""

import tempfile
from pathlib import Path

from behaviorlm.errors import BehaviorLMError
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.export.exporting import ExportPlan, export
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.tracking.tracking import Tracking


def register(run: Run, tracking: Tracking) -> None:
    """Export and register, if that is asked for and not done yet. What fails is said, and fails nothing."""
    if not tracking.wants_model:
        return
    name = run.settings.tracking.registered_model
    screen().says(f"tracking: what validation prefers is exported, to be registered as {name}")
    with tempfile.TemporaryDirectory(prefix="behaviorlm-") as folder:
        target = Path(folder) / "predictor"
        try:
            export(ExportPlan(str(run.output_folder), str(target)))
        except BehaviorLMError as error:
            tracking.fails(f"no model was registered: {error}")
            return
        tracking.exported(target)
