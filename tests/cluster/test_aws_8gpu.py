"""cluster/aws-8gpu.yaml: what is checked of aws.yaml, and what EFA, a placement group and a capacity block ask for."""

import re
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import yaml
from botocore.validate import ParamValidator
from ray.autoscaler._private.aws.config import _configure_from_network_interfaces
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.scheduling import launched

ROOT = Path(__file__).resolve().parents[2]
CARDS = {"p5en.48xlarge": 16}
"""Network cards of a type, by AWS's list."""


@pytest.fixture
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "cluster" / "aws-8gpu.yaml").read_text())
    return loaded


def gpu_types(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: kind for name, kind in config["available_node_types"].items() if name.startswith("gpu")}


def test_ray_accepts_it_and_its_interfaces_and_refuses_a_misspelt_key(config: dict[str, Any]) -> None:
    validate_config(prepare_config(config))
    placed = _configure_from_network_interfaces(config)["available_node_types"]["gpu8_spot"]["node_config"]
    assert set(placed["SubnetIds"]) == {"REPLACE_WITH_PRIVATE_SUBNET"}
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config(prepare_config(config | {"max_worker": 1}))
    gpu_types(config)["gpu8_spot"]["node_config"]["SecurityGroupIds"] = ["sg-1"]
    with pytest.raises(ValueError, match="ONLY be given in each NetworkInterface"):
        _configure_from_network_interfaces(config)


def test_ec2_accepts_every_node_and_refuses_a_misspelt_key(config: dict[str, Any]) -> None:
    model = botocore.session.get_session().get_service_model("ec2")
    shape = model.operation_model("RunInstances").input_shape
    counts = {"MinCount": 1, "MaxCount": 1}
    for name, kind in config["available_node_types"].items():
        report = ParamValidator().validate(kind["node_config"] | counts, shape)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"
    nodes = [kind["node_config"] for kind in gpu_types(config).values()]
    kinds = shape.members["NetworkInterfaces"].member.members
    assert "InterfaceType" in kinds
    markets = shape.members["InstanceMarketOptions"].members["MarketType"].enum
    used = {node["InstanceMarketOptions"]["MarketType"] for node in nodes if "InstanceMarketOptions" in node}
    assert used == {"spot", "capacity-block"} <= set(markets)
    misspelt = nodes[0] | counts | {"NetworkInterfaces": [{"NetworkCard": 0}]}
    assert "NetworkCard" in ParamValidator().validate(misspelt, shape).generate_report()


def test_all_but_the_gpu_machines_is_as_in_the_other_file(config: dict[str, Any]) -> None:
    other = yaml.safe_load((ROOT / "cluster" / "aws.yaml").read_text())
    assert config.keys() == other.keys()
    differ = {key for key in config if config[key] != other[key]}
    assert differ == {"max_workers", "provider", "available_node_types"}
    changed = {key for key in config["provider"] if config["provider"][key] != other["provider"][key]}
    assert changed == {"availability_zone"}
    for name in ("head", "cpu"):
        assert config["available_node_types"][name] == other["available_node_types"][name]


def test_the_machines_are_safe_as_the_others_are(config: dict[str, Any]) -> None:
    node = config["available_node_types"]["cpu"]["node_config"]
    for name, kind in gpu_types(config).items():
        mine = kind["node_config"]
        for key in ("ImageId", "IamInstanceProfile", "MetadataOptions"):
            assert mine[key] == node[key], (name, key)
        [disk] = mine["BlockDeviceMappings"]
        assert disk["Ebs"]["Encrypted"] and disk["Ebs"]["VolumeSize"] >= 500
        groups = {group for interface in mine["NetworkInterfaces"] for group in interface["Groups"]}
        assert groups == set(node["SecurityGroupIds"])
        assert not any("AssociatePublicIpAddress" in interface for interface in mine["NetworkInterfaces"])


def test_each_network_card_has_efa_and_the_first_has_ip(config: dict[str, Any]) -> None:
    for kind in gpu_types(config).values():
        node = kind["node_config"]
        interfaces = [
            (one["NetworkCardIndex"], one["DeviceIndex"], one["InterfaceType"])
            for one in node["NetworkInterfaces"]
        ]
        others = [(card, 0, "efa-only") for card in range(1, CARDS[node["InstanceType"]])]
        assert interfaces == [(0, 0, "interface"), (0, 1, "efa-only"), *others]
        options = kind["docker"]["worker_run_options"]
        assert "--device=/dev/infiniband" in options and "--ulimit memlock=-1:-1" in options
        assert not any(
            "infiniband" in option for option in config["docker"]["run_options"]
        )  # the head has none


def test_open_machines_are_placed_together_and_a_block_by_itself(config: dict[str, Any]) -> None:
    nodes = {name: kind["node_config"] for name, kind in gpu_types(config).items()}
    assert nodes["gpu8_block"]["Placement"] == {}
    target = nodes["gpu8_block"]["CapacityReservationSpecification"]["CapacityReservationTarget"]
    assert target == {"CapacityReservationId": "REPLACE_WITH_CAPACITY_RESERVATION"}
    for name in ("gpu8_spot", "gpu8_on_demand"):
        assert nodes[name]["Placement"] == {"GroupName": "REPLACE_WITH_PLACEMENT_GROUP"}
        assert "CapacityReservationSpecification" not in nodes[name]
    assert "," not in config["provider"]["availability_zone"]


def test_the_block_comes_first_then_spot_then_on_demand(config: dict[str, Any]) -> None:
    worker = [{"CPU": 20.0, "GPU": 1.0}] * 8
    assert launched(config, worker) == {"gpu8_block": 1}
    assert launched(config, worker, failed=["gpu8_block"]) == {"gpu8_spot": 1}
    assert launched(config, worker, failed=["gpu8_block", "gpu8_spot"]) == {"gpu8_on_demand": 1}
    assert launched(config, [{"CPU": 8.0}] * 4) == {"cpu": 2}


def test_the_heads_policy_lets_it_use_the_group_and_the_block() -> None:
    policy = (ROOT / "cluster" / "aws-head-policy.json").read_text()
    for resource in ("placement-group/*", "capacity-reservation/*", "network-interface/*"):
        assert f":REPLACE_WITH_ACCOUNT:{resource}" in policy


def test_the_guide_opens_the_group_to_itself_both_ways_and_makes_the_placement_group() -> None:
    """EFA does not pass by the rule that lets everything out to any address."""
    guide = (ROOT / "docs" / "cluster.md").read_text()
    assert re.search(
        r"authorize-security-group-ingress --group-id \$group --protocol all --source-group \$group", guide
    )
    assert re.search(
        r"authorize-security-group-egress --group-id \$group --protocol all --source-group \$group", guide
    )
    assert "aws ec2 create-placement-group --group-name behaviorlm --strategy cluster" in guide
