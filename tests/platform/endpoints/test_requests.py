"""One request: what passes is tried again, what does not is told, and the key is never shown."""

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic import ValidationError

from behaviorlm.config import validate_settings
from behaviorlm.errors import ConfigError, ModelError
from behaviorlm_ray.endpoints.requests import Answered, Endpoint, read_answer, retry_after
from behaviorlm_ray.endpoints.settings import EndpointSettings
from tests.platform.endpoints.chat_server import ChatServer, Fault, completion, serving

KEY = "sk-planted-3141592653589793"
MESSAGES = [{"role": "user", "content": "What is next?"}]


class CountedTime:
    """A clock that only sleeping moves. State: its time, and the pauses it was asked for."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.pauses.append(seconds)

    def every(self, seconds: float, work: Any) -> Any:
        raise AssertionError("nothing is to run by itself")


def asked(server: ChatServer, clock: CountedTime, lost: list[int] | None = None, **keys: Any) -> Answered:
    settings = EndpointSettings.model_validate(
        {"url": server.url, "model": "small", "patience_seconds": 60} | keys
    )
    endpoint = Endpoint(settings, clock)
    return endpoint.ask(endpoint.body(MESSAGES), lambda: (lost if lost is not None else []).append(1))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_an_answer_comes_with_its_tokens_as_the_endpoint_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    with serving(lambda body: completion("lamp on\ndoor")) as server:
        found = asked(server, CountedTime(), key_variable="SOME_KEY", parameters={"max_tokens": 7, "seed": 3})
    assert found == Answered("lamp on\ndoor", None, 50, 3)
    assert server.keys == [f"Bearer {KEY}"]
    assert server.bodies == [{"model": "small", "messages": MESSAGES, "max_tokens": 7, "seed": 3}]


@pytest.mark.parametrize(
    ("fault", "costs"),
    [
        (Fault(429, b"slow down", {"Retry-After": "17"}), 0),
        (Fault(500, b"oops"), 0),
        (Fault(503), 0),
        (Fault(content=b'{"choices": [{"mess', is_cut=True), 1),
        (Fault(content=b"", is_cut=True), 1),
        (Fault(content=b"<html>a proxy's page</html>"), 1),
        (Fault(content=b'{"choices": []}'), 1),
        (Fault(content=b'{"choices": ["lamp"]}'), 1),
    ],
)
def test_what_passes_is_tried_again_and_a_pause_asked_for_is_kept(fault: Fault, costs: int) -> None:
    clock, lost = CountedTime(), list[int]()
    with serving(lambda body: completion("lamp on")) as server:
        server.faults = [fault, fault]
        assert asked(server, clock, lost).text == "lamp on"
    assert len(server.bodies) == 3 and len(lost) == 2 * costs
    assert clock.pauses.count(17.0) == (2 if fault.status == 429 else 0)


def test_patience_ends_and_a_longer_pause_than_that_is_not_begun() -> None:
    clock = CountedTime()
    with serving(lambda body: completion("lamp on")) as server:
        server.faults = [Fault(502)] * 1000
        with pytest.raises(ModelError, match=r"within 60 s: HTTP 502.*resumable"):
            asked(server, clock)
        assert 59.9 < sum(clock.pauses) < 70
        begun = clock.time
        server.faults = [Fault(429, b"tomorrow", {"Retry-After": "86400"})]
        with pytest.raises(ModelError, match="tomorrow"):
            asked(server, clock)
    assert clock.time == begun


def test_an_endpoint_that_is_not_there_is_waited_for_too() -> None:
    with serving(lambda body: completion("")) as server:
        pass
    clock, lost = CountedTime(), list[int]()
    with pytest.raises(ModelError, match="Connection refused"):
        asked(server, clock, lost)
    assert sum(clock.pauses) > 59.9 and not lost


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_told_at_once_without_the_key_that_it_repeats(
    status: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    with serving(lambda body: completion("")) as server:
        server.faults = [Fault(status, f"Incorrect key {KEY} provided".encode())]
        with pytest.raises(ModelError, match=f"HTTP {status}: 'Incorrect key ... provided") as error:
            asked(server, CountedTime(), key_variable="SOME_KEY")
        assert ("SOME_KEY" in str(error.value)) == (status in (401, 403))
        server.faults = [Fault(500, KEY.encode())] * 100
        with pytest.raises(ModelError) as error:
            asked(server, CountedTime(), key_variable="SOME_KEY")
    assert KEY not in str(error.value) + "".join(capfd.readouterr())


def test_a_key_follows_no_redirection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    with serving(lambda body: completion("")) as other, serving(lambda body: completion("")) as server:
        for status in (301, 302, 303, 307, 308):
            server.faults = [Fault(status, b"", {"Location": f"{other.url}/chat/completions"})]
            with pytest.raises(ModelError, match=f"HTTP {status}"):
                asked(server, CountedTime(), key_variable="SOME_KEY")
    assert other.bodies == []


def test_a_key_that_is_not_set_or_written_into_the_configuration_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ConfigError, match="SOME_KEY"):
        Endpoint(EndpointSettings(url="https://host/v1", model="small", key_variable="SOME_KEY"))
    for wrong in (
        {"key_variable": KEY},
        {"api_key": KEY},
        {"token": KEY},
        {"url": f"https://u:{KEY}@host/v1"},
    ):
        with pytest.raises(ConfigError) as error:
            validate_settings(EndpointSettings, {"url": "https://host/v1", "model": "small"} | wrong, "here")
        assert KEY not in str(error.value) and next(iter(wrong)) in str(error.value)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"url": "host/v1"}, "http"),
        ({"url": "https://host/v1?api-version=1"}, "no user, password, query"),
        ({"parameters": {"stream": True}}, "stream"),
        ({"max_cost": 1.0}, "prices"),
        ({"max_tokens": 10, "parameters": {}}, "max_completion_tokens"),
    ],
)
def test_settings_that_cannot_be_kept_to_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        EndpointSettings.model_validate({"url": "https://host/v1", "model": "small"} | keys)


def test_a_pause_is_read_from_seconds_and_from_dates() -> None:
    now = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    assert retry_after("2.5", 0) == 2.5 and retry_after(None, 0) == 0 and retry_after("soon", 0) == 0
    assert retry_after(format_datetime(now, usegmt=True), now.timestamp() - 9) == 9
    assert retry_after(format_datetime(now, usegmt=True), now.timestamp() + 9) == 0


def test_tokens_are_read_with_what_else_was_likely_in_their_place() -> None:
    top = [{"token": " door", "logprob": -0.7}, {"token": " lamp", "logprob": -0.9}]
    told = {"content": [{"token": " lamp", "logprob": -0.9, "top_logprobs": top}]}
    found = read_answer(completion("lamp", logprobs=told, finish_reason="length"))
    assert found.steps == [(" lamp", {" door": -0.7, " lamp": -0.9})] and found.is_cut
