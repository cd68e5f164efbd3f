"""A service's state: the model that answers, its queue, what is kept and counted; how another model takes over."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from starlette.concurrency import run_in_threadpool

from behaviorlm.errors import BehaviorLMError
from behaviorlm.log_files.config import source_columns
from behaviorlm.predictor.answers import Prediction
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.service.batching import Batcher, QueueFullError
from behaviorlm.service.bodies import PredictBody, ServedBehavior, ServedModel, ServedOrder
from behaviorlm.service.feedback import FeedbackLog, checked_rows
from behaviorlm.service.guard import problem
from behaviorlm.service.measures import Measures
from behaviorlm.service.settings import ServeSettings

log = logging.getLogger("behaviorlm.service")


def open_model(settings: ServeSettings) -> BehaviorModel:
    """The model that the settings name, after a prediction without a history: what cannot predict is not served.

    Raises what `BehaviorModel.load` raises.
    """
    model = BehaviorModel.load(
        settings.model,
        revision=settings.revision,
        device=settings.device,
        prefix_bytes=settings.prefix_cache.bytes,
    )
    model.predict()
    return model


class Service:
    """One app's state. Belongs to the event loop between `start` and `close`."""

    def __init__(self, settings: ServeSettings, opening: Callable[[], BehaviorModel]) -> None:
        self.settings, self._opening = settings, opening
        self.measures = Measures(lambda: self.model.prefix_use)
        self.feedback = FeedbackLog(settings.feedback) if settings.feedback.folder is not None else None
        self._use(opening())
        self._swapping = asyncio.Lock()

    def start(self) -> None:
        """Begin to answer."""
        self.batcher = Batcher(self.settings.batch, self.settings.limits.queue, self.measures)
        self.batcher.start()

    async def close(self) -> None:
        """Answer what waits, then end."""
        await self.batcher.close()

    def check_ready(self) -> None:
        """Raise HTTPException where nothing would be answered any more."""
        if not self.batcher.is_ready:
            raise problem(503, "the service is about to end", None, {"Retry-After": "1"})

    async def predict(self, body: PredictBody, tenant: str | None) -> tuple[str, list[Prediction]]:
        """The fingerprint of the model that answers, and its answers. Raises HTTPException and DataError.

        tenant: None where nothing may be kept of what is asked.
        """
        self._check_limits(body)
        self.check_ready()
        model = self.model
        try:
            predictions = await self.batcher.ask(
                model, [each.request(tenant) for each in body.asked], body.choices()
            )
        except QueueFullError:
            self.measures.refused.labels("limits.queue").inc()
            raise problem(
                429,
                f"{self.settings.limits.queue} histories wait already (limits.queue); try again",
                "limits.queue",
                {"Retry-After": "1"},
            ) from None
        self.measures.predictions.inc(len(predictions))
        self.measures.abstentions.inc(sum(found.abstains for found in predictions))
        return model.artifact.fingerprint, predictions

    async def keep(self, events: list[dict[str, object]]) -> list[str]:
        """Append what came next to the log of feedback. Returns warnings.

        Raises HTTPException, DataError and StorageError.
        """
        kept = self.feedback
        if kept is None:
            raise problem(
                404, "this service keeps no feedback; feedback.folder turns it on", "feedback.folder"
            )
        self._check("feedback.events", len(events), self.settings.feedback.events, "events")
        rows, warnings = await run_in_threadpool(checked_rows, self.model, events)
        await run_in_threadpool(kept.append, rows)
        self.measures.feedback.inc(len(rows))
        return warnings

    async def open_again(self) -> bool:
        """Open what the settings name once more and let it answer what comes from now on; whether that went well.

        What came before is answered by the model that it came to. Until the new one is there, and if it never is, the
        old one answers.
        """
        async with self._swapping:
            try:
                model = await run_in_threadpool(self._opening)
            # A damaged folder surfaces as many things; none of them may end the service.
            except Exception as error:
                self.measures.openings.labels("failed").inc()
                told = str(error) if isinstance(error, BehaviorLMError) else type(error).__name__
                log.error("the model could not be opened, so the one before goes on: %s", told)
                return False
            self._use(model)
        return True

    def describe(self) -> ServedModel:
        """What is being served."""
        artifact, limits = self.model.artifact, self.settings.limits
        mapping = artifact.events
        orders = {column.role for column in mapping.order.columns}
        return ServedModel(
            fingerprint=artifact.fingerprint,
            name=artifact.origin.predictor,
            run=artifact.origin.run,
            dataset=artifact.origin.dataset,
            created=artifact.origin.created,
            opened=self.opened.isoformat(timespec="seconds"),
            kind=artifact.predictor.kind,
            rule=artifact.decision.kind,
            behaviors=[
                ServedBehavior(name=behavior.name, id=place, group=behavior.group, count=behavior.count)
                for place, behavior in enumerate(artifact.behaviors)
            ],
            columns={role: name for role, name in source_columns(mapping).items() if role not in orders},
            context=mapping.context_before,
            clock=list(mapping.clock),
            order=[
                ServedOrder(column=column.name, kind=column.kind, time_format=column.time_format)
                for column in mapping.order.columns
            ],
            max_events=artifact.prompt.max_events,
            wants_whole_history=artifact.wants_whole_history,
            limits=limits.model_dump(include={"body_bytes", "histories", "events", "k", "new_names"}),
            takes_feedback=self.feedback is not None,
        )

    def _use(self, model: BehaviorModel) -> None:
        self.model, self.opened = model, datetime.now(UTC)
        origin = model.artifact.origin
        self.measures.model.info(
            {"fingerprint": model.artifact.fingerprint, "run": origin.run, "name": origin.predictor}
        )
        self.measures.openings.labels("opened").inc()
        log.info(
            "%s of run %s answers, fingerprint %s", origin.predictor, origin.run, model.artifact.fingerprint
        )

    def _check_limits(self, body: PredictBody) -> None:
        limits = self.settings.limits
        self._check("limits.histories", len(body.asked), limits.histories, "histories")
        longest = max((len(each.history or []) for each in body.asked), default=0)
        self._check("limits.events", longest, limits.events, "events of one history")
        self._check("limits.k", body.k, limits.k, "answers (k)")
        self._check("limits.new_names", len(body.new_names), limits.new_names, "new_names")

    def _check(self, key: str, number: int, limit: int, what: str) -> None:
        if number > limit:
            self.measures.refused.labels(key).inc()
            raise problem(422, f"a request may have {limit} {what} ({key}), not {number}", key)
