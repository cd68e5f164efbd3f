"""Many questions: each once, a few at a time, kept as they come; a cap that is not passed; killed and resumed."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.errors import ModelError
from behaviorlm_ray.endpoints.asking import Asked, ask_all
from behaviorlm_ray.endpoints.kept_answers import ANSWERS, kept_answer, key_of_answer
from behaviorlm_ray.endpoints.requests import Endpoint
from behaviorlm_ray.endpoints.settings import EndpointSettings
from behaviorlm_ray.endpoints.spending import CapReached, Cost, Spending, cost_of
from tests.platform.endpoints.chat_server import Fault, completion, serving

PRICES = {"prompt": 2.0, "answer": 4.0}
CHATS = [[{"role": "user", "content": f"question {number}"}] for number in range(30)]


def asked(url: str, root: Path, chats: list[Any] = CHATS, **keys: Any) -> Asked:
    settings = EndpointSettings.model_validate({"url": url, "model": "small", "patience_seconds": 0} | keys)
    return ask_all("mini", Endpoint(settings), chats, root, ["test"] * len(chats))


def test_each_question_is_asked_once_and_a_finished_answer_never_again(tmp_path: Path) -> None:
    with serving(lambda body: completion(body["messages"][0]["content"])) as server:
        twice = asked(server.url, tmp_path, CHATS + CHATS)
        assert [of.text for of in twice.answers] == [f"question {number}" for number in range(30)] * 2
        assert (twice.questions, twice.kept, twice.requests, len(server.bodies)) == (30, 0, 30, 30)
        assert twice.spent == Cost(30 * 50, 30 * 2)
        again = asked(server.url, tmp_path)
        assert (again.questions, again.kept, again.requests, len(server.bodies)) == (30, 30, 0, 30)
        assert again.spent == twice.spent and again.answers == twice.answers[:30]
        for other in ({"model": "large"}, {"parameters": {"max_tokens": 9}}):
            assert asked(server.url, tmp_path, CHATS[:3], **other).kept == 0
        damaged = sorted((tmp_path / ANSWERS).rglob("*.json"))[0]
        damaged.write_bytes(damaged.read_bytes()[:-5])
        assert asked(server.url, tmp_path).requests + 6 == len(server.bodies) - 30 <= 7


def test_no_more_requests_than_allowed_are_under_way(tmp_path: Path) -> None:
    gate = threading.Barrier(3)

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        gate.wait(20)  # breaks where fewer than three come together
        return completion("door")

    with serving(answer) as server:
        asked(server.url, tmp_path, concurrency=3)
    assert server.at_once == 3


@pytest.mark.parametrize("cap", [{"max_tokens": 1000}, {"max_cost": 0.0021}])
def test_a_cap_is_not_passed_and_what_is_missing_is_told(cap: dict[str, Any], tmp_path: Path) -> None:
    """An answer costs 52 tokens, 108e-6 of money; before it is there 95, 230e-6, at most: prompt 75, answer 20."""
    keys: dict[str, Any] = {"prices": PRICES, "parameters": {"max_tokens": 20}, "concurrency": 2}
    with serving(lambda body: completion("lamp on")) as server:
        with pytest.raises(ModelError) as error:
            asked(server.url, tmp_path, **keys, **cap)
        paid = len(server.bodies)
        assert paid == len([*(tmp_path / ANSWERS).rglob("*.json")])
        assert paid == 18  # 18 · 52 + 95 > 1000, and 18 · 108 + 230 > 2100
        assert f"answered: {paid} of 30 test samples" in str(error.value)
        assert f"{52 * paid:,} tokens" in str(error.value) and "evaluation.endpoints.mini" in str(error.value)
        again = asked(server.url, tmp_path, **keys)  # with no cap it goes on
        assert (again.kept, again.requests, len(server.bodies)) == (paid, 30 - paid, 30)
        # what was paid for earlier counts, and what is finished needs no room
        with pytest.raises(ModelError, match="30 of 31"):
            asked(server.url, tmp_path, [*CHATS, [{"role": "user", "content": "one more"}]], **keys, **cap)
        assert asked(server.url, tmp_path, **keys, **cap).requests == 0


def test_an_endpoint_that_counts_no_tokens_is_taken_at_the_most_it_can_cost(tmp_path: Path) -> None:
    with serving(lambda body: completion("lamp on") | {"usage": None}) as server:
        found = asked(server.url, tmp_path, CHATS[:1], parameters={"max_tokens": 20})
        again = asked(server.url, tmp_path, CHATS[:1], parameters={"max_tokens": 20})
        assert found.spent == Cost(len(b"question 0") + 64, 20) == again.spent


def test_answers_that_never_came_count_against_the_cap(tmp_path: Path) -> None:
    """84 tokens at most for each of them: two fit, a third might not."""
    keys = {"parameters": {"max_tokens": 10}, "patience_seconds": 60, "concurrency": 1, "max_tokens": 200}
    with serving(lambda body: completion("lamp on")) as server:
        server.faults = [Fault(content=b"{", is_cut=True)] * 9
        with pytest.raises(ModelError, match="168 tokens spent; answered: 0 of 1"):
            asked(server.url, tmp_path, CHATS[:1], **keys)
    assert len(server.bodies) == 2


def test_an_error_ends_it_and_keeps_what_was_answered(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        return completion(body["messages"][0]["content"])

    with serving(answer) as server:
        server.faults = [Fault(content=b'{"choices": [{"message": {"content": "a"}}]}')] * 5 + [Fault(400)]
        with pytest.raises(ModelError, match="HTTP 400"):
            asked(server.url, tmp_path, concurrency=1)
        assert len(server.bodies) == 6
        found = asked(server.url, tmp_path, concurrency=1)
    assert [of.text for of in found.answers[:7]] == ["a"] * 5 + [
        "question 5",
        "question 6",
    ] and found.kept == 5


def test_log_probabilities_that_are_not_given_are_missed(tmp_path: Path) -> None:
    with (
        serving(lambda body: completion("lamp on")) as server,
        pytest.raises(ModelError, match="set answer: ranking"),
    ):
        asked(server.url, tmp_path, answer="logprobs")
    assert server.bodies[0]["logprobs"] is True


KILLED = """
import sys
from pathlib import Path
from tests.platform.endpoints.test_asking import CHATS, asked
asked(sys.argv[1], Path(sys.argv[2]), concurrency=2)
"""


def test_one_that_is_killed_goes_on_and_pays_only_for_what_was_under_way(tmp_path: Path) -> None:
    reached, killed = threading.Event(), threading.Event()

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        number = int(body["messages"][0]["content"].split()[1])
        if number >= 12 and not killed.is_set():
            reached.set()
            killed.wait(60)
        return completion(f"answer {number}")

    with serving(answer) as server:
        process = subprocess.Popen([sys.executable, "-c", KILLED, server.url, str(tmp_path)])
        try:
            assert reached.wait(120)
            while len([*(tmp_path / ANSWERS).rglob("*.json")]) < 11:  # those before are being kept
                time.sleep(0.01)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed.set()
        kept = len([*(tmp_path / ANSWERS).rglob("*.json")])
        found = asked(server.url, tmp_path)
    assert [of.text for of in found.answers] == [f"answer {number}" for number in range(30)]
    assert found.kept == kept >= 11 and found.requests == 30 - kept
    assert len(server.bodies) <= 30 + 2


COSTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 100), st.booleans()), max_size=20)


@given(COSTS, st.integers(1, 500))
def test_a_cap_holds_whatever_requests_cost_up_to_their_most(
    costs: list[tuple[int, int, bool]], cap: int
) -> None:
    settings = EndpointSettings(url="http://host", model="small", max_tokens=cap)
    spending = Spending(settings)
    for number, (less, most, is_lost) in enumerate(costs):
        largest = cost_of(settings, most, 0)
        try:
            spending.put_aside(str(number), largest)
            if is_lost:
                spending.lose(str(number), largest)
            spending.pay(str(number), cost_of(settings, max(0, most - less), 0))
        except CapReached:
            assert spending.spent.tokens + spending.lost.tokens + most > cap
        assert spending.spent.tokens + spending.lost.tokens <= cap


def test_a_key_of_an_answer_tells_apart_all_that_decides_it() -> None:
    body = {"model": "small", "messages": CHATS[0], "temperature": 0}
    keys = {
        key_of_answer("http://a", body),
        key_of_answer("http://b", body),
        key_of_answer("http://a", body | {"model": "large"}),
        key_of_answer("http://a", body | {"messages": CHATS[1]}),
        key_of_answer("http://a", body | {"temperature": 0.5}),
    }
    assert len(keys) == 5 and key_of_answer("http://a", dict(reversed(body.items()))) in keys
    assert kept_answer(Path("/nowhere/at/all"), "00") is None
