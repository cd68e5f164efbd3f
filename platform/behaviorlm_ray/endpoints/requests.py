"""One request to a chat model behind an endpoint, patiently; what it answered, and nothing of the key.

429, 5xx, lost connections and answers that are cut off or no JSON pass and are tried again; Retry-After is kept to.
"""

import http.client
import json
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from behaviorlm.config.masking import HIDDEN, masked
from behaviorlm.errors import ConfigError, ModelError
from behaviorlm.files.clock import SYSTEM_CLOCK, Clock
from behaviorlm.files.patient_reads import repeat_patiently
from behaviorlm_ray.endpoints.settings import EndpointSettings

TOP_LOGPROBS = 20
"""Tokens in each place whose probabilities are asked for: what endpoints give at most."""
LARGEST_ANSWER = 16 * 2**20
"""Bytes."""
_PASSING = frozenset({408, 409, 425, 429, *range(500, 600)})
_SHOWN = 300


@dataclass(frozen=True)
class Answered:
    """An answer. steps: its tokens as `answers.Step`; None where none were told. tokens of prompt and answer as the
    endpoint counts them; None where it does not. is_cut: the limit on its length cut it off.
    """

    text: str
    steps: list[tuple[str, dict[str, float]]] | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    is_cut: bool = False


class Lost(Exception):
    """A request that failed for a passing reason. wait: seconds that the endpoint asked to wait; may_cost: it may have
    been answered, and be paid for, without its answer having come.
    """

    def __init__(self, reason: str, wait: float = 0.0, *, may_cost: bool = True) -> None:
        super().__init__(reason)
        self.wait, self.may_cost = wait, may_cost


@dataclass
class Endpoint:
    """Where requests go. State: `requests`, how many were sent so far; threads share it."""

    settings: EndpointSettings
    clock: Clock = SYSTEM_CLOCK
    requests: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._key, self._lock = key_of(self.settings), threading.Lock()
        # A key must not follow a redirection to another host.
        self._opener = urllib.request.build_opener(_NoRedirection)

    def body(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        """What is sent for a chat: all that decides its answer."""
        told = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if self.settings.answer == "logprobs" else {}
        return {"model": self.settings.model, "messages": messages, **self.settings.parameters, **told}

    def ask(self, body: dict[str, Any], lost: Callable[[], None]) -> Answered:
        """The answer. lost: called for each request that may have been paid for in vain.

        Raises ModelError for what does not pass, and when patience has ended.
        """
        seconds = self.settings.patience_seconds

        def judge(error: Exception, repeats: int, is_over: bool) -> str:
            if not isinstance(error, Lost):
                raise error
            if error.may_cost:
                lost()
            if is_over or error.wait > seconds:
                raise ModelError(
                    f"{self.settings.url} did not answer for {self.settings.model!r} within {seconds:g} s: {error}. "
                    "This is resumable, answers so far are kept; patience_seconds of the endpoint says how long to wait"
                ) from None
            self.clock.sleep(error.wait)
            return f"{self.settings.url}: {error}"

        return repeat_patiently(lambda _: self._once(body), judge, seconds, self.clock)

    def _once(self, body: dict[str, Any]) -> Answered:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(
            f"{self.settings.url}/chat/completions", json.dumps(body).encode(), headers, method="POST"
        )
        with self._lock:
            self.requests += 1
        try:
            with self._opener.open(request, timeout=self.settings.timeout_seconds) as response:
                content = response.read(LARGEST_ANSWER)
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreached(error) from None
        try:
            return read_answer(json.loads(content))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise Lost(f"no chat completion, but {self._shown(content)}") from None

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        try:
            told = self._shown(error.read(LARGEST_ANSWER))
        except (OSError, http.client.HTTPException):
            told = "nothing more"
        if error.code in _PASSING:
            wait = retry_after(error.headers.get("Retry-After"), self.clock.now())
            return Lost(f"HTTP {error.code}, {told}", wait, may_cost=False)
        where = f"; the key is read from {self.settings.key_variable}" if error.code in (401, 403) else ""
        return ModelError(
            f"{self.settings.url} refuses requests for {self.settings.model!r} with HTTP {error.code}: {told}{where}"
        )

    def _unreached(self, error: Exception) -> Exception:
        reason = getattr(error, "reason", error)
        told = f"{type(reason).__name__}: {self._shown(str(reason).encode())}"
        if isinstance(reason, ssl.SSLCertVerificationError):
            return ModelError(f"{self.settings.url} is not trusted: {told}")
        return Lost(told, may_cost=not isinstance(reason, ConnectionRefusedError))

    def _shown(self, content: bytes) -> str:
        """The beginning of what an endpoint said, without the key, which some endpoints repeat."""
        text = content.decode(errors="replace")
        shown = masked(text.replace(self._key, HIDDEN) if self._key else text)
        return repr(shown[:_SHOWN])


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """A redirection is an answer like any other that is no success."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def key_of(settings: EndpointSettings) -> str:
    """The key, from its environment variable; empty where none is named. Raises ConfigError where that is not set."""
    name = settings.key_variable
    if name is None:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            f"the environment variable {name}, which should hold the key of {settings.url}, is not set"
        )
    return key


def read_answer(content: Any) -> Answered:
    """An answer in the form of OpenAI's chat completions. Raises ValueError, KeyError, TypeError, IndexError or
    AttributeError for anything else.
    """
    choice = content["choices"][0]
    usage = content.get("usage") or {}
    told = (choice.get("logprobs") or {}).get("content")
    return Answered(
        str(choice["message"].get("content") or ""),
        None if told is None else [_step(of) for of in told],
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        choice.get("finish_reason") == "length",
    )


def _step(told: dict[str, Any]) -> tuple[str, dict[str, float]]:
    others = {str(one["token"]): float(one["logprob"]) for one in told.get("top_logprobs") or []}
    return str(told["token"]), others | {str(told["token"]): float(told["logprob"])}


def retry_after(value: str | None, now: float) -> float:
    """Seconds that a Retry-After header asks to wait, a number or a date; 0 for none or one that is neither."""
    try:
        return max(0.0, float(value or 0))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(str(value)).timestamp() - now)
    except ValueError:
        return 0.0
