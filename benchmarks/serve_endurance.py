"""Load on the service while its processes are killed at random, and every answer held against the predictor's.

    python -m benchmarks.serve_endurance [--minutes 10] [--ray] [--clients 8] [--seed 0] [--json FILE]

Without --ray two processes serve, and clients ask the other one where one is gone; with it two replicas of Ray Serve
do. Every few seconds one of them is killed (SIGKILL), told to end (SIGTERM; not with --ray), or all are given another
model. A client repeats what was answered with 429 or 503 or not at all, and with --ray the 500 by which Ray's proxy
says that a replica died. Exit status 1 for a wrong answer, one that did not come within a minute, another status, a
failure while nothing was killed, or a process that did not end well.
"""

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from behaviorlm.predictor.rules import LogitAdjusted
from behaviorlm.prompts.config import PromptConfig
from behaviorlm_ray.console.command_line import option_parser
from benchmarks.endured_services import NOT_OF_THE_APP, Processes, Replicas
from benchmarks.served_model import bodies, write_default

TOLERANCE = 1e-5
PATIENCE = 60.0
CASES = 150
SETTLING = 3.0
"""Seconds after an event in which a failure is still counted as its doing."""

Answers = dict[str, float]


@dataclass(frozen=True)
class Case:
    """A question, and its right answers by the fingerprint of the model: probabilities in order of rank."""

    body: dict[str, Any]
    right: dict[str, Answers]


@dataclass
class Tally:
    """What clients met. failures: how often what was repeated, by what was going on and why."""

    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: int = 0
    by_model: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    now: str = "nothing"
    lock: threading.Lock = field(default_factory=threading.Lock)

    def problems(self, forgiven: Collection[str] = ()) -> list[str]:
        """What should not have been. forgiven: what may also happen to a request whose process is killed."""
        found = [f"wrong: {text}" for text in self.wrong[:5]]
        if self.lost:
            found.append(f"{self.lost} requests were not answered within {PATIENCE:.0f} s")
        for failure, number in self.failures.items():
            event, _, cause = failure.partition(": ")
            may_be = cause in ("429", "503", *forgiven) or cause.isalpha()
            if event in ("nothing", "another model") or not may_be:
                found.append(f"{number} failures during {failure}")
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Endure and tell. Returns the exit status."""
    parser = option_parser(__doc__, None)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=8.0, help="seconds between events, on average")
    parser.add_argument("--json", type=Path, help="also write what happened here")
    options = parser.parse_args(arguments)
    tally = Tally()
    with ExitStack() as held:
        root = Path(held.enter_context(tempfile.TemporaryDirectory()))
        prompt = PromptConfig(max_events=12, stride=6)
        write_default(root / "one", prompt)
        write_default(root / "two", prompt, LogitAdjusted(tau=1.0))
        folders = [root / "one", root / "two"]
        asked = cases([BehaviorModel.load(folder, device="cpu") for folder in folders], options.seed)
        services: Processes | Replicas = Replicas(folders) if options.ray else Processes(folders)
        held.enter_context(services)
        disturbed(services, asked, tally, options)
    problems = [*tally.problems(services.forgiven), *services.problems]
    told = {
        key: value
        for key, value in vars(tally).items()
        if key in ("answered", "lost", "by_model", "failures", "events", "slowest")
    } | {"wrong": len(tally.wrong), "problems": problems}
    print(json.dumps(told, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 1 if problems or not tally.answered else 0


def cases(models: Sequence[BehaviorModel], seed: int) -> list[Case]:
    """Questions about users at different places, with what the models say in this process."""
    random = np.random.default_rng(seed)
    names, found = models[0].artifact.names, []
    for user in range(CASES):
        of_user = bodies(names, user, int(random.integers(1, 20)))
        for _ in range(int(random.integers(1, 20))):
            body = next(of_user)
        body["k"] = len(names)
        request = Request(body["history"], None, body["at"], body["earlier_events"])
        right = {
            model.artifact.fingerprint: {
                answer.behavior: answer.probability
                for answer in model.predict_many([request], k=len(names))[0].answers
            }
            for model in models
        }
        found.append(Case(body, right))
    return found


def disturbed(
    services: Processes | Replicas, asked: Sequence[Case], tally: Tally, options: argparse.Namespace
) -> None:
    """Load for so long, and an event every now and then."""
    until = time.monotonic() + 60 * options.minutes
    clients = [
        threading.Thread(target=client, args=(services, asked, tally, until, [options.seed, number]))
        for number in range(options.clients)
    ]
    for each in clients:
        each.start()
    random = np.random.default_rng([options.seed, 99])
    while time.monotonic() < until - PATIENCE / 2 or not tally.events:
        time.sleep(random.uniform(0.5, 1.5) * options.pause)
        event = str(random.choice(services.events))
        tally.now = event
        tally.events[event] += 1
        services.let(event, random)
        time.sleep(SETTLING)
        tally.now = "nothing"
        told = f"{tally.answered} answered, {len(tally.wrong)} wrong, {tally.lost} lost"
        print(f"{event}: {told}, tried again: {dict(tally.failures)}", flush=True)
    for each in clients:
        each.join()


def client(
    services: Processes | Replicas, asked: Sequence[Case], tally: Tally, until: float, seed: Sequence[int]
) -> None:
    """Ask one thing after the other, each until it is answered."""
    random = np.random.default_rng(seed)
    while time.monotonic() < until:
        case = asked[int(random.integers(len(asked)))]
        began = time.monotonic()
        while time.monotonic() < began + PATIENCE:
            before = tally.now
            cause, answer = ask(services.ports[int(random.integers(len(services.ports)))], case.body)
            if not cause:
                break
            during = tally.now if before == "nothing" else before
            with tally.lock:
                tally.failures[f"{during}: {cause}"] += 1
            time.sleep(random.uniform(0.02, 0.2))
        else:
            with tally.lock:
                tally.lost += 1
            continue
        wrong = difference(case, answer)
        with tally.lock:
            tally.answered += 1
            tally.by_model[answer["model"][:8]] += 1
            tally.slowest = max(tally.slowest, time.monotonic() - began)
            tally.wrong += wrong


def ask(port: int, body: dict[str, Any]) -> tuple[str, Any]:
    """Why there is no answer, or the answer. Each question has a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", "/v1/predict", json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status == 200:
            return "", json.loads(text)
        return NOT_OF_THE_APP if text == b"Internal Server Error" else str(answer.status), None
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__, None
    finally:
        connection.close()


def difference(case: Case, answer: dict[str, Any]) -> list[str]:
    """What is wrong with an answer: nothing, or one text."""
    right = case.right.get(answer["model"])
    if right is None:
        return [f"a model that nobody serves: {answer['model']}"]
    found = {each["behavior"]: each["probability"] for each in answer["predictions"][0]["answers"]}
    if found.keys() != right.keys():
        return ["other behaviors"]
    worst = max(abs(found[name] - right[name]) for name in right)
    if worst > TOLERANCE:
        return [f"a probability by {worst:.1e}"]
    best, given = next(iter(right)), next(iter(found))
    return (
        [] if best == given or abs(right[best] - right[given]) < TOLERANCE else [f"{given!r}, not {best!r}"]
    )


if __name__ == "__main__":
    sys.exit(main())
