"""What lies around the pods: nodes with disks, the device plugin, and a queue from which a run starts whole."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.openapi import kuberay_schema, problems
from tests.cluster.test_kuberay import documents

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "cluster.md").read_text()
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 1e-3, "": 1.0}
SUBMITTER = {"cpu": "1", "memory": "1Gi"}
"""More than the pod asks for that KubeRay submits a job from (500m, 200Mi)."""
PLUGIN = {"gfd": {"enabled"}, "nfd": {"worker"}, "tolerations": set()}
"""What is set of the chart's values, which has keys of these names in version 0.17."""
KUEUE = {
    "ResourceFlavor": set(),
    "ClusterQueue": {"namespaceSelector", "resourceGroups"},
    "LocalQueue": {"clusterQueue"},
}
"""Keys of `spec` by Kueue's API v1beta1, of which no schema is here."""


def amount(text: Any) -> float:
    match = re.fullmatch(r"([\d.]+)(\D*)", str(text))
    assert match is not None, text
    return float(match[1]) * UNITS[match[2]]


def gang() -> dict[str, Any]:
    found: dict[str, Any] = documents("kuberay-gang.yaml")["RayJob"]
    return found


def pods(spec: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """(how many at most, pod) of a cluster."""
    groups = [(1, spec["headGroupSpec"]), *((each["maxReplicas"], each) for each in spec["workerGroupSpecs"])]
    return [(count, group["template"]["spec"]) for count, group in groups]


def requests(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["containers"][0]["resources"]["requests"]
    return found


def test_kuberay_accepts_the_gang_and_a_misspelt_key_is_found() -> None:
    schema = kuberay_schema("rayjobs")["properties"]["spec"]
    job = gang()
    assert not problems(job["spec"], schema)
    job["spec"]["ttlSecondAfterFinished"] = 1
    [problem] = problems(job["spec"], schema)
    assert "ttlSecondAfterFinished" in problem


def test_a_gang_is_of_fixed_size_held_back_and_removed_in_the_end() -> None:
    job = gang()
    spec = job["spec"]["rayClusterSpec"]
    assert not spec["enableInTreeAutoscaling"]
    for group in spec["workerGroupSpecs"]:
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    assert job["spec"]["suspend"]  # without Kueue nothing starts, rather than a part
    assert job["spec"]["shutdownAfterJobFinishes"] and job["spec"]["ttlSecondsAfterFinished"] > 0
    queue = {one["kind"]: one for one in yaml.safe_load_all((ROOT / "cluster" / "kueue.yaml").read_text())}
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == queue["LocalQueue"]["metadata"]["name"]


def test_the_pods_of_a_gang_are_those_of_the_other_files() -> None:
    job, cluster = gang()["spec"], documents("kuberay-cluster.yaml")["RayCluster"]["spec"]
    mine = job["rayClusterSpec"]
    assert mine["headGroupSpec"] == cluster["headGroupSpec"]
    assert mine["rayVersion"] == cluster["rayVersion"] and mine["authOptions"] == cluster["authOptions"]
    [gpu] = mine["workerGroupSpecs"]
    [theirs] = [group for group in cluster["workerGroupSpecs"] if group["groupName"] == "gpu-on-demand"]
    assert gpu["template"] == theirs["template"]
    assert job["entrypoint"] == documents("kuberay-job.yaml")["RayJob"]["spec"]["entrypoint"]
    assert (
        documents("kuberay-gang.yaml")["ServiceAccount"]
        == documents("kuberay-cluster.yaml")["ServiceAccount"]
    )


def test_the_quota_of_the_queue_holds_one_gang_and_not_two() -> None:
    found = {one["kind"]: one for one in yaml.safe_load_all((ROOT / "cluster" / "kueue.yaml").read_text())}
    assert {kind: set(one.get("spec", {})) for kind, one in found.items()} == KUEUE
    assert {one["apiVersion"] for one in found.values()} == {"kueue.x-k8s.io/v1beta1"}
    assert found["LocalQueue"]["spec"]["clusterQueue"] == found["ClusterQueue"]["metadata"]["name"]
    [group] = found["ClusterQueue"]["spec"]["resourceGroups"]
    [flavor] = group["flavors"]
    assert flavor["name"] == found["ResourceFlavor"]["metadata"]["name"]
    quota = {one["name"]: amount(one["nominalQuota"]) for one in flavor["resources"]}
    asked: Counter[str] = Counter()
    for count, pod in pods(gang()["spec"]["rayClusterSpec"]):
        asked.update({name: count * amount(value) for name, value in requests(pod).items()})
    assert set(quota) == set(group["coveredResources"]) == set(asked)
    asked.update({name: amount(value) for name, value in SUBMITTER.items()})
    for name, value in asked.items():
        assert value <= quota[name], name
    assert quota["nvidia.com/gpu"] < 2 * asked["nvidia.com/gpu"]


@pytest.mark.parametrize("file", ["kuberay-cluster.yaml", "kuberay-job.yaml", "kuberay-gang.yaml"])
def test_pods_ask_for_their_disk_and_the_nodes_have_it(file: str) -> None:
    found = documents(file)
    spec = found["RayCluster"]["spec"] if "RayCluster" in found else found["RayJob"]["spec"]["rayClusterSpec"]
    [node_class] = [one for one in _karpenter() if one["kind"] == "EC2NodeClass"]
    [disk] = node_class["spec"]["blockDeviceMappings"]
    assert disk["ebs"]["encrypted"]
    for _, pod in pods(spec)[1:]:
        asked = amount(requests(pod)["ephemeral-storage"])
        assert asked >= 200 * 2**30
        assert asked <= 0.85 * amount(disk["ebs"]["volumeSize"])  # the system, and what kubelet keeps free
    assert amount(requests(pods(spec)[0][1])["ephemeral-storage"]) >= 40 * 2**30


def _karpenter() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "cluster" / "karpenter.yaml").read_text()))


def test_the_nodes_of_karpenter_fit_the_pods() -> None:
    by_kind = {one["kind"]: one for one in _karpenter()}
    pool = by_kind["NodePool"]["spec"]
    pod_spec = pool["template"]["spec"]
    assert pod_spec["nodeClassRef"]["name"] == by_kind["EC2NodeClass"]["metadata"]["name"]
    assert by_kind["EC2NodeClass"]["spec"]["metadataOptions"]["httpTokens"] == "required"
    cluster = documents("kuberay-cluster.yaml")["RayCluster"]["spec"]
    groups = [group for group in cluster["workerGroupSpecs"] if "gpu" in group["groupName"]]
    assert pool["limits"]["nvidia.com/gpu"] == sum(group["maxReplicas"] for group in groups)
    offered = {one["key"]: set(one["values"]) for one in pod_spec["requirements"]}
    for group in groups:
        pod = group["template"]["spec"]
        assert all(value in offered[key] for key, value in pod["nodeSelector"].items())
        tolerated = {each["key"] for each in pod["tolerations"]}
        assert {taint["key"] for taint in pod_spec["taints"]} <= tolerated


def test_the_device_plugin_labels_gpus_and_starts_on_nodes_that_are_tainted() -> None:
    values = yaml.safe_load((ROOT / "cluster" / "nvidia-device-plugin.yaml").read_text())
    assert {
        name: set(value) if isinstance(value, dict) else set() for name, value in values.items()
    } == PLUGIN
    assert values["gfd"]["enabled"] is True
    taints = {taint["key"] for taint in _karpenter()[1]["spec"]["template"]["spec"]["taints"]}
    for tolerations in (values["tolerations"], values["nfd"]["worker"]["tolerations"]):
        assert taints <= {each["key"] for each in tolerations if each["operator"] == "Exists"}
    assert "--values cluster/nvidia-device-plugin.yaml" in GUIDE
