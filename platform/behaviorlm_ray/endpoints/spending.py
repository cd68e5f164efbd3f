"""What answers cost, and a cap on it that is never passed: before a request its largest cost is put aside.

A token stands for at least one byte of text, so a prompt has at most as many tokens as bytes, and some that its
template adds; an answer has at most those that the request allows. What an endpoint does not count is taken at this
bound.
"""

import threading
from dataclasses import dataclass, field

from behaviorlm_ray.endpoints.requests import Answered
from behaviorlm_ray.endpoints.settings import EndpointSettings

TEMPLATE_TOKENS = 64
"""Tokens that a chat template adds to a prompt, at most (our choice)."""


@dataclass(frozen=True)
class Cost:
    """Tokens, and money in the currency of the prices; 0 without any."""

    prompt: int = 0
    answer: int = 0
    money: float = 0.0

    @property
    def tokens(self) -> int:
        """Of prompts and answers."""
        return self.prompt + self.answer

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.prompt + other.prompt, self.answer + other.answer, self.money + other.money)


def cost_of(settings: EndpointSettings, prompt: int, answer: int) -> Cost:
    """The cost of so many tokens."""
    prices = settings.prices
    money = 0.0 if prices is None else (prompt * prices.prompt + answer * prices.answer) / 1e6
    return Cost(prompt, answer, money)


def largest_cost(settings: EndpointSettings, messages: list[dict[str, str]]) -> Cost:
    """What an answer to a chat costs at most."""
    prompt = sum(len(message["content"].encode()) for message in messages) + TEMPLATE_TOKENS
    return cost_of(settings, prompt, settings.most_answer_tokens or 0)


def told_cost(settings: EndpointSettings, answered: Answered, largest: Cost) -> Cost:
    """What an answer cost as the endpoint counts its tokens; the largest cost where it does not."""
    if not isinstance(answered.prompt_tokens, int) or not isinstance(answered.answer_tokens, int):
        return largest
    return cost_of(settings, answered.prompt_tokens, answered.answer_tokens)


class CapReached(Exception):
    """The next request might pass the cap."""


@dataclass
class Spending:
    """What was spent and what is put aside for requests under way, by their keys. Threads share it.

    State: `spent`, for answers that are there; `lost`, for requests that may have been paid for in vain; and what is
    put aside.
    """

    settings: EndpointSettings
    spent: Cost = field(default=Cost(), init=False)
    lost: Cost = field(default=Cost(), init=False)
    _aside: dict[str, Cost] = field(default_factory=dict, init=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)

    def put_aside(self, key: str, largest: Cost) -> None:
        """Before a request. Waits while those under way may leave room; raises CapReached where there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(largest) or not self._aside)
            if not self._has_room(largest):
                raise CapReached
            self._aside[key] = largest

    def take_back(self, key: str) -> None:
        """After a request that cost nothing."""
        with self._changed:
            self._aside.pop(key, None)
            self._changed.notify_all()

    def pay(self, key: str, cost: Cost) -> None:
        """For an answer, paid for now or earlier."""
        with self._changed:
            self.spent += cost
            self.take_back(key)

    def lose(self, key: str, largest: Cost) -> None:
        """For a request whose answer did not come, and which is sent again. Raises as `put_aside`."""
        with self._changed:
            self.lost += largest
            self.take_back(key)
            self.put_aside(key, largest)

    def _has_room(self, more: Cost) -> bool:
        whole = sum(self._aside.values(), self.spent + self.lost + more)
        cap = self.settings
        return not (
            (cap.max_tokens is not None and whole.tokens > cap.max_tokens)
            or (cap.max_cost is not None and whole.money > cap.max_cost)
        )
