"""cluster/aws.yaml and its policies against what reads them: Ray's schema, EC2's parameters, the autoscaler."""

import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import yaml
from botocore.validate import ParamValidator
from ray.autoscaler._private.command_runner import SSHOptions
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.scheduling import launched

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"


@pytest.fixture
def config() -> dict[str, Any]:
    loaded = yaml.safe_load((CLUSTER / "aws.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def worker_types(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: kind
        for name, kind in config["available_node_types"].items()
        if name != config["head_node_type"]
    }


def test_ray_accepts_it_and_refuses_a_misspelt_key(config: dict[str, Any]) -> None:
    validate_config(prepare_config(config))
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        validate_config(prepare_config(config | {"idle_timeout_minute": 1}))


def test_ec2_accepts_every_node_and_refuses_a_misspelt_key(config: dict[str, Any]) -> None:
    shape = (
        botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    )
    counts = {"MinCount": 1, "MaxCount": 1}
    for name, kind in config["available_node_types"].items():
        report = ParamValidator().validate(kind["node_config"] | counts, shape)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"
    misspelt = config["available_node_types"]["cpu"]["node_config"] | counts | {"InstanceTyp": "m6i.large"}
    assert "InstanceTyp" in ParamValidator().validate(misspelt, shape).generate_report()


def test_every_node_has_imdsv2_encrypted_disks_and_a_chosen_security_group(config: dict[str, Any]) -> None:
    for name, kind in config["available_node_types"].items():
        node = kind["node_config"]
        assert node["MetadataOptions"]["HttpTokens"] == "required", name
        assert node["MetadataOptions"]["HttpPutResponseHopLimit"] == 1, name
        assert node["BlockDeviceMappings"], name
        assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"]), name
        assert node["SecurityGroupIds"], name
        role = "behaviorlm-head" if name == config["head_node_type"] else "behaviorlm-worker"
        assert node["IamInstanceProfile"] == {"Name": role}, name


def test_the_dashboard_is_private_and_every_node_asks_for_the_token(config: dict[str, Any]) -> None:
    commands = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in commands
    assert "0.0.0.0" not in (CLUSTER / "aws.yaml").read_text()
    options = config["docker"]["run_options"]
    [path] = [option.partition("=")[2] for option in options if "RAY_AUTH_TOKEN_PATH" in option]
    assert "-e RAY_AUTH_MODE=token" in options
    assert config["file_mounts"][path] == "~/.ray/auth_token"  # where `ray get-auth-token` keeps it
    assert "file_mounts_sync_continuously" not in config


def test_docker_is_usable_before_ray_uses_it_and_the_old_connection_has_closed(
    config: dict[str, Any],
) -> None:
    first, second = config["initialization_commands"]
    assert first == "sudo usermod -aG docker $USER || true"
    kept_open = SSHOptions(None, control_path="/tmp/control").arg_dict["ControlPersist"]
    assert int(second.removeprefix("sleep ")) > int(kept_open.removesuffix("s"))


def test_the_login_to_ecr_is_one_more_command_once_it_is_uncommented(config: dict[str, Any]) -> None:
    text = (CLUSTER / "aws.yaml").read_text()
    loaded = yaml.safe_load(re.sub(r"^  # (- aws ecr|  REPLACE_WITH)", r"  \1", text, flags=re.MULTILINE))
    *before, login = loaded["initialization_commands"]
    assert before == config["initialization_commands"]
    region = config["provider"]["region"]
    assert login == (
        f"aws ecr get-login-password --region {region} | docker login --username AWS --password-stdin "
        f"REPLACE_WITH_ACCOUNT.dkr.ecr.{region}.amazonaws.com"
    )
    validate_config(prepare_config(loaded))


def test_the_head_runs_no_work_and_workers_range_from_none_up(config: dict[str, Any]) -> None:
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "--num-cpus=0 --num-gpus=0" in " ".join(config["head_start_ray_commands"])
    for name, kind in worker_types(config).items():
        assert kind["min_workers"] == 0 < kind["max_workers"] <= config["max_workers"], name
    assert 0 < config["idle_timeout_minutes"] <= 30


def test_spot_gpus_come_first_and_on_demand_ones_when_spot_fails(config: dict[str, Any]) -> None:
    gpu = {"CPU": 4.0, "GPU": 1.0}
    assert launched(config, [gpu] * 2) == {"gpu_spot": 2}
    assert launched(config, [gpu] * 2, failed=["gpu_spot"]) == {"gpu_on_demand": 2}
    assert launched(config, [{"CPU": 8.0}] * 4) == {"cpu": 2}
    most = sum(kind["max_workers"] for name, kind in worker_types(config).items() if "gpu" in name)
    assert sum(launched(config, [gpu] * 50).values()) == most
    spot = {
        name for name, kind in worker_types(config).items() if "InstanceMarketOptions" in kind["node_config"]
    }
    assert spot == {"gpu_spot"}


ACTIONS_OF_CALLS = {
    "get_object": {"s3:GetObject"},
    "head_object": {"s3:GetObject"},
    "put_object": {"s3:PutObject"},
    "create_multipart_upload": {"s3:PutObject"},
    "upload_part": {"s3:PutObject"},
    "complete_multipart_upload": {"s3:PutObject"},
    "abort_multipart_upload": {"s3:AbortMultipartUpload"},
    "delete_object": {"s3:DeleteObject"},
    "delete_objects": {"s3:DeleteObject"},
    "list_objects_v2": {"s3:ListBucket"},
}


def actions_of_storage() -> set[str]:
    """What storage's calls of boto3 need; a call that is not known here fails the test."""
    sources = (ROOT / "platform" / "behaviorlm_ray" / "storage").glob("*.py")
    calls = set().union(
        *(re.findall(r"\bclient\.([a-z]+_[a-z0-9_]+)\(", path.read_text()) for path in sources)
    )
    return set().union(*(ACTIONS_OF_CALLS[call] for call in calls))


def statements(name: str) -> list[dict[str, Any]]:
    policy = json.loads((CLUSTER / name).read_text())
    assert policy["Version"] == "2012-10-17"
    for statement in policy["Statement"]:
        assert statement.keys() <= {"Sid", "Effect", "Action", "Resource", "Condition"}, statement
    return policy["Statement"]


def actions(statement: dict[str, Any]) -> set[str]:
    return {statement["Action"]} if isinstance(statement["Action"], str) else set(statement["Action"])


def test_the_bucket_policy_allows_what_storage_needs_on_its_prefix_and_nothing_else() -> None:
    allowed = [one for one in statements("aws-bucket-policy.json") if one["Effect"] == "Allow"]
    guide = (ROOT / "docs" / "storage.md").read_text()
    assert set(re.findall(r"`(s3:[A-Z]\w+)`", guide)) == actions_of_storage()
    assert set().union(*map(actions, allowed)) == actions_of_storage()
    for statement in allowed:
        if actions(statement) == {"s3:ListBucket"}:
            prefixes = statement["Condition"]["StringLike"]["s3:prefix"]
            assert all(prefix.startswith("REPLACE_WITH_PREFIX") for prefix in prefixes)
            assert statement["Resource"] == "arn:aws:s3:::REPLACE_WITH_BUCKET"
        else:
            assert statement["Resource"] == "arn:aws:s3:::REPLACE_WITH_BUCKET/REPLACE_WITH_PREFIX/*"


def test_the_head_policy_names_real_actions_and_ends_only_its_own_instances(config: dict[str, Any]) -> None:
    listed = statements("aws-head-policy.json")
    named = set().union(*map(actions, listed)) - {"iam:PassRole"}
    session = botocore.session.get_session()
    models = {
        service: session.get_service_model(service) for service in {name.partition(":")[0] for name in named}
    }
    for action in named:
        service, _, operation = action.partition(":")
        assert operation in models[service].operation_names, action
    assert all("*" not in action for action in set().union(*map(actions, listed)))
    [started] = [one["Resource"] for one in listed if actions(one) == {"ec2:RunInstances"}]
    assert any(resource.endswith(":spot-instances-request/*") for resource in started)
    tagged = [one["Resource"] for one in listed if "ec2:CreateTags" in actions(one)]
    assert "spot-instances-request" not in str(tagged)  # Ray tags instances alone
    for statement in listed:
        if "ec2:TerminateInstances" in actions(statement):
            own = statement["Condition"]["StringEquals"]["aws:ResourceTag/ray-cluster-name"]
            assert own == config["cluster_name"]
        if statement["Resource"] == "*":
            assert all(action.startswith("ec2:Describe") for action in actions(statement))


def test_the_guide_has_every_step_that_a_new_account_needs() -> None:
    guide = (ROOT / "docs" / "cluster.md").read_text()
    for step in (
        "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
        "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly",
        "`AuthFailure.ServiceLinkedRoleCreationNotPermitted`",
    ):
        assert step in guide, step
