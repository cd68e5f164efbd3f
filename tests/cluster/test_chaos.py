"""Kills at chosen moments: the moment is met, differences are seen, and the cases of one seed change nothing."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer
from ray._private import ray_constants
from ray.cluster_utils import Cluster

from cluster.chaos import __main__ as command
from cluster.chaos.__main__ import is_good
from cluster.chaos.machines import Machines, kill
from cluster.chaos.matrix import MOMENTS, STAGES, VICTIMS, Case, cases, runs
from cluster.chaos.outcome import Outcome, difference
from cluster.chaos.proxy import Tripwire, Tripwires, tripping_proxy
from cluster.chaos.runs import Chaos, Kills
from cluster.local_cluster import ROOT


def test_three_seeds_are_over_a_hundred_cases_with_every_victim_and_stage() -> None:
    made = cases([0, 1, 2])
    assert len({(case.name, case.seed) for case in made}) == len(made) > 100
    assert {case.victim for case in made} == set(VICTIMS)
    assert {case.moment.stage for case in made} == set(STAGES) - {"conversations"}
    assert [case.number for case in made] == [case.number for case in cases([0, 1, 2])]
    assert all(1 <= case.number <= case.moment.last for case in made)


def test_a_run_is_killed_at_its_moments_in_the_order_of_the_pipeline() -> None:
    made = cases([0, 1])
    grouped = runs(made)
    assert len(grouped) == 2 * len(VICTIMS)
    assert sorted(case.name for run in grouped for case in run) == sorted(case.name for case in made)
    order = {moment.name: position for position, moment in enumerate(MOMENTS)}
    for run in grouped:
        assert len({(case.victim, case.seed) for case in run}) == 1
        positions = [order[case.moment.name] for case in run]
        phases = [case.phase for case in run]
        assert positions == sorted(positions) and phases == sorted(phases)
    assert runs(made, apart=True) == [[case] for case in made]


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_the_chosen_request_is_held_until_released_and_then_lost(endpoint: str) -> None:
    with tripping_proxy(endpoint) as proxy:
        client = boto3.client(
            "s3",
            endpoint_url=proxy.endpoint,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}),
        )
        client.create_bucket(Bucket="chosen")
        wire = Tripwire(r"/stages/score-[0-9a-f]+/.*windows-", 2)
        proxy.tripwires = Tripwires([wire])

        def put(name: str) -> None:
            client.put_object(Bucket="chosen", Key=f"root/{name}", Body=b"x")

        put("stages/score-12ab/attempts/1/windows-1")
        put("stages/score-12ab/attempts/1/other")
        assert not wire.tripped.is_set()
        failures: list[Exception] = []

        def held() -> None:
            try:
                put("stages/score-12ab/attempts/1/windows-2")
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=held)
        thread.start()
        assert wire.tripped.wait(20) and wire.path.endswith("windows-2")
        put("stages/score-12ab/attempts/1/windows-3")  # others pass meanwhile
        assert thread.is_alive()
        wire.released.set()
        thread.join(20)
        assert failures
        found = client.list_objects_v2(Bucket="chosen")["Contents"]
        names = {entry["Key"].rpartition("/")[2] for entry in found}
        assert {"windows-1", "other", "windows-3"} <= names and "windows-2" not in names


def test_wires_come_in_order_one_at_a_time_and_a_missed_one_is_passed_over() -> None:
    progress, upload = Tripwire("a/progress", 2, 2), Tripwire("a/step", 1, 2)
    commit, later = Tripwire("a/manifest", 1, 3), Tripwire("b/progress", 1, 4)
    wires = Tripwires([progress, upload, commit, later])
    assert wires.held("GET", "a/progress") is wires.held("PUT", "a/progress") is None
    assert wires.held("PUT", "a/step") is None  # not its turn yet
    assert wires.held("PUT", "a/progress") is progress and progress.tripped.is_set()
    assert wires.held("PUT", "a/step") is None  # nobody is ready for another
    wires.go_on()
    assert wires.held("PUT", "a/manifest") is commit and commit.path == "a/manifest"
    assert upload.tripped.is_set() and not upload.path  # missed
    wires.go_on(again=commit)
    assert not commit.tripped.is_set()
    assert wires.held("PUT", "a/manifest") is commit
    wires.go_on()
    assert wires.held("PUT", "b/progress") is later
    wires.go_on()
    assert wires.held("PUT", "b/progress") is None


def test_each_moment_kills_a_living_driver_once_and_what_never_came_has_no_row() -> None:
    def driver() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    select, commit, tune = (
        case for case in cases([0], ["driver-select", "driver-commit_select", "driver-b_tune"])
    )
    around = SimpleNamespace(machines=None, proxy=SimpleNamespace(tripwires=None))
    first, second = driver(), driver()
    try:
        kills = Kills([select, commit, tune], cast(Chaos, around), first)
        manifest = "/bucket/run/stages/select-0123abcd/manifest.json"
        wire = around.proxy.tripwires.held(
            "PUT", "/bucket/run/stages/select-0123abcd/attempts/1/selection.parquet"
        )
        assert wire.released.wait(20) and first.wait(5) == -9
        while (late := around.proxy.tripwires.held("PUT", manifest)) is None:  # from the dead driver's worker
            time.sleep(0.01)
        assert late.tripped.is_set()
        while late.tripped.is_set():
            time.sleep(0.01)
        kills.driver = second
        while (wire := around.proxy.tripwires.held("PUT", manifest)) is None:
            time.sleep(0.01)
        assert wire.released.wait(20) and second.wait(5) == -9
        kills.end()
        assert kills.rows == {
            select: {
                "killed": True,
                "request": "/bucket/run/stages/select-0123abcd/attempts/1/selection.parquet",
            },
            commit: {"killed": True, "request": manifest},
        }
    finally:
        for process in (first, second):
            process.kill()
            process.wait()


def test_a_killed_process_is_confirmed_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert kill(process.pid) == [process.pid]
    assert process.wait(5) == -9
    assert kill(process.pid) == []  # nothing was killed now


def _node_of(raylet: subprocess.Popen[bytes]) -> Any:
    return SimpleNamespace(
        all_processes={ray_constants.PROCESS_TYPE_RAYLET: [SimpleNamespace(process=raylet)]}
    )


def test_a_raylet_that_was_dead_before_the_kill_is_confirmed_only_after_a_notice() -> None:
    def machines(raylet: subprocess.Popen[bytes]) -> tuple[Machines, Any]:
        node = _node_of(raylet)
        nodes = [node]

        def remove_node(removed: Any, allow_graceful: bool) -> None:
            nodes.remove(removed)
            raylet.kill()
            raylet.wait()

        cluster = SimpleNamespace(worker_nodes=nodes, remove_node=remove_node)
        return Machines(cast(Cluster, cluster), [node]), node

    def raylet(seconds: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])

    living = raylet(60)
    made, node = machines(living)
    assert made.kill_node(node) == [living.pid]
    assert made.nodes == [] and living.wait(5) == -9
    for had_notice in (False, True):
        dead = raylet(0)
        dead.wait(20)
        made, node = machines(dead)
        with pytest.raises(RuntimeError, match="dead before the notice"):
            made.give_notice(node)
        assert made.kill_node(node, had_notice) == ([dead.pid] if had_notice else [])


@pytest.mark.parametrize("is_resumed", [True, False])
def test_cases_that_were_not_good_are_run_again_and_their_rows_replaced(
    is_resumed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(name: str, resumed: bool) -> dict[str, Any]:
        of_run = {"samples_missing": 0, "samples_repeated": 0, "metrics_equal": True, "timeouts": 0}
        return {"name": name, "seed": 0, "killed": True, "resumed": resumed, **of_run}

    ran: list[list[str]] = []

    def run(disturbed: list[Case]) -> list[dict[str, Any]]:
        ran.append([case.name for case in disturbed])
        return [row(case.name, is_resumed) for case in disturbed]

    monkeypatch.setattr(command, "chaos", lambda folder: nullcontext(SimpleNamespace(run=run)))
    summary = tmp_path / "summary.json"
    before = [row("driver-score", True), row("driver-select", False), row("raylet-select", False)]
    summary.write_text(json.dumps({"cases": before}))
    arguments = ["--only", "driver-score", "driver-select", "raylet-select", "--folder", str(tmp_path)]
    assert command.main(arguments) == (0 if is_resumed else 1)
    assert sorted(ran) == [["driver-select"], ["raylet-select"]]
    rows = {case["name"]: case["resumed"] for case in json.loads(summary.read_text())["cases"]}
    assert rows == {"driver-score": True, "driver-select": is_resumed, "raylet-select": is_resumed}
    assert len(json.loads(summary.read_text())["cases"]) == 3
    ran.clear()
    command.main(arguments)
    assert bool(ran) is not is_resumed  # nothing is run again once all are good


def test_a_missing_a_repeated_sample_and_another_metric_are_seen() -> None:
    expected = Outcome({"a_tune": Counter(a=2, b=1), "score": Counter(c=1)}, {"/m/all": 0.5})
    same = Outcome({"a_tune": Counter(a=2, b=1), "score": Counter(c=1)}, {"/m/all": 0.5004})
    assert difference(same, expected) == {"samples_missing": 0, "samples_repeated": 0, "metrics_equal": True}
    other = Outcome({"a_tune": Counter(a=1, b=2)}, {"/m/all": 0.502})
    assert difference(other, expected) == {
        "samples_missing": 2,
        "samples_repeated": 1,
        "metrics_equal": False,
    }
    assert not difference(Outcome(same.samples, {}), expected)["metrics_equal"]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(9000)
def test_every_case_of_a_seed_ends_as_the_undisturbed_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.chaos", "--seeds", "0", "--folder", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    rows = json.loads((tmp_path / "summary.json").read_text())["cases"]
    assert [row for row in rows if not is_good(row)] == [], done.stdout[-4000:]
    assert len(rows) == len(cases([0])) and done.returncode == 0
