"""The RayService: KubeRay's schema of its cluster, Ray Serve's of its applications, and our own of their arguments."""

from typing import Any

import pytest
import yaml

from behaviorlm.config import validate_settings
from behaviorlm.service.access import check_address
from behaviorlm.service.settings import ServeSettings
from behaviorlm_ray.serving import deployment
from tests.cluster.openapi import kuberay_schema, problems
from tests.cluster.test_kuberay import documents

FILE = "kuberay-service.yaml"


def spec() -> dict[str, Any]:
    found: dict[str, Any] = documents(FILE)["RayService"]["spec"]
    return found


def test_kuberay_accepts_its_cluster_and_unknown_keys_are_found() -> None:
    assert spec().keys() == {"serveConfigV2", "rayClusterConfig"}
    schema = kuberay_schema("rayclusters")["properties"]["spec"]
    cluster = spec()["rayClusterConfig"]
    assert not problems(cluster, schema)
    cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["imagePullPolcy"] = "Always"
    [problem] = problems(cluster, schema)
    assert "imagePullPolcy" in problem


def test_its_cluster_is_that_of_the_other_files_but_for_what_serving_needs() -> None:
    mine, theirs = spec()["rayClusterConfig"], documents("kuberay-cluster.yaml")["RayCluster"]["spec"]
    assert documents(FILE)["ServiceAccount"] == documents("kuberay-cluster.yaml")["ServiceAccount"]
    assert mine.keys() == theirs.keys()
    groups = {"headGroupSpec", "workerGroupSpecs"}
    assert {key: mine[key] for key in mine.keys() - groups} == {
        key: theirs[key] for key in theirs.keys() - groups
    }
    [head], [other] = (each["headGroupSpec"]["template"]["spec"].pop("containers") for each in (mine, theirs))
    assert mine["headGroupSpec"] == theirs["headGroupSpec"]
    assert {key for key in other if head[key] != other[key]} == {"env", "ports"}


def test_a_replica_fits_on_a_pod_and_finds_a_token_there() -> None:
    config = yaml.safe_load(spec()["serveConfigV2"])
    assert config["http_options"] == {"host": "0.0.0.0", "port": 8000}
    [application] = config["applications"]
    assert application["import_path"] == f"{deployment.__name__}:{deployment.application.__name__}"
    settings = validate_settings(ServeSettings, application["args"], FILE)
    with pytest.raises(Exception, match="a token is needed"):
        check_address(settings, None)
    [group] = spec()["rayClusterConfig"]["workerGroupSpecs"]
    [container] = group["template"]["spec"]["containers"]
    assert settings.ray_serve.cpus <= int(container["resources"]["limits"]["cpu"])
    assert group["minReplicas"] >= settings.ray_serve.replicas
    names = {entry["name"] for entry in container["env"]}
    assert settings.token.environment in names


def test_ray_serve_accepts_its_applications() -> None:
    schema = pytest.importorskip("ray.serve.schema", reason="ray[serve] is not installed")
    config = yaml.safe_load(spec()["serveConfigV2"])
    assert schema.ServeDeploySchema(**config).applications[0].name == "behaviorlm"
