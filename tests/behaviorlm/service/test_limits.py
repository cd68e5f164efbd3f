"""What is too much or cannot be read is refused with the key named, whatever was sent; nothing is an error of ours."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from starlette.testclient import TestClient

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.service.settings import ServeSettings
from tests.behaviorlm.predictor.small_artifacts import NAMES, history
from tests.behaviorlm.service.conftest import Serve
from tests.behaviorlm.service.test_answers import measured
from tests.behaviorlm.service.waiting_model import until_queued, waiting

SECRET = "a-secret-of-a-user"


@pytest.mark.parametrize(
    ("key", "limit", "fits", "exceeds"),
    [
        ("limits.events", 3, {"history": history(3)}, {"history": history(4)}),
        ("limits.events", 3, {"requests": [{}]}, {"requests": [{}, {"history": history(4)}]}),
        ("limits.histories", 2, {"requests": [{}] * 2}, {"requests": [{}] * 3}),
        ("limits.k", 4, {"k": 4}, {"k": 5}),
        ("limits.new_names", 0, {}, {"new_names": ["feed the cat"]}),
    ],
)
def test_more_than_a_limit_names_its_key_and_as_much_is_answered(
    serve: Serve, key: str, limit: int, fits: Any, exceeds: Any
) -> None:
    client = serve("counts", f"{key}={limit}")
    assert client.post("/v1/predict", json=fits).status_code == 200
    refused = client.post("/v1/predict", json=exceeds)
    assert refused.status_code == 422
    assert refused.json()["key"] == key and f"({key})" in refused.json()["error"]
    assert measured(client, "behaviorlm_refused_total") == 1


def chunks(text: bytes) -> Iterator[bytes]:
    yield from (text[start : start + 500] for start in range(0, len(text), 500))


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_body_beyond_its_limit_is_not_read_whether_its_size_is_told_or_not(
    serve: Serve, is_announced: bool
) -> None:
    client = serve("counts", "limits.body_bytes=2000")

    def sent(size: int) -> Any:
        text = json.dumps({"history": [], "k": 1}).encode().ljust(size)
        return client.post(
            "/v1/predict",
            content=text if is_announced else chunks(text),
            headers={"Content-Type": "application/json"},
        )

    assert sent(2000).status_code == 200
    refused = sent(2001)
    assert refused.status_code == 413
    assert refused.json()["key"] == "limits.body_bytes"


def test_a_full_queue_is_told_at_once_and_what_waits_is_answered(
    serve: Serve, models: dict[str, BehaviorModel]
) -> None:
    model = waiting(models["counts"])
    client = serve(
        "counts", "limits.queue=4", "limits.histories=4", "batch.histories=1", "batch.wait_ms=0", model=model
    )

    def ask(number: int) -> int:
        return int(client.post("/v1/predict", json={"requests": [{}] * number}).status_code)

    with ThreadPoolExecutor(8) as clients:
        try:
            first = clients.submit(ask, 1)
            assert model.began.wait(20)
            others = [clients.submit(client.post, "/v1/predict", json={}) for _ in range(4)]
            until_queued(client, 4, others)
            fifth = clients.submit(client.post, "/v1/predict", json={})
            assert wait([fifth], 10).done, "a fifth history waits, though limits.queue is 4"
        finally:
            model.may.set()
        assert [first.result(), *(each.result().status_code for each in others)] == [200] * 5
    refused = fifth.result()
    assert refused.status_code == 429
    assert refused.json()["key"] == "limits.queue" and refused.headers["Retry-After"] == "1"
    assert ask(4) == 200  # there is room again


def test_a_queue_that_no_request_fits_into_is_refused_before_it_serves() -> None:
    with pytest.raises(ConfigError, match=r"queue must be at least histories \(64\)"):
        load_settings(ServeSettings, None, ["model=x", "limits.queue=63"])


@pytest.mark.parametrize(
    ("body", "key", "told"),
    [
        ({"k": 0}, "k", "greater than or equal to 1"),
        ({"histry": [SECRET]}, "histry", "not permitted"),
        ({"history": [{"behavior": [SECRET]}]}, "history.0.behavior", "text, a number"),
        ({"history": [], "requests": []}, None, "beside requests there may be no history"),
        ({"history": [{"time": SECRET}]}, None, "has the column 'behavior'"),
        ({"allow": ["no such"]}, None, "unknown behaviors 'no such'"),
        ({"new_names": ["feed the cat"]}, None, "only counts"),
        ({"at": SECRET}, None, "cannot be read as time"),
        ({"earlier_events": 10**30}, "earlier_events", "less than or equal"),
        ([1], None, "valid dictionary"),
    ],
)
def test_what_cannot_be_read_is_told_by_key(serve: Serve, body: Any, key: str | None, told: str) -> None:
    refused = serve().post("/v1/predict", json=body)
    assert refused.status_code == 422
    assert refused.json()["key"] == key
    assert told in refused.json()["error"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"k": ', "application/json", 422),
        (b"[" * 100_000, "application/json", 400),
        (b'{"k": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b'{"at": Infinity}', "application/json", 422),
        (b'{"at": "\\ud800"}', "application/json", 422),
        (b'{"\\ud800": 1}', "application/json", 422),
        (b'{"new_names": ["\\ud800"]}', "application/json", 422),
        (b'{"history": [{"behavior": "door", "\\ud800": 1}]}', "application/json", 422),
        (b"\xff\xfe", "application/json", 422),
        (b"{}", "text/plain", 422),
        (b"", "application/json", 422),
    ],
)
def test_what_is_no_json_is_the_senders_fault(serve: Serve, content: bytes, kind: str, status: int) -> None:
    refused = serve().post("/v1/predict", content=content, headers={"Content-Type": kind})
    assert refused.status_code == status, refused.text
    assert refused.json()["error"]


def test_of_a_million_wrong_events_the_first_is_told(serve: Serve) -> None:
    for field in (b"history", b"allow", b"requests", b"new_names"):
        content = b'{"%b":[%b]}' % (field, b",".join([b"1"] * 1_000_000))
        refused = serve().post("/v1/predict", content=content, headers={"Content-Type": "application/json"})
        assert refused.status_code == 422 and refused.json()["key"] == f"{field.decode()}.0"
        assert ";" not in refused.json()["error"]  # no other was looked for


def test_an_unknown_path_or_method_is_told_in_the_same_form(serve: Serve) -> None:
    client = serve()
    assert client.get("/v1/predict").json() == {"error": "Method Not Allowed", "key": None}
    assert client.get(f"/{SECRET}").json() == {"error": "Not Found", "key": None}
    assert SECRET not in client.get("/metrics").text


class Broken:
    """What stands in for a bug: its message holds what a user sent."""

    def __init__(self, model: BehaviorModel) -> None:
        self.artifact = model.artifact

    def read(self, requests: Any) -> Any:
        raise RuntimeError(f"no idea what {requests} is")


def test_a_bug_is_a_500_that_tells_nobody_what_was_sent(
    serve: Serve, models: dict[str, BehaviorModel], caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(model=Broken(models["counts"]))
    with caplog.at_level(logging.DEBUG):
        failed = client.post("/v1/predict", json={"history": [{"behavior": SECRET}]})
    assert failed.status_code == 500 and SECRET not in failed.text
    assert "RuntimeError at /v1/predict" in caplog.text and "serving.py" in caplog.text
    assert SECRET not in caplog.text


TEXT = some.text(max_size=8) | some.sampled_from(NAMES) | some.just("2024-03-01T18:05:00Z")
SCALAR = some.none() | some.booleans() | some.integers() | some.floats() | TEXT
ANY = some.recursive(
    SCALAR, lambda of: some.lists(of, max_size=4) | some.dictionaries(TEXT, of, max_size=4), max_leaves=8
)
EVENT = some.dictionaries(
    some.sampled_from(["time", "behavior", "room", "result", "user"]) | TEXT, SCALAR | ANY, max_size=5
)
ASKED = {
    "history": some.lists(EVENT, max_size=5) | ANY,
    "context": some.dictionaries(some.sampled_from(["room"]) | TEXT, SCALAR, max_size=3) | ANY,
    "at": SCALAR | ANY,
    "earlier_events": some.integers() | ANY,
}
NAME_LIST = some.lists(TEXT, max_size=4) | ANY
BODY = some.fixed_dictionaries(
    {},
    optional={
        **ASKED,
        "requests": some.lists(some.fixed_dictionaries({}, optional=ASKED), max_size=3) | ANY,
        "k": some.integers() | ANY,
        "allow": NAME_LIST,
        "deny": NAME_LIST,
        "new_names": NAME_LIST,
        "min_probability": some.floats() | ANY,
        "explain": some.booleans() | ANY,
        "events": some.lists(EVENT, max_size=3) | ANY,
    },
)


PLAIN = (
    some.none()
    | some.booleans()
    | some.integers()
    | some.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
ROW = some.dictionaries(some.sampled_from(["time", "behavior", "room", "result", "user"]), PLAIN, max_size=5)
KNOWN = some.lists(some.sampled_from(NAMES), max_size=4)
TYPED = some.fixed_dictionaries(
    {},
    optional={
        "history": some.lists(ROW, max_size=5),
        "context": some.dictionaries(some.sampled_from(["room"]) | TEXT, PLAIN, max_size=3),
        "at": PLAIN,
        "earlier_events": some.integers(0, 2**31 - 1),
        "k": some.integers(1, 100),
        "allow": KNOWN,
        "deny": KNOWN,
        "min_probability": some.floats(0, 1),
        "explain": some.booleans(),
    },
)
"""What has the right types, and whatever sense."""
FEEDBACK = some.fixed_dictionaries({"events": some.lists(ROW, max_size=3)})


@pytest.fixture(scope="module")
def hostile_client(
    folders: Any, models: dict[str, BehaviorModel], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    from behaviorlm.service.app import build_app

    feedback = tmp_path_factory.mktemp("feedback")
    keys = [f"model={folders['counts']}", "batch.wait_ms=0", f"feedback.folder={feedback}"]
    keys.append("token.environment=NO_TOKEN")
    app = build_app(load_settings(ServeSettings, None, keys), lambda: models["counts"])
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


@settings(max_examples=150)
@given(body=BODY | ANY | TYPED | FEEDBACK, path=some.sampled_from(["predict", "feedback"]))
def test_no_body_is_an_error_of_the_service(hostile_client: TestClient, body: Any, path: str) -> None:
    text = json.dumps(body).encode()  # NaN and halves of characters as they are
    answer = hostile_client.post(f"/v1/{path}", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 422), answer.text
    assert json.loads(answer.text)  # and what is answered is JSON
