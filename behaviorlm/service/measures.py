"""What a service counts, in Prometheus' text. No label holds what a user sent."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from behaviorlm.predictor.prefix_store import PrefixUse  # with torch behind it

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class PrefixCollector(Collector):
    """What kept prefixes are good for, told by the model that answers; it begins anew with another model."""

    def __init__(self, use: "Callable[[], PrefixUse | None]") -> None:
        self._use = use

    def collect(self) -> Iterator[Metric]:
        """The measures as they are now; none where no prefix is kept."""
        use = self._use()
        if use is None:
            return
        histories = CounterMetricFamily(
            "behaviorlm_prefix_histories",
            "Histories with a user_key, by whether half of their tokens or more were kept",
            labels=["outcome"],
        )
        tokens = CounterMetricFamily(
            "behaviorlm_prefix_tokens",
            "Tokens of these histories, by whether they were kept",
            labels=["outcome"],
        )
        for family, found, missed in (
            (histories, use.hits, use.misses),
            (tokens, use.found, use.tokens - use.found),
        ):
            family.add_metric(["hit"], found)
            family.add_metric(["miss"], missed)
            yield family
        yield GaugeMetricFamily("behaviorlm_prefix_bytes", "Memory of kept prefixes", use.size)
        yield GaugeMetricFamily("behaviorlm_prefix_users", "Users of whom a prefix is kept", use.owners)


class Measures:
    """The measures of one service, in a registry of its own. use: of kept prefixes."""

    def __init__(self, use: "Callable[[], PrefixUse | None]") -> None:
        self.registry = registry = CollectorRegistry()
        registry.register(PrefixCollector(use))
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
