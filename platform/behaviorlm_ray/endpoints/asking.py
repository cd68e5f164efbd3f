"""Samples asked of a chat model behind an endpoint: each question once, a few at a time, up to a cap on the cost."""

import math
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

from behaviorlm.errors import ModelError
from behaviorlm_ray.console.progress_lines import ProgressLines
from behaviorlm_ray.endpoints.kept_answers import keep_answer, kept_answer, key_of_answer
from behaviorlm_ray.endpoints.prompts import Message
from behaviorlm_ray.endpoints.requests import Answered, Endpoint
from behaviorlm_ray.endpoints.settings import EndpointSettings
from behaviorlm_ray.endpoints.spending import (
    CapReached,
    Cost,
    Spending,
    cost_of,
    largest_cost,
    told_cost,
)
from behaviorlm_ray.storage import Location

READERS = 16
"""Kept answers that are read at a time."""


@dataclass(frozen=True)
class Asked:
    """Answers in the order of the chats. questions: different ones; kept: those that were answered before; requests:
    sent now; spent: what all answers cost, whenever they were paid for; lost: what may have been paid for in vain now.
    """

    answers: list[Answered]
    questions: int
    kept: int
    requests: int
    spent: Cost
    lost: Cost


def ask_all(
    name: str, endpoint: Endpoint, chats: Sequence[list[Message]], root: Location, group_of: Sequence[str]
) -> Asked:
    """Ask each different chat once and keep each answer as it comes.

    name: of the endpoint in the configuration. root: of the runs, where answers are kept. group_of: what each chat is a
    sample of, in words. Raises ModelError where the endpoint does not answer, or the next request might pass the cap,
    and says then what is missing: nothing is made of some of the answers.
    """
    settings, spending = endpoint.settings, Spending(endpoint.settings)
    bodies = [endpoint.body(chat) for chat in chats]
    keys = [key_of_answer(settings.url, body) for body in bodies]
    body_of = dict(zip(keys, bodies, strict=True))
    found = _kept(root, list(body_of))
    for key, answered in found.items():
        spending.pay(key, told_cost(settings, answered, largest_cost(settings, body_of[key]["messages"])))
    kept = len(found)
    progress = ProgressLines(f"asking {name}", len(body_of), "questions")
    progress.add(kept)
    missing = {key: body for key, body in body_of.items() if key not in found}
    try:
        _ask(endpoint, spending, missing, root, found, progress)
    except CapReached:
        raise ModelError(_cap_reached(name, settings, keys, found, group_of, spending)) from None
    return Asked(
        [found[key] for key in keys], len(body_of), kept, endpoint.requests, spending.spent, spending.lost
    )


def _kept(root: Location, keys: Sequence[str]) -> dict[str, Answered]:
    with ThreadPoolExecutor(READERS) as readers:
        found = zip(keys, readers.map(kept_answer, repeat(root), keys), strict=False)
        return {key: answered for key, answered in found if answered is not None}


def _ask(
    endpoint: Endpoint,
    spending: Spending,
    missing: Mapping[str, dict[str, Any]],
    root: Location,
    found: dict[str, Answered],
    progress: ProgressLines,
) -> None:
    """Into `found`, so many at a time. Raises the first error once all that are under way have ended."""
    stopped, lock = threading.Event(), threading.Lock()

    def ask(key: str, body: dict[str, Any]) -> None:
        if stopped.is_set():
            return
        try:
            answered = _one(endpoint, spending, key, body)
            keep_answer(root, key, answered)
        except BaseException:
            stopped.set()
            raise
        with lock:
            found[key] = answered
            progress.add(1)

    with ThreadPoolExecutor(endpoint.settings.concurrency) as pool:
        futures: list[Future[None]] = [pool.submit(ask, key, body) for key, body in missing.items()]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
    errors = [error for of in futures if not of.cancelled() and (error := of.exception()) is not None]
    if errors:
        raise min(errors, key=lambda error: isinstance(error, CapReached))  # what else is wrong is told first


def _one(endpoint: Endpoint, spending: Spending, key: str, body: dict[str, Any]) -> Answered:
    settings = endpoint.settings
    largest = largest_cost(settings, body["messages"])
    spending.put_aside(key, largest)
    try:
        answered = endpoint.ask(body, lambda: spending.lose(key, largest))
        if settings.answer == "logprobs" and not answered.steps:
            raise ModelError(
                f"{settings.url} tells no log probabilities of the tokens of {settings.model!r}; set answer: ranking"
            )
        cost = told_cost(settings, answered, largest)
        spending.pay(key, cost)
        return replace(answered, prompt_tokens=cost.prompt, answer_tokens=cost.answer)
    finally:
        spending.take_back(key)


def _cap_reached(
    name: str,
    settings: EndpointSettings,
    keys: Sequence[str],
    found: Mapping[str, Answered],
    group_of: Sequence[str],
    spending: Spending,
) -> str:
    told = []
    for group in dict.fromkeys(group_of):
        members = [key in found for key, of in zip(keys, group_of, strict=True) if of == group]
        told.append(f"{sum(members)} of {len(members)} {group} samples")
    spent = spending.spent + spending.lost
    share = len(found) / max(len(set(keys)), 1)
    whole = (
        cost_of(settings, math.ceil(spent.prompt / share), math.ceil(spent.answer / share)) if share else None
    )
    where = f"evaluation.endpoints.{name}"
    guess = "" if whole is None else f" All of them may take {_in_words(settings, whole)}."
    return (
        f"{where}: the next request might pass its cap (max_cost, max_tokens). {_in_words(settings, spent)} spent; "
        f"answered: {' and '.join(told)}; nothing is told of some only.{guess} Raise the cap, or lower max_samples and "
        "max_validation_samples, and run the same command: answers are kept and not paid for again"
    )


def _in_words(settings: EndpointSettings, cost: Cost) -> str:
    money = "" if settings.prices is None else f", {cost.money:.4g} by its prices,"
    return f"{cost.tokens:,} tokens{money}"
