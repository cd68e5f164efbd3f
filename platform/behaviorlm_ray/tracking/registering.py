"""The end of a tracked run: what it recommends is exported, and becomes a version of a model in the registry."""

from behaviorlm.errors import BehaviorLMError
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.export.exporting import ExportPlan, export
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.tracking.tracking import Tracking


def tell_results(run: Run, tracking: Tracking) -> None:
    """Tell a run's results, that are written, and register its predictor, if that is asked for and not done yet.

    What fails is said, and fails nothing.
    """
    tracking.results_written()
    if not tracking.wants_model:
        return
    name = run.settings.tracking.registered_model
    screen().says(f"tracking: what it recommends is exported, to be registered as {name}")
    target = tracking.place_for_export()
    try:
        export(ExportPlan(str(run.output_folder), str(target)))
    except BehaviorLMError as error:
        tracking.fails(f"no model was registered: {error}")
        return
    tracking.exported(target)
