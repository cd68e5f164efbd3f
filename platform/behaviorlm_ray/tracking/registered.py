"""A predictor in MLflow's registry: the folder that `behaviorlm export` writes, opened by code and not by a pickle."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from behaviorlm.predictor.artifact import Artifact, read_artifact
from behaviorlm.service.examples import predict_examples
from behaviorlm_ray.tracking.tracked_run import TrackedRun

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

CODE = Path(__file__).with_name("opened_by_mlflow.py")
"""What MLflow keeps beside the folder, and runs to open it."""
NAME = "predictor"


def log_predictor(tracked: TrackedRun, folder: Path, name: str) -> None:
    """Log the folder as a model of the tracked run, and register it as a new version of `name`."""
    import mlflow
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    artifact, run_id = read_artifact(folder), tracked.record.run_id
    experiment = tracked.client.get_run(run_id).info.experiment_id
    with _address(tracked.record.mlflow):
        # Made here, for Model.log would put it into the experiment that is active in this process; and tied to its run
        # here, for Model.log would ask for every metric's history one by one, and fail where there are over a thousand.
        model = tracked.client.create_logged_model(experiment, name=NAME, source_run_id=run_id)
        tracked.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        Model.log(
            artifact_path=None,
            model_id=model.model_id,
            flavor=mlflow.pyfunc,
            registered_model_name=name,
            metadata={"behaviorlm": json.loads(artifact.origin.model_dump_json())},
            python_model=str(CODE),
            artifacts={NAME: str(folder)},
            model_config={"device": None},
            signature=signature_of(artifact),
            input_example=[example_of(artifact)],
            pip_requirements=[f"behaviorlm=={metadata.version('behaviorlm')}"],
        )


def example_of(artifact: Artifact) -> dict[str, Any]:
    """A row that may be asked: made up, with the columns of the log."""
    return {key: value for key, value in predict_examples(artifact)["one"]["value"].items() if key != "k"}


def signature_of(artifact: Artifact) -> "ModelSignature":
    """What a row holds, and what an answer. What may be missing is of any type: pandas makes numbers of
    integers with gaps, and times and context may be anything that `BehaviorModel` takes."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType, Array, Object, Property

    events = artifact.events
    others = sorted(set(example_of(artifact)["history"][0]) - {events.behavior})
    event = [
        Property(events.behavior, DataType.string),
        *(Property(name, AnyType(), required=False) for name in others),
    ]
    answer = [
        Property("behavior", DataType.string),
        Property("id", DataType.long, required=False),
        Property("probability", DataType.double),
        Property("score", DataType.double),
        Property("group", DataType.string, required=False),
    ]
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(Array(Object(event)), "history"),
                ColSpec(AnyType(), "context", required=False),
                ColSpec(AnyType(), "at", required=False),
                ColSpec(AnyType(), "earlier_events", required=False),
            ]
        ),
        outputs=Schema(
            [
                ColSpec(DataType.string, "behavior", required=False),
                ColSpec(DataType.double, "probability"),
                ColSpec(DataType.boolean, "abstains"),
                ColSpec(Array(Object(answer)), "answers"),
                ColSpec(Array(DataType.string), "warnings"),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("k", DataType.long, 5),
                ParamSpec("min_probability", DataType.double, 0.0),
            ]
        ),
    )


@contextmanager
def _address(uri: str) -> Iterator[None]:
    """MLflow's own address within the block: logging a model takes no other."""
    import mlflow

    tracking = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    registry = mlflow.get_registry_uri() if tracking is not None else None
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(tracking)
        mlflow.set_registry_uri(registry)
