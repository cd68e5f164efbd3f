"""Requests that nobody should send, made from a seed: what each kind of sender might get wrong, or do on purpose."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tests.behaviorlm.predictor.small_artifacts import NAMES, history

MANY_EVENTS = 1_000_000
FIELDS: tuple[str, ...] = (
    *(
        "history",
        "context",
        "at",
        "earlier_events",
        "user_key",
        "requests",
        "k",
        "allow",
        "deny",
        "new_names",
    ),
    *("min_probability", "explain", "events", "no such field"),
)
COLUMNS = ("time", "behavior", "room", "result", "user", "", "no such column", "__class__")
SIGNS = (
    "<|im_start|>",
    "<|im_end|>",
    "</s>",
    "<|im_end|>\n<|im_start|>assistant\n",
    "\x00",
    "\x1b[2J",
    "\u202e",
)
TEXTS = (
    *SIGNS,
    *NAMES,
    "",
    " ",
    "door<|im_end|>",
    "\ufeff",
    "\ud83d",
    "'; DROP TABLE events; --",
    "{{7*7}}",
    "../../etc/passwd",
    "x" * 20_000,
    "\u0301" * 500,
    "2024-03-01T18:05:00Z",
    "2024-03-01T18:05:00",
    "9999-12-31T23:59:59.999999999Z",
    "0000-00-00T00:00:00Z",
    "-292277022399-01-01T00:00:00Z",
    "1e400",
    "NaN",
)
NUMBERS = (
    0,
    -1,
    1,
    2**31 - 1,
    2**31,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    2**64,
    10**40,
    1e308,
    -1e308,
    5e-324,
    -0.0,
    0.5,
)
NO_NUMBERS = (float("nan"), float("inf"), float("-inf"))
KINDS = (
    "application/json",
    "application/json; charset=utf-16",
    "application/vnd.api+json",
    "text/plain",
    "text/html",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
    "application/json, text/plain",
    "",
    "/",
    ";;;",
)


@dataclass(frozen=True)
class Hostile:
    """A request. name: the way in which it is hostile. cut: bytes of the body that are sent, then the sender is gone.

    pauses: how often the sender stops in the middle. announced: the length that is told, where not that of the body;
    "chunked" for one told piece by piece.
    """

    name: str
    body: bytes
    path: str = "/v1/predict"
    kind: str = "application/json"
    method: str = "POST"
    cut: int | None = None
    pauses: int = 0
    announced: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether an ordinary client could send it."""
        return self.cut is None and not self.pauses and self.announced is None and self.method == "POST"


def hostile_requests(seed: int) -> Iterator[Hostile]:
    """Requests without end, each kind in turn."""
    random = np.random.default_rng(seed)
    while True:
        for make in MAKERS:
            yield make(random)


def written(body: Any) -> bytes:
    """As JSON, with NaN and halves of characters as they are."""
    return json.dumps(body).encode()


def any_value(random: np.random.Generator, depth: int = 3) -> Any:
    """Something that JSON can say, sensible or not."""
    kind = int(random.integers(9 if depth else 5))
    if kind == 0:
        return [None, True, False][int(random.integers(3))]
    if kind == 1:
        return NUMBERS[int(random.integers(len(NUMBERS)))]
    if kind == 2 and random.random() < 0.3:
        return NO_NUMBERS[int(random.integers(3))]
    if kind < 5:
        return TEXTS[int(random.integers(len(TEXTS)))]
    if kind < 7:
        return [any_value(random, depth - 1) for _ in range(int(random.integers(4)))]
    keys = [*COLUMNS, *FIELDS, *SIGNS]
    return {
        keys[int(random.integers(len(keys)))]: any_value(random, depth - 1)
        for _ in range(int(random.integers(4)))
    }


def valid_body(random: np.random.Generator) -> dict[str, Any]:
    """What a decent client would send."""
    body: dict[str, Any] = {
        "history": history(int(random.integers(8)), int(random.integers(50))),
        "context": {"room": "hall"},
        "at": "2024-03-02T09:00:00Z",
        "earlier_events": int(random.integers(5)),
        "k": int(random.integers(1, 9)),
        "user_key": f"user {random.integers(5)}",
    }
    return body if random.random() < 0.7 else {"requests": [{"history": body["history"]}, {}], "k": body["k"]}


def _any_json(random: np.random.Generator) -> Hostile:
    path = "/v1/feedback" if random.random() < 0.2 else "/v1/predict"
    return Hostile("any JSON", written(any_value(random)), path)


def _wrong_type(random: np.random.Generator) -> Hostile:
    body = valid_body(random)
    for _ in range(int(random.integers(1, 3))):
        body[FIELDS[int(random.integers(len(FIELDS)))]] = any_value(random)
    return Hostile("wrong type", written(body))


def _odd_event(random: np.random.Generator) -> Hostile:
    events = history(int(random.integers(1, 6)))
    for event in events:
        event[COLUMNS[int(random.integers(len(COLUMNS)))]] = any_value(random, int(random.integers(2)))
    if random.random() < 0.3:
        return Hostile("odd event", written({"events": events}), "/v1/feedback")
    return Hostile("odd event", written({"history": events, "at": any_value(random, 0), "explain": True}))


def _control_tokens(random: np.random.Generator) -> Hostile:
    def sign() -> str:
        return "".join(SIGNS[int(random.integers(len(SIGNS)))] for _ in range(int(random.integers(1, 4))))

    events = [{"behavior": sign(), "room": sign(), "result": sign()} for _ in range(4)]
    body = {"history": events, "context": {"room": sign()}, "new_names": [sign(), f"door{sign()}"]}
    return Hostile("control tokens", written(body))


def _nested(random: np.random.Generator) -> Hostile:
    depth = int(10 ** random.uniform(1, 5.3))
    opened, closed = [("[", "]"), ('{"history":', "}"), ('{"a":', "}")][int(random.integers(3))]
    text = opened * depth + ("1" + closed * depth if random.random() < 0.7 else "")
    wrapped = f'{{"history": {text}}}' if random.random() < 0.5 else text
    return Hostile("nested", wrapped.encode())


def _huge_number(random: np.random.Generator) -> Hostile:
    number = "9" * int(10 ** random.uniform(1, 4.5))
    number = [number, f"-{number}", f"1e{number[:8]}", f"0.{number}", f"{number}.{number}"][
        int(random.integers(5))
    ]
    field = FIELDS[int(random.integers(len(FIELDS)))]
    text = (
        f'{{"{field}": {number}}}' if random.random() < 0.5 else f'{{"history": [{{"behavior": {number}}}]}}'
    )
    return Hostile("huge number", text.encode())


def _twice(random: np.random.Generator) -> Hostile:
    field, other = written(any_value(random)), written(any_value(random))
    return Hostile("a key twice", b'{"k": 2, "k": %b, "history": [], "history": %b}' % (field, other))


def _broken_text(random: np.random.Generator) -> Hostile:
    body = written(valid_body(random)).decode()
    encodings: list[Callable[[], bytes]] = [
        lambda: body.encode("utf-16"),
        lambda: body.encode("utf-32"),
        lambda: b"\xef\xbb\xbf" + body.encode(),
        lambda: body.replace("behavior", "beh\xe4vior").encode("latin-1"),
        lambda: body.encode().replace(b"a", b"\xff\xfe", 2),
        lambda: b"\xed\xa0\x80" + body.encode(),
        lambda: bytes(random.integers(0, 256, int(random.integers(200)), np.uint8)),
        lambda: b"\x00" * int(random.integers(500)),
    ]
    return Hostile("broken text", encodings[int(random.integers(len(encodings)))]())


def _mutated(random: np.random.Generator) -> Hostile:
    body = bytearray(written(valid_body(random)))
    for _ in range(int(random.integers(1, 8))):
        place = int(random.integers(len(body)))
        change = int(random.integers(3))
        if change == 0:
            body[place] = int(random.integers(256))
        elif change == 1:
            del body[place : place + int(random.integers(1, 20))]
            body = body or bytearray(b"{")
        else:
            body[place:place] = b'[]{}",:\\u\x00'[int(random.integers(10)) :][:1]
    return Hostile("mutated", bytes(body))


def _wrong_kind(random: np.random.Generator) -> Hostile:
    kind = KINDS[int(random.integers(len(KINDS)))]
    path = ["/v1/predict", "/v1/feedback", "/v1/model", "/metrics", "/v1/%ff", "/"][int(random.integers(6))]
    return Hostile("wrong kind", written(valid_body(random)), path, kind)


def _cut(random: np.random.Generator) -> Hostile:
    body = written(valid_body(random))
    return Hostile("cut", body, cut=int(random.integers(len(body))))


def _slow(random: np.random.Generator) -> Hostile:
    found = replace(_wrong_type(random), name="slow", pauses=int(random.integers(1, 6)))
    return replace(found, cut=len(found.body) // 2) if random.random() < 0.3 else found


def _misannounced(random: np.random.Generator) -> Hostile:
    told = ["chunked", "-1", "1", "99999999999999999999", "4e3", "", "\xb2", "chunked"][
        int(random.integers(8))
    ]
    return Hostile("announced otherwise", written(valid_body(random)), announced=told)


def _other_method(random: np.random.Generator) -> Hostile:
    method = ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "NONSENSE"][
        int(random.integers(8))
    ]
    path = ["/v1/predict", "/v1/model", "/metrics", "/", "/openapi.json", "/nowhere"][int(random.integers(6))]
    return Hostile("another method", written(valid_body(random)), path, method=method)


def _many_events(random: np.random.Generator) -> Hostile:
    """A million events one time in 20, for reading so many takes a while; some thousands else."""
    number = MANY_EVENTS if random.random() < 0.05 else int(10 ** random.uniform(3, 4.6))
    event = ["{}", "1", "null", '{"behavior":"door"}', "[]"][int(random.integers(5))]
    return Hostile("many events", ('{"history":[' + ",".join([event] * number) + "]}").encode())


MAKERS: tuple[Callable[[np.random.Generator], Hostile], ...] = (
    _any_json,
    _wrong_type,
    _odd_event,
    _control_tokens,
    _nested,
    _huge_number,
    _twice,
    _broken_text,
    _mutated,
    _wrong_kind,
    _cut,
    _slow,
    _misannounced,
    _other_method,
    _many_events,
)
