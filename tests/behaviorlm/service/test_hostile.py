"""Whatever is sent, it is no error of the service, it is answered in time, and what decent clients get stays right."""

import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import psutil
import pytest

from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from tests.behaviorlm.predictor.small_artifacts import history
from tests.behaviorlm.service.conftest import Serve
from tests.behaviorlm.service.hostile import Hostile, hostile_requests
from tests.behaviorlm.service.test_answers import agree, expected
from tests.behaviorlm.service.test_process import service

REFUSALS = {400, 404, 405, 408, 411, 413, 415, 422, 431}
SECONDS = 60
PAUSE = 0.02


def test_hostile_requests_of_each_kind_are_no_errors(
    serve: Serve, models: dict[str, BehaviorModel], tmp_path: Path
) -> None:
    client = serve("counts", "batch.wait_ms=0", f"feedback.folder={tmp_path}")
    seen: Counter[str] = Counter()
    for each in islice(hostile_requests(0), 300):
        if not each.is_whole or len(each.body) > 1 << 20:
            continue
        answer = client.post(each.path, content=each.body, headers={"Content-Type": each.kind})
        assert answer.status_code in {200, *REFUSALS}, (each.name, each.body[:500], answer.text)
        if "json" in answer.headers["content-type"]:
            json.loads(answer.content, parse_constant=pytest.fail)
        seen[each.name] += 1
    assert len(seen) >= 10
    asked = client.post("/v1/predict", json={"history": history(5)}).json()["predictions"]
    agree(asked, expected(models["counts"], [Request(history(5))]))


@pytest.mark.slow
def test_ten_thousand_hostile_requests_to_a_process(
    folders: dict[str, Path], models: dict[str, BehaviorModel], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    keys = [f"--model={folders['fused']}", "--batch.wait_ms=0", f"--feedback.folder={tmp_path / 'kept'}"]
    wanted = expected(models["fused"], [Request(history(5))])
    statuses: Counter[tuple[str, int]] = Counter()
    with (
        service(log, *keys, "--prefix_cache.bytes=1000000") as (process, client),
        ThreadPoolExecutor(8) as clients,
    ):
        memory = psutil.Process(process.pid)
        grown = []
        port = client.base_url.port
        assert port is not None
        for part in parts(hostile_requests(1), 20, 500):
            for each, status in zip(part, clients.map(lambda h: sent(port, h), part), strict=True):
                assert status in {0, 200, *REFUSALS}, (each.name, status, each.body[:500])
                assert status or each.cut is not None or each.announced is not None, (
                    each.name,
                    each.body[:500],
                )
                statuses[each.name, status] += 1
            agree(client.post("/v1/predict", json={"history": history(5)}).json()["predictions"], wanted)
            grown.append(memory.memory_info().rss)
        told = client.get("/metrics").text
        assert "behaviorlm_queue_histories 0.0" in told and 'status="500"' not in told
    print(f"memory {grown[0] >> 20} to {grown[-1] >> 20} MB", sorted(statuses.items()))
    assert sum(statuses.values()) == 10_000
    assert grown[-1] < grown[4] + (512 << 20)
    assert "Traceback" not in log.read_text() and "ERROR" not in log.read_text()


def parts(requests: Iterator[Hostile], number: int, size: int) -> Iterator[list[Hostile]]:
    for _ in range(number):
        yield list(islice(requests, size))


def sent(port: int, each: Hostile) -> int:
    """The status that it was answered with, 0 where the connection was closed without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        try:
            for number, piece in enumerate(pieces(each)):
                if number:
                    time.sleep(PAUSE)
                connection.sendall(piece)
            if each.cut is not None:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # answered before all was sent
        return answered(connection)


def pieces(each: Hostile) -> Iterator[bytes]:
    body = each.body if each.cut is None else each.body[: each.cut]
    told = f"Content-Length: {len(each.body) if each.announced is None else each.announced}"
    if each.announced == "chunked":
        told, body = "Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    kind = f"Content-Type: {each.kind}\r\n" if each.kind else ""
    head = (
        f"{each.method} {each.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{kind}{told}\r\n\r\n"
    )
    text = head.encode("latin-1") + body
    size = max(1, len(text) // (each.pauses + 1))
    yield from (text[start : start + size] for start in range(0, len(text), size))


def answered(connection: socket.socket) -> int:
    """The status of what comes back; a server that neither answers nor closes in time is a failure."""
    text = b""
    try:
        while b"\r\n" not in text:
            more = connection.recv(4096)
            if not more:
                return 0
            text += more
    except ConnectionError:
        return 0
    return int(text.split(b" ", 2)[1])
