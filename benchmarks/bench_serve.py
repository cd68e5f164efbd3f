"""The service under load, against FastAPI apps that score labels with plain transformers.

    python -m benchmarks.bench_serve [--model exported/my_app] [--clients 1 8 64] [--seconds 4] [--rounds 3]
        [--stride N] [--write [FILE]]

Four servers, each a process with one torch thread: ours, ours with the prefix cache, each label as a sequence of
its own (`plain`), and the prompt's keys and values shared over the labels (`shared`). First all are asked the same and
must agree with `BehaviorModel` to 1e-5. Then they take turns: clients who wait for each answer before they ask about
the next event of their user. Printed for each number of clients: predictions per second as a median over the
rounds, its ratio to ours with the range over the rounds, that of the server's CPU time for each prediction, latencies,
and what share of histories and tokens the cache found.
"""

import argparse
import http.client
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from behaviorlm.prompts.config import PromptConfig
from behaviorlm_ray.console.command_line import option_parser
from benchmarks.records import ROUNDS, Record, Turns, add_write, product_teraflops, record, write
from benchmarks.served_model import bodies, write_default

OURS, CACHED = "ours", "ours, prefixes kept"
SERVERS = (OURS, CACHED, "plain", "shared")
CACHE_BYTES = 256 << 20
TOLERANCE = 1e-5


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print. Returns the exit status: 1 where an answer differs."""
    parser = option_parser(__doc__, None)
    parser.add_argument("--model", type=Path, help="an artifact (default: the embedded base, untuned)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=4.0, help="of load in each turn")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--max-events", type=int, default=12, help="of the embedded base's prompts")
    parser.add_argument("--stride", type=int, default=6, help="of the embedded base's prompts")
    add_write(parser)
    options = parser.parse_args(arguments)
    with ExitStack() as held:
        folder = options.model
        if folder is None:
            folder = Path(held.enter_context(tempfile.TemporaryDirectory())) / "model"
            write_default(folder, PromptConfig(max_events=options.max_events, stride=options.stride))
        model = BehaviorModel.load(folder, device="cpu")
        servers = {name: held.enter_context(served(name, folder)) for name in SERVERS}
        worst = {server: difference(of.port, model) for server, of in servers.items()}
        print("largest difference from BehaviorModel:", ", ".join(f"{s} {d:.1e}" for s, d in worst.items()))
        if max(worst.values()) > TOLERANCE:
            return 1
        ceilings = [product_teraflops()]
        turns = measure(servers, model, options)
        ceilings.append(product_teraflops())
    print("\n".join(table(turns)))
    title = f"{options.max_events} events of {len(model.artifact.names)} behaviors"
    found = records(turns, title, Turns({}, ceilings).drift)
    return 0 if options.write is None else int(not write(options.write, found))


def records(turns: Sequence[dict[str, Any]], title: str, drift: float) -> list[Record]:
    """The servers' CPU seconds for a prediction, each peer's by ours without a cache."""
    found = []
    for clients in dict.fromkeys(turn["clients"] for turn in turns):
        at = [turn for turn in turns if turn["clients"] == clients]
        cpu = {server: [turn["cpu"] for turn in at if turn["server"] == server] for server in SERVERS}
        found += [
            record(
                f"serving against {server}, {clients} clients, {title}",
                {"ours": cpu[OURS], server: cpu[server]},
                equal=True,
                drift=drift,
            )
            for server in ("plain", "shared")
        ]
    return found


@dataclass(frozen=True)
class Server:
    """A server that answers at a port of this machine."""

    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """What it used until now: other processes of a busy machine change it less than they change rates."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def served(server: str, folder: Path) -> Iterator[Server]:
    """A server in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if server in (OURS, CACHED):
        kept = CACHE_BYTES if server == CACHED else 0
        told = ["jobs.serve", f"--model={folder}", f"--port={port}", f"--prefix_cache.bytes={kept}"]
    else:
        told = ["benchmarks.serve_peers", server, f"--model={folder}", f"--port={port}"]
    environment = {key: value for key, value in os.environ.items() if key != "BEHAVIORLM_TOKEN"}
    process = subprocess.Popen(
        [sys.executable, "-m", *told],
        env={**environment, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not _is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server {server!r} did not start: {' '.join(told)}")
            time.sleep(0.1)
        yield Server(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(60)


def difference(port: int, model: BehaviorModel) -> float:
    """The largest difference of a probability from the predictor's, over all behaviors and some histories."""
    names, worst = model.artifact.names, 0.0
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for user in range(3):
        of_user = bodies(names, user, 2 * model.artifact.prompt.max_events)
        for body in (next(of_user) for _ in range(10)):
            body["k"] = len(names)
            answers = ask(client, body)["predictions"][0]["answers"]
            found = {each["behavior"]: each["probability"] for each in answers}
            request = Request(body["history"], None, body["at"], body["earlier_events"])
            for answer in model.predict_many([request], k=len(names))[0].answers:
                worst = max(worst, abs(found[answer.behavior] - answer.probability))
    return worst


def measure(
    servers: dict[str, Server], model: BehaviorModel, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Turns of all servers, in another order in every other round."""
    turns: list[dict[str, Any]] = []
    for round_ in range(options.rounds):
        for clients in options.clients:
            for server in SERVERS if round_ % 2 == 0 else SERVERS[::-1]:
                of = servers[server]
                before, spent = cache_use(of.port), of.cpu_seconds()
                began = time.perf_counter()
                seconds = load(of.port, model, clients, options.seconds, 1000 * (len(turns) + 1))
                taken = time.perf_counter() - began
                after = cache_use(of.port)
                turns.append(
                    {
                        "server": server,
                        "clients": clients,
                        "round": round_,
                        "per_second": len(seconds) / taken,
                        "cpu": (of.cpu_seconds() - spent) / len(seconds),
                        "p50": float(np.quantile(seconds, 0.5)),
                        "p99": float(np.quantile(seconds, 0.99)),
                        "cache": {key: after[key] - before.get(key, 0.0) for key in after},
                    }
                )
                print(f"{server}, {clients} clients: {turns[-1]['per_second']:.1f}/s", flush=True)
    return turns


def load(port: int, model: BehaviorModel, clients: int, lasting: float, first_user: int) -> list[float]:
    """Seconds of each request of so many clients, every one with a user of its own."""
    seconds: list[list[float]] = [[] for _ in range(clients)]
    failed: list[BaseException] = []
    deadline = time.perf_counter() + lasting

    def run(number: int) -> None:
        try:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            known = 2 * model.artifact.prompt.max_events
            of_user = bodies(model.artifact.names, first_user + number, known)
            for _ in range(known + number):  # windows move already, each user's at another time
                next(of_user)
            while (began := time.perf_counter()) < deadline:
                ask(client, next(of_user))
                seconds[number].append(time.perf_counter() - began)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return [each for of_client in seconds for each in of_client]


def ask(client: http.client.HTTPConnection, body: dict[str, Any]) -> Any:
    """An answer; raises RuntimeError for a refusal."""
    client.request("POST", "/v1/predict", json.dumps(body), {"Content-Type": "application/json"})
    answer = client.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {text.decode()[:300]}")
    return json.loads(text)


def cache_use(port: int) -> dict[str, float]:
    """Histories and tokens that a server found kept or did not; nothing where it keeps none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    found = re.findall(r'^behaviorlm_prefix_(\w+)_total\{outcome="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {f"{what} {outcome}": float(number) for what, outcome, number in found}


def table(turns: Sequence[dict[str, Any]]) -> list[str]:
    """Medians over the rounds, ratios to ours within a round, and what the cache found."""
    lines = [
        "| clients | server | predictions/s | of ours (range) | CPU of ours (range) | p50 ms | p99 ms | histories "
        "found | tokens found |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for clients in dict.fromkeys(turn["clients"] for turn in turns):
        at = [turn for turn in turns if turn["clients"] == clients]
        ours = {turn["round"]: turn for turn in at if turn["server"] == OURS}
        for server in dict.fromkeys(turn["server"] for turn in at):
            of = [turn for turn in at if turn["server"] == server]
            rates, costs = (
                _ranged([turn[key] / ours[turn["round"]][key] for turn in of])
                for key in ("per_second", "cpu")
            )
            rate, p50, p99 = (
                statistics.median(turn[key] for turn in of) for key in ("per_second", "p50", "p99")
            )
            lines.append(
                f"| {clients} | {server} | {rate:.1f} | {rates} | {costs} | "
                f"{p50 * 1000:.0f} | {p99 * 1000:.0f} | {_share(of, 'histories')} | "
                f"{_share(of, 'tokens')} |"
            )
    return lines


def _ranged(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _share(turns: Sequence[dict[str, Any]], what: str) -> str:
    hit, miss = (
        sum(turn["cache"].get(f"{what} {outcome}", 0.0) for turn in turns) for outcome in ("hit", "miss")
    )
    return f"{hit / (hit + miss):.2f}" if hit + miss else "-"


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
