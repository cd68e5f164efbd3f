"""Examples of requests in the words of the log that a model was tuned on, for the description of the API."""

from datetime import UTC, datetime
from typing import Any

from behaviorlm.predictor.artifact import Artifact
from behaviorlm.times.order import ISO_FORMAT, OrderColumn
from behaviorlm.times.time_patterns import written_by


def predict_examples(artifact: Artifact) -> dict[str, Any]:
    """One history, many, and what may be said of the answers."""
    history = [example_event(artifact, place) for place in range(2)]
    asked: dict[str, Any] = {"history": history, "at": _moment(artifact.events.order.columns[0], 2)}
    if artifact.events.context_before:
        asked["context"] = dict.fromkeys(artifact.events.context_before, "somewhere")
    first, last = artifact.names[0], artifact.names[-1]
    return {
        "one": {"summary": "One history", "value": {**asked, "k": 3}},
        "many": {
            "summary": "Many; the second one knows nothing",
            "value": {"requests": [asked, {"history": []}]},
        },
        "chosen": {
            "summary": "Of some behaviors only, sure enough or none, and why",
            "value": {**asked, "allow": [first, last], "min_probability": 0.6, "explain": True},
        },
    }


def feedback_examples(artifact: Artifact) -> dict[str, Any]:
    """What came next."""
    event = {artifact.events.user: "user 1", **example_event(artifact, 2)}
    return {"one": {"summary": "One event", "value": {"events": [event]}}}


def example_event(artifact: Artifact, place: int) -> dict[str, Any]:
    """An event of a made history."""
    mapping = artifact.events
    event: dict[str, Any] = {column.name: _moment(column, place) for column in mapping.order.columns}
    event[mapping.behavior] = artifact.names[place % len(artifact.names)]
    if mapping.session is not None:
        event[mapping.session] = "session 1"
    return event | dict.fromkeys([*mapping.context_before, *mapping.context_after], "somewhere")


def _moment(column: OrderColumn, place: int) -> str | int:
    if column.kind == "integer":
        return place + 1
    moment = datetime(2024, 3, 1, 18, 5 + place, tzinfo=UTC)
    if column.kind == "duration":
        return moment.strftime("%H:%M" if column.time_format else "%H:%M:%S")
    if column.time_format in (None, ISO_FORMAT):
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return written_by(moment, str(column.time_format))
