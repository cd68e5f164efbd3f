"""Manifests: identity is everything that decides an output and nothing else; no changed bit is read."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.errors import ConfigError, StorageError
from behaviorlm_ray.stages import manifests
from behaviorlm_ray.stages.manifests import FileRecord, Manifest, fingerprint

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
CONFIGS = st.dictionaries(st.text(), JSON_VALUES, max_size=4)


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "stage": "prepare",
        "version": 1,
        "fingerprint": "f" * 64,
        "attempt": "a1",
        "config": {"name": "é\u2028", "share": 0.1},
        "inputs": {"log": "0" * 64},
        "files": {"part.arrow": FileRecord(bytes=3, sha256="ab")},
        "rows": {"events": 3},
        "metrics": {"loss": 0.1 + 0.2, "none": None},
        "warnings": [],
        "versions": {},
        "started": "2026-01-01T00:00:00+00:00",
        "duration_seconds": 1.5,
        "cost": {},
    }
    return Manifest(**{**values, **changes})


@given(config=CONFIGS)
def test_fingerprint_ignores_the_order_of_keys(config: dict[str, Any]) -> None:
    reordered = dict(reversed(list(config.items())))
    assert fingerprint("a", 1, config, {"x": "1", "y": "2"}) == fingerprint(
        "a", 1, reordered, {"y": "2", "x": "1"}
    )


@given(one=CONFIGS, other=CONFIGS)
def test_fingerprint_differs_for_configs_that_differ_as_json(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    same_json = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint("a", 1, one, {}) == fingerprint("a", 1, other, {})) == same_json


def test_fingerprint_depends_on_name_version_config_and_inputs() -> None:
    made = {
        fingerprint("a", 1, {"k": 1}, {"x": "1"}),
        fingerprint("b", 1, {"k": 1}, {"x": "1"}),
        fingerprint("a", 2, {"k": 1}, {"x": "1"}),
        fingerprint("a", 1, {"k": 2}, {"x": "1"}),
        fingerprint("a", 1, {"k": "1"}, {"x": "1"}),
        fingerprint("a", 1, {"k": 1}, {"x": "2"}),
        fingerprint("a", 1, {"k": 1}, {"y": "1"}),
        fingerprint("a", 1, {"k": 1}, {}),
    }
    assert len(made) == 8


def test_fingerprint_is_the_same_in_another_process() -> None:
    config = {"names": ["é", "b"], "share": 0.1, "nested": {"z": None, "a": True}}
    script = (
        "import json, sys; from behaviorlm_ray.stages.manifests import fingerprint; "
        "print(fingerprint('a', 1, json.loads(sys.argv[1]), {}))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script, json.dumps(config)], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert printed == fingerprint("a", 1, config, {})


@pytest.mark.parametrize(
    "value", [{1: "x"}, {"k": {2: 1}}, {"k": [{None: 1}]}, {"k": Path("x")}, {"k": math.nan}]
)
def test_an_identity_that_json_cannot_hold_without_loss_is_refused(value: dict[Any, Any]) -> None:
    with pytest.raises(ConfigError, match="plain JSON values"):
        fingerprint("a", 1, value, {})


def test_manifest_reads_back_as_written_and_no_changed_bit_is_accepted() -> None:
    content = manifests.encode_manifest(manifest())
    assert manifests.decode_manifest(content) == manifest()
    for position in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[position] ^= 1 << bit
            with pytest.raises(StorageError, match=r"manifest\.json is damaged"):
                manifests.decode_manifest(bytes(changed))


def test_no_shortened_or_grown_manifest_is_accepted() -> None:
    content = manifests.encode_manifest(manifest())
    for changed in [*(content[:length] for length in range(len(content))), content + b"\n", b"[]", b"null"]:
        with pytest.raises(StorageError, match=r"manifest\.json is damaged"):
            manifests.decode_manifest(changed)


@given(metrics=CONFIGS, config=CONFIGS)
def test_any_plain_metrics_and_config_read_back(metrics: dict[str, Any], config: dict[str, Any]) -> None:
    written = manifest(metrics=metrics, config=config)
    assert manifests.decode_manifest(manifests.encode_manifest(written)) == written


def test_content_hash_depends_on_files_only() -> None:
    base = manifest().content_hash
    assert manifest(attempt="a2", started="later", metrics={}, duration_seconds=9.0).content_hash == base
    assert manifest(files={"part.arrow": FileRecord(bytes=3, sha256="ac")}).content_hash != base
    assert manifest(files={"other.arrow": FileRecord(bytes=3, sha256="ab")}).content_hash != base


def test_numpy_paths_and_non_finite_values_become_plain() -> None:
    value = {
        "loss": np.float32(0.5),
        "counts": np.array([1, 2]),
        "flag": np.True_,
        "missing": float("nan"),
        "also": np.float64("inf"),
        "path": Path("a/b"),
        3: (1, [np.int64(2)]),
    }
    plain = manifests.plain_values(value)
    expected = {
        "loss": 0.5,
        "counts": [1, 2],
        "flag": True,
        "missing": None,
        "also": None,
        "path": "a/b",
        "3": [1, [2]],
    }
    assert plain == expected
    assert json.loads(json.dumps(plain, allow_nan=False)) == expected


def test_reading_the_manifest_of_an_unfinished_or_damaged_stage_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"has not finished; run its job again"):
        manifests.read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_bytes(manifests.encode_manifest(manifest())[:-10])
    with pytest.raises(StorageError, match=r"damaged.*; run its job again to replace it"):
        manifests.read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_bytes(manifests.encode_manifest(manifest()))
    assert manifests.read_manifest(tmp_path) == manifest()


def test_versions_name_python_and_what_is_installed() -> None:
    versions = manifests.package_versions()
    assert versions["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert versions["numpy"] == np.__version__
