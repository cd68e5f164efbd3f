"""The KubeRay files against KubeRay's schemas and the autoscaler, and what no schema says."""

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from tests.cluster.openapi import kuberay_schema, problems
from tests.cluster.scheduling import launched

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
FILES = ("kuberay-cluster.yaml", "kuberay-job.yaml", "kuberay-redis.yaml")


def documents(name: str) -> dict[str, dict[str, Any]]:
    """The file's objects by kind."""
    return {one["kind"]: one for one in yaml.safe_load_all((CLUSTER / name).read_text())}


def cluster_spec() -> dict[str, Any]:
    return documents("kuberay-cluster.yaml")["RayCluster"]["spec"]


def referenced_secrets(value: Any) -> set[tuple[str, str]]:
    """(name, key) of every secret that an object reads."""
    if isinstance(value, list):
        return set().union(*map(referenced_secrets, value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*map(referenced_secrets, value.values()))
    if "secretKeyRef" in value:
        found.add((value["secretKeyRef"]["name"], value["secretKeyRef"]["key"]))
    if "secretName" in value:
        found.add((value["secretName"], "auth_token"))  # the key that KubeRay reads
    return found


@pytest.mark.parametrize(
    ("file", "kind", "schema"),
    [
        ("kuberay-cluster.yaml", "RayCluster", "rayclusters"),
        ("kuberay-job.yaml", "RayJob", "rayjobs"),
    ],
)
def test_kuberay_accepts_it_and_unknown_keys_are_found(file: str, kind: str, schema: str) -> None:
    resource, checked = documents(file)[kind], kuberay_schema(schema)
    assert resource["apiVersion"] == "ray.io/v1"
    assert not problems(resource["spec"], checked["properties"]["spec"])
    cluster = resource["spec"] if kind == "RayCluster" else resource["spec"]["rayClusterSpec"]
    cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["imagePullPolcy"] = "Always"
    [problem] = problems(resource["spec"], checked["properties"]["spec"])
    assert "imagePullPolcy" in problem


def test_redis_has_a_valid_pod_and_only_known_keys() -> None:
    spec = kuberay_schema("rayclusters")["properties"]["spec"]["properties"]
    found = documents("kuberay-redis.yaml")
    redis = found["StatefulSet"]["spec"]
    pod = spec["headGroupSpec"]["properties"]["template"]["properties"]["spec"]
    assert not problems(redis["template"]["spec"], pod)
    assert redis.keys() == {"serviceName", "replicas", "selector", "template", "volumeClaimTemplates"}
    assert redis["selector"]["matchLabels"] == redis["template"]["metadata"]["labels"]
    service = found["Service"]
    assert service["spec"]["selector"] == redis["template"]["metadata"]["labels"]
    assert service["spec"]["type"] == "ClusterIP"
    address = f"redis://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert cluster_spec()["gcsFaultToleranceOptions"]["redisAddress"] == address


@pytest.mark.parametrize("file", FILES)
def test_every_secret_that_is_read_is_made_by_a_command_in_the_header(file: str) -> None:
    text = (CLUSTER / file).read_text()
    commands = re.findall(
        r"^#   kubectl create secret generic (\S+) --from-literal=(\w+)=", text, re.MULTILINE
    )
    read = set().union(*map(referenced_secrets, documents(file).values()))
    assert read
    assert read == set(commands)
    assert "kind: Secret" not in text  # a secret in a file ends up in version control


def test_the_job_runs_on_the_same_cluster() -> None:
    job, cluster = documents("kuberay-job.yaml"), documents("kuberay-cluster.yaml")
    assert job["RayJob"]["spec"]["rayClusterSpec"] == cluster["RayCluster"]["spec"]
    assert job["ServiceAccount"] == cluster["ServiceAccount"]
    spec = job["RayJob"]["spec"]
    assert spec["shutdownAfterJobFinishes"]
    assert spec["backoffLimit"] > 0
    config = re.search(r"--config (\S+)", spec["entrypoint"])
    assert config is not None
    assert (CLUSTER.parent / Path(config[1]).relative_to("/opt/behaviorlm")).is_file()


def test_version_image_and_authentication_agree_with_what_is_installed() -> None:
    spec = cluster_spec()
    assert spec["rayVersion"] == metadata.version("ray")
    assert spec["authOptions"]["mode"] == "token"
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    pods = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    containers = [group["template"]["spec"]["containers"] for group in pods]
    assert {container["image"] for each in containers for container in each} == {"REPLACE_WITH_IMAGE"}


def test_every_pod_is_unprivileged_and_uses_an_account_that_is_defined() -> None:
    accounts = {documents("kuberay-cluster.yaml")["ServiceAccount"]["metadata"]["name"]}
    spec = cluster_spec()
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        assert pod["serviceAccountName"] in accounts
        assert pod["restartPolicy"] == "Never"  # autoscaler v2 replaces pods itself
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["runAsNonRoot"] and not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"] == container["resources"]["requests"]


def test_groups_range_from_none_up_and_gpu_pods_tolerate_gpu_nodes() -> None:
    spec = cluster_spec()
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] == 0 < group["maxReplicas"]
        assert group["replicas"] == group["minReplicas"]
        pod = group["template"]["spec"]
        if "gpu" in group["groupName"]:
            assert "nvidia.com/gpu" in {toleration["key"] for toleration in pod["tolerations"]}
            assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_autoscaler_reads_it_and_starts_spot_gpus_first() -> None:
    resource = documents("kuberay-cluster.yaml")["RayCluster"]
    assert resource["spec"]["autoscalerOptions"]["version"] == "v2"
    resource["metadata"]["namespace"] = "default"
    config = _derive_autoscaling_config_from_ray_cr(resource)
    gpu = {"CPU": 4.0, "GPU": 1.0}
    assert launched(config, [gpu] * 2) == {"gpu-spot": 2}
    assert launched(config, [gpu] * 2, failed=["gpu-spot"]) == {"gpu-on-demand": 2}
    assert launched(config, [{"CPU": 1.0}] * 20) == {"cpu": 2}
    assert launched(config, [gpu] * 50) == {"gpu-spot": 8, "gpu-on-demand": 4}
