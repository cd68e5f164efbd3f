"""What each step did: written once in parts, whole again after a kill, and never another attempt's."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import StageFolder
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.lease import LeaseSeeker
from behaviorlm_ray.stages.manifests import canonical_json
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning import sharded_state, step_records
from behaviorlm_ray.tuning.checkpoint_writer import CheckpointWriter
from behaviorlm_ray.tuning.checkpoints import Checkpoint, newest_checkpoint
from behaviorlm_ray.tuning.rungs import continue_checkpoint
from behaviorlm_ray.tuning.step_folders import step_folder
from tests.platform.damage import flip_a_bit

IDENTITY = {"schedule": "a"}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_records, "STEPS", 3)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    state = {kind: {"weight": torch.zeros(1)} for kind in ("parameter", "exp_avg", "exp_avg_sq")}
    monkeypatch.setattr(sharded_state, "gather", lambda engine: state)
    monkeypatch.setattr(sharded_state, "fragments", lambda engine: [])


def trained(
    root: Location, steps: int, seconds: float, continued: Checkpoint | None = None
) -> list[dict[str, Any]]:
    """Steps with a checkpoint after each, as a worker makes them. Returns the records."""
    engine: Any = None
    records = [] if continued is None else list(continued.records)
    with CheckpointWriter(root, 2, IDENTITY, continued) as writer:
        for step in range(len(records), steps):
            records.append({"step": step, "seconds": seconds})
            writer.start(engine, step + 1, records)
    return records


def newest(root: Location, earlier: tuple[Location, ...] = ()) -> Checkpoint:
    found = newest_checkpoint(root, IDENTITY, print, earlier)
    assert found is not None
    return found


def parts_of(root: Location) -> list[str]:
    return storage.list_files(root / step_records.FOLDER)


def test_each_step_is_written_a_number_of_times_that_does_not_grow(
    root: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    encoded = step_records.encoded

    def counted(records: list[dict[str, Any]]) -> bytes:
        lines.append(len(records))
        return encoded(records)

    monkeypatch.setattr(step_records, "encoded", counted)
    records = trained(root, 20, 1.0)
    assert sum(lines) == 6 * 3 + sum(
        step % 3 for step in range(1, 21)
    )  # parts, and what is behind them each time
    assert len(parts_of(root)) == 6
    found = newest(root)
    assert found.records == records and found.step == 20 and len(found.parts) == 6


@pytest.mark.parametrize("own", [True, False])
def test_after_a_kill_the_records_are_those_of_the_steps_that_count(root: Location, own: bool) -> None:
    """Steps after the last checkpoint that verifies are done again, by this attempt or another, in another time."""
    first = trained(root / "first", 7, 1.0)
    flip_a_bit(root / "first" / step_folder(7) / "checkpoint.json", root)
    second = root / "first" if own else root / "second"
    continued = newest(second, (root / "first",))
    assert continued.step == 6
    records = trained(second, 11, 2.0, continued)
    found = newest(second)
    assert found.step == 11 and found.records == records
    assert [record["seconds"] for record in records] == [1.0] * 6 + [2.0] * 5 and records[:6] == first[:6]
    assert len(parts_of(second)) == 3
    storage.remove_folder(root / "first") if not own else None
    assert newest(second).records == records


def test_a_part_of_steps_done_again_has_another_name(tmp_path: Path) -> None:
    trained(tmp_path, 3, 1.0)
    flip_a_bit(tmp_path / step_folder(3) / "checkpoint.json", tmp_path)
    trained(tmp_path, 3, 2.0, newest(tmp_path))
    assert len(parts_of(tmp_path)) == 2 and [one["seconds"] for one in newest(tmp_path).records] == [1, 1, 2]


def test_a_damaged_part_makes_a_checkpoint_none(root: Location) -> None:
    trained(root, 4, 1.0)
    (name,) = parts_of(root)
    flip_a_bit(root / step_records.FOLDER / name, root)
    said: list[str] = []
    assert newest_checkpoint(root, IDENTITY, said.append) is None
    assert len(said) == 2 and all(name in line for line in said)


def test_a_checkpoint_of_the_format_before_is_gone_on_with(tmp_path: Path) -> None:
    records = trained(tmp_path, 2, 1.0)
    path = tmp_path / step_folder(2) / "checkpoint.json"
    body = json.loads(path.read_text())
    del body["checksum"], body["records"]
    body["format"] = 2
    path.write_text(json.dumps(body | {"checksum": hashlib.sha256(canonical_json(body)).hexdigest()}))
    continued = newest(tmp_path)
    assert continued.step == 2 and continued.records == records
    assert trained(tmp_path, 4, 2.0, continued) == newest(tmp_path).records and len(parts_of(tmp_path)) == 1


def test_a_name_that_leads_elsewhere_is_no_part(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"{}\n")
    digest = storage.hash_file(tmp_path / "outside")
    root = tmp_path / "checkpoints"
    assert step_records.damaged_parts(root, {"../../outside": digest}) == ["'../../outside' is no part"]
    step_records.copy_parts(root, tmp_path / "copied", ["../../outside"])
    assert storage.list_files(tmp_path / "copied") == []


def test_a_rung_takes_the_records_along(root: Location, tmp_path: Path) -> None:
    records = trained(root / "output" / "checkpoint", 7, 1.0)
    seeker = LeaseSeeker(tmp_path / "lease.json", 60).try_acquire()
    manifest: Any = type(
        "Manifest", (), {"rows": {"steps": 7}, "cost": {"tokens": 1.0, "tokens_continued": 0.0}}
    )
    folder = StageFolder(root / "later" / "output", root / "later" / "checkpoints", seeker)  # type: ignore[arg-type]
    continue_checkpoint(folder, StageOutput(manifest, root / "output", reused=False))
    storage.remove_folder(root / "output")
    assert newest(folder.checkpoints).records == records
