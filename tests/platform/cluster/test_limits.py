"""What a cluster can grow to, and which resource is missing: against a small search, and the real files of clusters."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ray.autoscaler._private.kuberay import node_provider

from behaviorlm_ray.cluster import limits
from behaviorlm_ray.cluster.limits import (
    Limits,
    NodeType,
    autoscaler_limits,
    lacking,
    limits_of,
    limits_of_nodes,
)

ROOT = Path(__file__).resolve().parents[3]
AWS = yaml.safe_load((ROOT / "cluster" / "aws.yaml").read_text())


def test_the_missing_resource_is_named_with_what_there_can_be() -> None:
    aws = limits_of(AWS)
    assert aws is not None
    assert lacking({"CPU": 7, "GPU": 1}, 12, aws) is None
    assert lacking({"CPU": 7, "GPU": 1}, 16, aws) == (
        "the cluster can give 12 of 16 at most (16 GPU asked for, 12 at most)"
    )
    assert (
        lacking({"CPU": 4, "GPU": 2}, 1, aws) == "no node can have 2 GPU, and the most that one node has is 1"
    )
    assert lacking({"CPU": 16, "GPU": 1}, 1, aws) == "no one node can have all of these together"
    assert (
        lacking({"CPU": 1, "TPU": 4}, 1, aws) == "no node can have 4 TPU, and the most that one node has is 0"
    )


def test_a_node_type_without_nodes_gives_nothing_and_the_number_of_all_nodes_counts() -> None:
    none = Limits((NodeType("gpu", {"GPU": 8}, 0), NodeType("cpu", {"CPU": 8}, 4)), 5)
    assert lacking({"GPU": 1}, 1, none) == "no node can have 1 GPU, and the most that one node has is 0"
    few = Limits((NodeType("gpu", {"GPU": 1}, 8),), 2)
    assert lacking({"GPU": 1}, 3, few) == "the cluster can give 2 of 3 at most (by its number of nodes)"


def test_of_machines_of_ones_own_nothing_is_told_and_workers_may_be_of_the_heads_kind() -> None:
    """Ray writes such a kind for all the machines that a configuration names by their addresses."""
    own: dict[str, Any] = {
        "max_workers": 3,
        "head_node_type": "own",
        "available_node_types": {"own": {"max_workers": 3}},
    }
    assert limits_of(own) is None
    own["available_node_types"]["own"]["resources"] = {}
    assert limits_of(own) is None
    own["available_node_types"]["own"]["resources"] = {"GPU": 1}
    assert limits_of(own) == Limits((NodeType("own", {"GPU": 1}, 4),), 4)


def test_nodes_that_nobody_adds_to_are_all_there_is() -> None:
    nodes = limits_of_nodes([{"CPU": 4.0, "GPU": 2.0}, {"CPU": 4.0}])
    assert lacking({"GPU": 1}, 2, nodes) is None
    assert lacking({"GPU": 1}, 4, nodes) == "the cluster can give 2 of 4 at most (4 GPU asked for, 2 at most)"


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=3),
    st.integers(0, 5),
    st.tuples(st.integers(0, 2), st.integers(1, 2)),
    st.integers(1, 6),
)
def test_as_many_fit_as_a_search_through_all_sets_of_nodes_finds(
    kinds: list[tuple[int, int, int]], most: int, bundle: tuple[int, int], count: int
) -> None:
    known = Limits(
        tuple(NodeType(str(n), {"CPU": c, "GPU": g}, m) for n, (c, g, m) in enumerate(kinds)), most
    )
    best = 0
    for numbers in itertools.product(*(range(each[2] + 1) for each in kinds)):
        if sum(numbers) <= most:
            fits = [
                min((have // need for have, need in zip(each[:2], bundle, strict=True) if need), default=0)
                for each in kinds
            ]
            best = max(best, sum(each * number for each, number in zip(fits, numbers, strict=True)))
    assert (lacking({"CPU": bundle[0], "GPU": bundle[1]}, count, known) is None) == (best >= count)


def test_the_file_of_the_monitor_of_this_cluster_is_read_and_of_no_other(tmp_path: Path) -> None:
    file = tmp_path / "autoscaler.yaml"
    file.write_text(yaml.safe_dump(AWS, sort_keys=False))
    words = [f"--autoscaling-config={file}", "--gcs-address=127.0.0.1:1234"]
    code = "import sys; print(flush=True); sys.stdin.read()"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, *words], **pipes) as monitor:
        assert monitor.stdout is not None
        monitor.stdout.readline()  # it runs
        assert autoscaler_limits("127.0.0.1:1234") == limits_of(AWS)
        assert autoscaler_limits("127.0.0.1:1235") is None
        file.write_text("{")
        assert autoscaler_limits("127.0.0.1:1234") is None
        monitor.communicate()


@contextmanager
def kubernetes(resource: dict[str, Any]) -> Iterator[str]:
    """A server that answers as Kubernetes does to who asks for a RayCluster by its name, and to nobody else."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.path == "/apis/ray.io/v1/namespaces/team/rayclusters/behaviorlm"
            self.send_response(200 if is_known else 403)
            self.end_headers()
            self.wfile.write(json.dumps(resource if is_known else {}).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_on_kubernetes_the_raycluster_is_asked_for_and_a_refusal_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    [resource] = [
        one
        for one in yaml.safe_load_all((ROOT / "cluster" / "kuberay-cluster.yaml").read_text())
        if one["kind"] == "RayCluster"
    ]
    resource["metadata"]["namespace"] = "team"
    namespace = tmp_path / "namespace"
    namespace.write_text("team")
    monkeypatch.setattr(limits, "NAMESPACE_FILE", namespace)
    monkeypatch.setenv("RAY_CLUSTER_NAME", "behaviorlm")
    monkeypatch.setattr(node_provider, "load_k8s_secrets", lambda: ({}, False, None))
    get = requests.get
    monkeypatch.setattr(requests, "get", lambda url, **more: get(url.replace("https:", "http:"), **more))
    with kubernetes(resource) as host:
        monkeypatch.setattr(node_provider.url_from_resource, "__defaults__", ("v1", f"https://{host}"))
        found = autoscaler_limits("head:6379")
        assert found is not None
        assert lacking({"CPU": 7, "GPU": 1}, 13, found) == (
            "the cluster can give 12 of 13 at most (13 GPU asked for, 12 at most)"
        )
        monkeypatch.setenv("RAY_CLUSTER_NAME", "another")
        assert autoscaler_limits("head:6379") is None
