"""What keeps Ray from starting or being reached is one line with a remedy, told without Ray and within seconds."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from behaviorlm.errors import BehaviorLMError, ClusterError, ConfigError
from behaviorlm_ray.cluster import surroundings
from behaviorlm_ray.cluster.surroundings import check_machine, check_reached, ray_address


def one_line(error: pytest.ExceptionInfo[BehaviorLMError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("http://127.0.0.1:8265", ("address of a dashboard", "ray job submit", "RAY_ADDRESS=127.0.0.1:6379")),
        ("https://ray.example", ("address of a dashboard", "RAY_ADDRESS=ray.example:6379")),
        ("ray://head:10001", ("Ray Client", "RAY_ADDRESS=head:6379")),
        ("redis://head:6379", ("no address of a cluster (redis://)", "unset RAY_ADDRESS")),
        ("127.0.0.1", ("no address", "127.0.0.1:6379")),
        (":6379", ("no address", "host:port")),
        ("head:port", ("no address", "head:6379")),
        ("head:70000", ("no address", "unset RAY_ADDRESS")),
    ],
)
def test_an_address_that_is_none_is_refused_with_what_to_write(
    monkeypatch: pytest.MonkeyPatch, address: str, parts: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError) as refused:
        ray_address()
    text = one_line(refused)
    assert text.startswith(f"RAY_ADDRESS={address} is ")
    assert all(part in text for part in parts), text


@pytest.mark.parametrize(
    ("given", "address"),
    [(None, "local"), ("", "local"), ("local", "local"), ("auto", "auto"), (" 10.0.0.5:6379 ", "10.0.0.5:6379"),
     ("[::1]:6379", "[::1]:6379"), ("ray-head.example:6379", "ray-head.example:6379")],
)  # fmt: skip
def test_addresses_of_clusters_are_taken(
    monkeypatch: pytest.MonkeyPatch, given: str | None, address: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if given is not None:
        monkeypatch.setenv("RAY_ADDRESS", given)
    assert ray_address() == address


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short folder in which a Ray of this machine would lie."""
    place = Path(f"/tmp/s{os.getpid()}")
    place.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(place))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield place
    place.rmdir()


def test_a_machine_on_which_ray_starts_passes(folder: Path) -> None:
    check_machine()


def test_a_folder_too_long_for_sockets_is_refused_by_the_bytes_that_are_too_many(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(folder / ("é" * 40)))
    with pytest.raises(ClusterError, match=r"sockets below .* bytes.*RAY_TMPDIR.*such as /tmp") as refused:
        check_machine()
    longest = int(one_line(refused).partition(" bytes")[0].rpartition(" ")[2])
    too_many = longest - 107
    letters = 40 - -(-too_many // 2)
    monkeypatch.setenv("RAY_TMPDIR", str(folder / ("é" * letters)))
    check_machine()


def test_a_folder_that_is_a_file_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", __file__)
    with pytest.raises(ClusterError, match=r"is no folder that this user may write into; set RAY_TMPDIR"):
        check_machine()


def test_a_full_disk_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(total=10**12, used=10**12 - 10**6, free=10**6)
    monkeypatch.setattr(surroundings.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(ClusterError, match=rf"1 MiB are free on the disk of {folder}.*RAY_TMPDIR"):
        check_machine()


def test_a_machine_without_shared_memory_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "SHARED_MEMORY", folder / "shm")
    with pytest.raises(ClusterError, match=r"there is no .*shm.*--shm-size"):
        check_machine()


def test_a_port_at_which_nobody_listens_is_told_after_one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []

    def create_connection(address: tuple[str, int], timeout: float) -> socket.socket:
        tried.append(timeout)
        return create(address, timeout)

    create = socket.create_connection
    monkeypatch.setattr(surroundings.socket, "create_connection", create_connection)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ClusterError, match=rf"RAY_ADDRESS={address}: no Ray listens there.*ray status"):
            check_reached(address)
        assert tried == [surroundings.ANSWER_SECONDS] and tried[0] < 6
        taken.listen()
        check_reached(address)


def test_a_machine_that_is_unknown_is_told_by_name() -> None:
    with pytest.raises(ClusterError, match=r"there is no machine 'no-such-host\.invalid'"):
        check_reached("no-such-host.invalid:6379")
