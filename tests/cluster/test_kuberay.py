"""The KubeRay files against KubeRay's schemas and the autoscaler, and what no schema says."""

import re
import runpy
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from ray._private import ray_constants
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from cluster.demo import s3_endpoint
from tests.cluster.openapi import kuberay_schema, problems
from tests.cluster.scheduling import launched
from tests.platform.small_runs import log_rows, run_data, save_base, write_log

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
GUIDE = (ROOT / "docs" / "cluster.md").read_text()
DRAIN_SECONDS = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
FILES = (
    "kuberay-cluster.yaml",
    "kuberay-gang.yaml",
    "kuberay-job.yaml",
    "kuberay-redis.yaml",
    "kuberay-service.yaml",
)


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
    assert (
        spec["backoffLimit"] == 1
    )  # a lost head is tried again; a wrong configuration makes one more head, not three


def entrypoint() -> list[str]:
    return shlex.split(documents("kuberay-job.yaml")["RayJob"]["spec"]["entrypoint"])


def test_the_job_reads_the_configuration_that_the_guide_uploads() -> None:
    """From the prefix that the role may read, and nothing that is baked into the image or lies on one machine."""
    command = entrypoint()
    assert command[:3] == ["python", "-m", "jobs.run"]
    options = dict(part.split("=", 1) for part in command[3:])
    assert options.keys() == {"--config", "--storage.root"}
    assert options["--storage.root"] == "s3://REPLACE_WITH_BUCKET/REPLACE_WITH_PREFIX"
    assert options["--config"].startswith(options["--storage.root"] + "/")
    upload = f"aws s3 cp my_app.yaml {options['--config']}"
    assert upload in GUIDE
    assert upload in (CLUSTER / "kuberay-job.yaml").read_text()


@pytest.mark.slow
def test_the_command_of_the_job_works_once_its_placeholders_are_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the configuration and the log in a bucket, on an S3 server of the test's own, as a dry run."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "")  # put back after the test
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    data = run_data(tmp_path, save_base(tmp_path / "base"))
    del data["storage"]  # the command says where
    data["events"]["paths"] = ["s3://bucket/logs/a.csv"]
    command = [part.replace("REPLACE_WITH_BUCKET", "bucket") for part in entrypoint()]
    command = [part.replace("REPLACE_WITH_PREFIX", "runs") for part in command]
    assert "REPLACE_WITH" not in " ".join(command)
    with s3_endpoint("s3://bucket"):
        client = boto3.client("s3")
        client.put_object(Bucket="bucket", Key="runs/my_app.yaml", Body=yaml.safe_dump(data).encode())
        client.upload_file(str(write_log(tmp_path / "a.csv", log_rows(3))), "bucket", "logs/a.csv")
        outcome = subprocess.run(
            [sys.executable, *command[1:], "--dry-run"], cwd=ROOT, capture_output=True, text=True
        )
    assert outcome.returncode == 0, outcome.stderr
    assert "prepare" in outcome.stdout


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


def test_pods_use_a_role_that_the_guide_lets_them_assume() -> None:
    """Not that of EC2 nodes, which trusts EC2 alone."""
    account = documents("kuberay-cluster.yaml")["ServiceAccount"]["metadata"]
    role = account["annotations"]["eks.amazonaws.com/role-arn"].partition(":role/")[2]
    [command] = re.findall(
        r"eksctl create iamserviceaccount [^`]*?--name behaviorlm .*?--approve", GUIDE, re.DOTALL
    )
    assert f"--name {account['name']} " in command
    assert f"--role-name {role} " in command
    assert "--role-only" in command  # the account itself is in the file
    ec2_roles = re.findall(r"^\s+for role in (.*); do$", GUIDE, re.MULTILINE)
    assert ec2_roles and role not in " ".join(ec2_roles).split()


def test_the_guide_installs_a_version_of_the_operator_that_knows_every_key() -> None:
    """`priority` came with KubeRay 1.7; an older one drops it, and spot nodes do not come first."""
    [installed] = re.findall(r"kuberay/kuberay-operator .*--version (\d+\.\d+)\.\d+", GUIDE)
    [least] = re.findall(
        r"KubeRay operator \((\S+) or newer\)", (CLUSTER / "kuberay-cluster.yaml").read_text()
    )
    assert installed == least == "1.7"


def environment_of(group: dict[str, Any]) -> dict[str, str]:
    """The environment of a group's Ray container."""
    return {
        entry["name"]: entry.get("value", "") for entry in group["template"]["spec"]["containers"][0]["env"]
    }


def test_a_worker_that_is_evicted_has_time_to_drain_before_it_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for group in cluster_spec()["workerGroupSpecs"]:
        settings, pod = environment_of(group), group["template"]["spec"]
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        read = runpy.run_path(str(ray_constants.__file__))  # as in a process that starts with these settings
        seconds = float(read[DRAIN_SECONDS])
        assert seconds == float(settings[DRAIN_SECONDS])  # the name that Ray reads
        assert 60 <= seconds <= pod["terminationGracePeriodSeconds"] - 30
        assert pod["terminationGracePeriodSeconds"] <= 120  # what EC2 gives
        assert "lifecycle" not in pod["containers"][0]  # a hook that sleeps would keep idle nodes as well
