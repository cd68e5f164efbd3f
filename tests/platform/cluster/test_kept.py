"""Workers that stay after their work: who gets them, and when they go."""

import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from behaviorlm_ray.cluster import kept
from behaviorlm_ray.cluster.kept import Kept, make_room


class _Crew:
    def __init__(self) -> None:
        self.is_closed = threading.Event()

    def close(self) -> None:
        assert not self.is_closed.is_set()
        self.is_closed.set()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept[_Crew]]:
    monkeypatch.setattr(kept, "_places", [])
    monkeypatch.setattr(kept, "KEPT_SECONDS", 60.0)
    place: Kept[_Crew] = Kept()
    yield place
    make_room()


def test_who_is_taken_is_the_takers_and_nobody_else_ends_them(place: Kept[_Crew]) -> None:
    crew = _Crew()
    place.keep(crew)
    assert place.take() is crew
    assert place.take() is None
    make_room()
    assert not crew.is_closed.is_set()


def test_all_that_stay_go_where_room_is_asked_for(place: Kept[_Crew]) -> None:
    crews = _Crew(), _Crew()
    other: Kept[_Crew] = Kept()
    for where, crew in zip((place, other), crews, strict=True):
        where.keep(crew)
    make_room()
    assert all(crew.is_closed.is_set() for crew in crews)
    assert place.take() is None and other.take() is None
    make_room()  # nobody is ended twice


def test_of_two_the_last_one_stays(place: Kept[_Crew]) -> None:
    first, second = _Crew(), _Crew()
    place.keep(first)
    place.keep(second)
    assert first.is_closed.is_set() and not second.is_closed.is_set()
    assert place.take() is second


def test_who_is_not_asked_for_goes(place: Kept[_Crew], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEPT_SECONDS", 0.01)
    forgotten = _Crew()
    place.keep(forgotten)
    assert forgotten.is_closed.wait(timeout=30)
    assert place.take() is None


@pytest.mark.parametrize("seconds", [60.0, 0.01])
def test_who_went_is_held_by_nothing(
    place: Kept[_Crew], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "KEPT_SECONDS", seconds)
    crew = _Crew()
    held, is_closed = weakref.ref(crew), crew.is_closed
    place.keep(crew)
    del crew
    if seconds > 1:
        make_room()
    assert is_closed.wait(timeout=30)
    deadline = time.monotonic() + 30
    while held() is not None:  # until the thread of the timer has ended
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_timer_ends_nobody_but_its_own(place: Kept[_Crew], monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[tuple[object, ...]] = []

    class Late:
        """A timer that is past cancelling: it calls when told to."""

        def __init__(self, seconds: float, call: object, arguments: list[object]) -> None:
            timers.append((call, *arguments))

        def start(self) -> None: ...

        def cancel(self) -> None: ...

    monkeypatch.setattr(threading, "Timer", Late)
    crew, later = _Crew(), _Crew()
    place.keep(crew)
    assert place.take() is crew
    place.keep(later)
    call, *arguments = timers[0]
    assert callable(call)
    call(*arguments)
    assert not crew.is_closed.is_set() and not later.is_closed.is_set()
