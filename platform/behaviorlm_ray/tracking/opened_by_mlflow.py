"""What MLflow runs to open a registered predictor ("models from code"): it is copied beside it, and imports no Ray."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class RegisteredPredictor(PythonModel):
    """Answers as `BehaviorModel` does, a row for each row asked: history, and maybe context, at, earlier_events."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the folder that was exported. model_config: device, as `BehaviorModel.load` takes it."""
        from behaviorlm.predictor.behavior_model import BehaviorModel

        options = dict(context.model_config or {})
        self.model = BehaviorModel.load(context.artifacts["predictor"], **options)

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """params: k and min_probability."""
        from behaviorlm.predictor.requests import Request

        rows = model_input.to_dict("records")
        requests = [
            Request(
                list(row["history"]),
                _given(row, "context"),
                _given(row, "at"),
                int(_given(row, "earlier_events") or 0),
            )
            for row in rows
        ]
        answered = self.model.predict_many(requests, **(params or {}))
        keys = {"behavior", "id", "probability", "score", "group"}
        return pd.DataFrame(
            {
                # an object column: in one of text pandas makes NaN of None, which is what an abstention says
                "behavior": pd.Series([found.behavior for found in answered], dtype=object),
                "probability": [found.answers[0].probability for found in answered],
                "abstains": [found.abstains for found in answered],
                "answers": [
                    [one.model_dump(mode="json", include=keys) for one in of.answers] for of in answered
                ],
                "warnings": [list(found.warnings) for found in answered],
            }
        )


def _given(row: Mapping[Any, Any], name: str) -> Any:
    """A cell; None where it is empty, which pandas may say as NaN or NaT."""
    value = row.get(name)
    return None if value is None or (not isinstance(value, Mapping) and pd.isna(value)) else value


set_model(RegisteredPredictor())
