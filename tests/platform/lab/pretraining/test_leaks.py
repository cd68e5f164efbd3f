"""No history of a log is in what a base reads, by hashes of runs of its lines."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence

import pytest
from transformers import PreTrainedTokenizerFast

from behaviorlm.events.normalization import WEEKDAYS
from behaviorlm_lab.pretraining.base_model import make_base_tokenizer, read_text
from behaviorlm_lab.pretraining.people import invented_people
from behaviorlm_lab.pretraining.recipe import STEPS
from behaviorlm_lab.world.errands import errands_world
from behaviorlm_lab.world.generator import Event, Generator, simulate_user
from behaviorlm_lab.world.process import default_world
from tests.platform.lab.little_text import little_text

RUN = 8
"""Lines in a row that two people may not share: clock, behavior and place of each. Shorter runs agree by chance."""
LINE = re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d\d: .+ \((?:home|office|campus|out)\)")


def hashes(histories: Iterable[Sequence[str]]) -> Iterator[bytes]:
    """One for each run of `RUN` lines."""
    for lines in histories:
        for start in range(len(lines) - RUN + 1):
            text = "\n".join(lines[start : start + RUN])
            yield hashlib.blake2b(text.encode(), digest_size=12).digest()


def written(events: Iterable[Event]) -> list[str]:
    """A log's events as lines of a prompt."""
    return [
        f"{WEEKDAYS[event.time.weekday()]} {event.time.hour:02d}: {event.behavior} ({event.place})"
        for event in events
    ]


def of_logs(world: Generator, users: int, seeds: Iterable[int]) -> set[bytes]:
    return set(hashes(written(simulate_user(world, seed, user)) for seed in seeds for user in range(users)))


def read_histories(tokenizer: PreTrainedTokenizerFast, documents: Iterable[list[int]]) -> Iterator[list[str]]:
    """The lines of history in what a base reads, whatever kind of document they stand in."""
    for tokens in documents:
        yield LINE.findall(str(tokenizer.decode(tokens)))


def shared_runs(world: Generator, steps: int, log: set[bytes], planted: Sequence[Event] = ()) -> int:
    """How many runs of the text of `steps` steps are in the log. planted: a history put into the text."""
    people = invented_people(world, 0)
    tokenizer = make_base_tokenizer(people, 0)
    text = read_text(tokenizer, people, 0, steps)
    documents = [*(chat.tokens for chat in text.chats), *text.others]
    lines = "\n".join(written(planted))
    documents.append(tokenizer.encode(lines, add_special_tokens=False))
    return sum(found in log for found in hashes(read_histories(tokenizer, documents)))


@pytest.mark.parametrize("world", [default_world(), errands_world()], ids=["main", "second"])
def test_no_history_of_a_log_is_in_the_text_and_one_that_is_would_be_seen(world: Generator) -> None:
    log = of_logs(world, 40, (0, 101))
    leaked = simulate_user(world, 101, 7)
    with little_text():
        assert shared_runs(world, 60, log) == 0
        assert shared_runs(world, 60, log, leaked[3:12]) == 2


@pytest.mark.slow
def test_no_history_of_the_studies_is_in_all_that_the_shipped_base_has_read() -> None:
    log = of_logs(default_world(), 600, (0, *range(101, 106), *range(201, 211), 901, 902, 903))
    assert shared_runs(default_world(), STEPS, log) == 0
