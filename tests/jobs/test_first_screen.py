"""What a person sees first comes without the heavy libraries: help, a mistyped key, a file that is not there; a plan
without those that only the work itself needs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from behaviorlm_ray.commands.__main__ import commands
from tests.platform.small_runs import log_rows, run_data, save_base, write_conversations, write_log

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ["torch", "transformers", "tokenizers", "peft", "deepspeed", "ray", "boto3", "botocore", "optuna"]
HEAVY += ["vl_convert", "scipy", "sklearn", "pandas", "polars", "pyarrow.dataset", "pyarrow.parquet"]
FOR_THE_WORK = {"ray", "deepspeed", "vl_convert", "optuna", "sklearn", "polars"}
FOR_NETWORKS = {"scipy"}
"""A plan lays out a network to hold the headers of the weights against it."""
FOR_ADAPTERS = {"peft"}

RUN = [
    ["--config", "jobs/configs/demo.yaml", "--evnts.user=x", "--events.order.time_zone=UTC"],
    ["--config", "absent.yaml"],
    [
        "--config",
        "jobs/configs/demo.yaml",
        "--dry-run",
        "--a_tuning.epochs=none",
        "--storage.root=s3://bucket/a",
    ],
]
SEARCH = [
    ["--config", "jobs/configs/search/demo.yaml", "--bugdet.trials=2"],
    ["--config", "jobs/configs/search/demo.yaml", "--dry-run", "--run.a_tuning={epochz: 2}"],
    ["--config", "absent.yaml"],
    ["--config", "jobs/configs/search/demo.yaml", "--dry-run", "--base=absent.yaml"],
]
STUDY = [
    ["--config", "jobs/configs/study/few_shot.yaml", "--sedes=[1]"],
    ["--config", "absent.yaml"],
]
PAPER = [
    ["--config", "jobs/configs/paper/paper.yaml", "--onyl=[figure_2]"],
    ["--config", "absent.yaml"],
]
OTHERS = {
    "search": SEARCH,
    "study": STUDY,
    "paper": PAPER,
    "export": [["--rn=runs/demo"], ["--run", "runs/absent", "--to", "absent"]],
    "predict": [
        ["--modl=exported", "--log=a.csv", "--to=out"],
        ["--model", "absent", "--log", "a.csv", "--to", "out"],
        ["--model", "s3://bucket/a", "--log", "a.csv", "--to", "out", "--every", "--since=2024-01-01"],
    ],
    "check": [
        ["--model=exported", "--log=a.csv", "--limts.unseen_share=1"],
        ["--model", "absent", "--log", "a.csv", "--recalibrate"],
        ["--model", "absent", "--log", "a.csv"],
    ],
    "inspect": [["--mapping", "absent.yaml"], ["--rows", "0", "log.csv"], []],
    "serve": [["--modl=x"], ["--model=absent"], ["--model=.", "--dry-run"], ["--model=x", "--host=0.0.0.0"]],
    "report": [
        ["--too=x"],
        ["runs/absent"],
        ["runs/absent", "runs/absent", "--to", "x.html"],
        ["runs/absent", "--record", "x.json"],
        ["runs/absent", "--record", "x.json", "--command", "make demo"],
    ],
    "status": [["--rot=runs"]],
    "world": [["--usrs=3"], ["--generator", "third"], ["--users=0"]],
    "pretrain": [["--folder=a", "--stps=3"], ["--check", "absent"]],
}
"""Command lines of a job that are refused; those of all other jobs are RUN."""

DRIVER = f"""
import gc, json, runpy, sys

gc.disable()  # what is imported stays
loaded, told = set(), []
for job, arguments in json.loads(sys.argv[1]):
    sys.argv[:] = [job, *arguments]
    try:
        runpy.run_module(f"jobs.{{job}}", run_name="__main__")
    except SystemExit as ended:
        new = [name for name in {HEAVY!r} if name in sys.modules and name not in loaded]
        loaded.update(new)
        told.append([ended.code, new])
print(json.dumps(told))
"""


def first_screens(command_lines: list[tuple[str, list[str]]]) -> list[Any]:
    """(exit status, heavy modules that came with it) of each job with its arguments, one after the other in one
    process of their own.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(command_lines)],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    told: list[Any] = json.loads(ended.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def screens_of_jobs() -> dict[str, list[Any]]:
    """What `first_screens` tells of the help of each job, and of each of its command lines that is refused."""
    typed = [
        (job, arguments)
        for job in commands(ROOT / "pyproject.toml")
        for arguments in [["--help"], *OTHERS.get(job, RUN)]
    ]
    told: dict[str, list[Any]] = {}
    for (job, _), screen in zip(typed, first_screens(typed), strict=True):
        told.setdefault(job, []).append(screen)
    return told


@pytest.mark.parametrize("job", commands(ROOT / "pyproject.toml"))
def test_help_and_what_is_refused_load_nothing_heavy(job: str, screens_of_jobs: dict[str, list[Any]]) -> None:
    told = screens_of_jobs[job]
    assert len(told) == 1 + len(OTHERS.get(job, RUN))
    assert not [module for _, loaded in told for module in loaded]
    statuses = [status for status, _ in told]
    assert statuses[0] == 0
    assert all(statuses[1:]), statuses


def test_what_only_prints_a_configuration_loads_nothing_heavy() -> None:
    configs = {"run": "demo", "search": "search/demo", "study": "study/few_shot", "paper": "paper/paper"}
    typed = [
        (job, arguments)
        for job, config in configs.items()
        for arguments in (["--config", f"jobs/configs/{config}.yaml", "--print-config"], ["--print-schema"])
    ]
    assert first_screens(typed) == [[0, []]] * len(typed)


def test_a_look_at_a_log_loads_neither_torch_nor_ray(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", log_rows(1, users=12))
    look = [str(log), "--to", str(tmp_path / "config.yaml"), "--html", str(tmp_path / "look.html")]
    [[status, loaded]] = first_screens([("inspect", look)])
    assert status == 0
    # the reader, the plots of the page, and what Arrow looks for where it is installed
    assert set(loaded) <= {"pyarrow.parquet", "vl_convert", "pandas"}


def test_a_plan_loads_what_reads_inputs_and_not_what_does_the_work(tmp_path: Path) -> None:
    """What is heavy is seen where it is loaded, so the test above can fail."""
    log = write_log(tmp_path / "log.csv", log_rows(1, users=12))
    data = run_data(tmp_path / "runs", save_base(tmp_path / "base"), log)
    data["auxiliary"] = [{"name": "talk", "paths": [str(write_conversations(tmp_path / "talk.jsonl"))]}]
    data["evaluation"]["arms"] = ["untuned", "one_stage", "a_tuned", "ab_tuned", "ab_random"]
    data["difficulty"] = {"source": "cross_fit"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    dry_run = ["--config", str(tmp_path / "config.yaml"), "--dry-run"]
    told = first_screens(
        [
            ("run", [*dry_run, "--model.adaptation=full"]),
            ("run", [*dry_run, "--model.adaptation=lora"]),
            ("prepare", [*dry_run, f"--events.paths=[{tmp_path}/absent.csv]"]),
        ]
    )
    (full, of_full), (lora, of_lora), (absent, of_absent) = told
    assert (full, lora, absent) == (0, 0, 2)
    assert not (FOR_THE_WORK | FOR_ADAPTERS).intersection(of_full)
    assert not FOR_THE_WORK.intersection([*of_lora, *of_absent])
    assert {"torch", "transformers"} | FOR_NETWORKS <= set(of_full) and set(of_lora) >= FOR_ADAPTERS
