"""Examples of requests in the words of the log that a model was tuned on, for the description of the API."""

from typing import Any

from behaviorlm.predictor.artifact import Artifact


def predict_examples(artifact: Artifact) -> dict[str, Any]:
    """One history, many, and what may be said of the answers."""
    history = [example_event(artifact, place) for place in range(2)]
    asked: dict[str, Any] = {"history": history, "at": _moment(artifact, 2)}
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
    event = {
        mapping.order.column: _moment(artifact, place),
        mapping.behavior: artifact.names[place % len(artifact.names)],
    }
    return event | dict.fromkeys([*mapping.context_before, *mapping.context_after], "somewhere")


def _moment(artifact: Artifact, place: int) -> str | int:
    order = artifact.events.order
    if order.kind == "integer":
        return place + 1
    if order.time_format is not None:
        from datetime import datetime

        return datetime(2024, 3, 1, 18, 5 + place).strftime(order.time_format)
    return f"2024-03-01T18:{5 + place:02d}:00Z"
