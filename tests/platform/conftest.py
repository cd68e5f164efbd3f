"""Fixtures that several tests of the platform share."""

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from behaviorlm_ray.storage import Location, S3Location
from tests.platform.s3_faults import FaultyProxy, faulty_proxy


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny base model. Do not change it: it is shared."""
    from tests.platform.small_runs import save_base  # torch is slow to import, and most tests do without

    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def on_ray(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No log is small, so Ray's workers prepare it."""
    monkeypatch.setattr("behaviorlm_ray.preparation.log_source.SMALL_FILES", 0)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of an S3 server of this session's own."""
    from moto import backends
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    modules = list(backends.list_of_moto_modules())  # which it would look for among its files twice a request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "list_of_moto_modules", lambda: modules)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture
def s3_environment(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The environment of AWS tools for the server, also for child processes. Copies go to a folder of the test."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return s3_endpoint


@pytest.fixture
def s3_root(s3_environment: str) -> S3Location:
    """A place in a bucket of the test's own."""
    bucket = f"test-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return S3Location(bucket, "some/root", patience_seconds=20.0)


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A place to keep things, local and on S3."""
    if request.param == "local":
        return tmp_path / "root"
    place: S3Location = request.getfixturevalue("s3_root")
    return place


@pytest.fixture
def proxy(s3_root: S3Location, monkeypatch: pytest.MonkeyPatch, s3_environment: str) -> Iterator[FaultyProxy]:
    """What breaks requests between this test and the server of `s3_root`."""
    with faulty_proxy(s3_environment) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.endpoint)
        yield running
