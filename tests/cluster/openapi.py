"""Kubernetes' OpenAPI schemas as strict JSON schemas: keys that a schema does not name are refused.

Kubernetes itself prunes unknown keys, so a misspelt one would be dropped without a word.
"""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

SCHEMAS = Path(__file__).resolve().parents[3] / "shared" / "schemas" / "kuberay"


def kuberay_schema(name: str) -> dict[str, Any]:
    """KubeRay's schema of a resource (rayclusters, rayjobs), made strict; skips the test where there is none."""
    path = SCHEMAS / f"{name}.v1.schema.json"
    if not path.is_file():
        pytest.skip(f"KubeRay's schemas are not part of this repository, and {path} does not exist")
    return strict(json.loads(path.read_text(encoding="utf-8")))


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as JSON schema draft 7, with unknown keys refused wherever keys are named."""
    result = copy.deepcopy(schema)
    _make_strict(result)
    return result


def problems(value: Any, schema: dict[str, Any]) -> list[str]:
    """What is wrong, each with the path of the key."""
    found = jsonschema.Draft7Validator(schema).iter_errors(value)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


def _make_strict(schema: Any) -> None:
    if not isinstance(schema, dict):
        return
    if schema.get("x-kubernetes-int-or-string"):
        schema["type"] = ["integer", "string"]
    if "properties" in schema:
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for child in schema["properties"].values():
            _make_strict(child)
    for key in ("items", "additionalProperties"):
        _make_strict(schema.get(key))
