"""What a service counts, in Prometheus' text. No label holds what a user sent."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Measures:
    """The measures of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "behaviorlm_requests", "Requests by path and status", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "behaviorlm_request_seconds",
            "Seconds from a request to its answer",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self.refused = Counter(
            "behaviorlm_refused", "Requests beyond a limit, by its key", ["key"], registry=registry
        )
        self.predictions = Counter("behaviorlm_predictions", "Histories answered", registry=registry)
        self.abstentions = Counter(
            "behaviorlm_abstentions", "Answers below min_probability", registry=registry
        )
        self.batches = Histogram(
            "behaviorlm_batch_histories", "Histories of a batch", buckets=SIZES, registry=registry
        )
        self.queue = Gauge("behaviorlm_queue_histories", "Histories that wait", registry=registry)
        self.feedback = Counter("behaviorlm_feedback_events", "Events kept as feedback", registry=registry)
        self.openings = Counter(
            "behaviorlm_model_openings", "Models opened to be served", ["outcome"], registry=registry
        )
        self.model = Info("behaviorlm_model", "What is being served", registry=registry)
