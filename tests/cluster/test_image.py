"""The Dockerfile, as far as it can be checked without building it, and the placeholders of all cluster files."""

import re
import shlex
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
INSTRUCTIONS = {"FROM", "RUN", "WORKDIR", "COPY", "ARG", "ENV", "USER"}


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, continued lines joined."""
    lines = [line for line in (CLUSTER / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in joined if line.strip()]


def pins() -> dict[str, str]:
    pairs = (line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    return {name.lower(): version for name, version in pairs}


def test_it_installs_the_pinned_versions_on_a_supported_python() -> None:
    found = instructions()
    assert {name for name, _ in found} == INSTRUCTIONS
    [base] = [arguments for name, arguments in found if name == "FROM"]
    required = re.search(r'requires-python = ">=(\d+\.\d+),', (ROOT / "pyproject.toml").read_text())
    assert required is not None
    assert base.startswith(f"python:{required[1]}-")
    [torch] = [arguments for name, arguments in found if name == "ARG"]
    assert torch == f'TORCH="torch=={pins()["torch"]}"'
    installs = [arguments for name, arguments in found if name == "RUN" and "pip install" in arguments]
    [tool] = [line for line in installs if line.startswith("python -m venv /tmp/tools ")]
    installs.remove(tool)  # of an environment that does not stay
    [pinned] = re.findall(r"cyclonedx-bom==\S+", tool)
    assert pinned in (ROOT / "Makefile").read_text() and "--validate" in tool and "rm -r /tmp/tools" in tool
    assert installs and all(
        line.count("pip install") == line.count("-c constraints.txt") for line in installs
    )


def test_everything_that_it_copies_exists_and_is_let_through() -> None:
    passed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for name, arguments in instructions()
        if name == "COPY"
        for source in shlex.split(arguments)[:-1]
    }
    assert copied == passed
    assert all((ROOT / source).exists() for source in copied)


def test_it_does_not_run_as_root() -> None:
    assert instructions()[-1] == ("USER", "ray")


def test_ray_and_redis_are_pinned_and_every_placeholder_is_explained() -> None:
    guide = (ROOT / "docs" / "cluster.md").read_text()
    found: set[str] = set()
    for path in CLUSTER.iterdir():
        if path.suffix in (".yaml", ".json"):
            found |= set(re.findall(r"REPLACE_WITH_[A-Z]+(?:_[A-Z]+)*", path.read_text()))
    found.discard("REPLACE_WITH_")
    assert found == {name for name in found if name in guide}, "docs/cluster.md does not explain all of them"
    images = re.findall(r"^\s+image: (\S+:\S+)", (CLUSTER / "kuberay-redis.yaml").read_text(), re.MULTILINE)
    assert images and not any(image.endswith(":latest") for image in images)


def test_every_yaml_is_plain_data() -> None:
    for path in CLUSTER.glob("*.yaml"):
        assert list(yaml.safe_load_all(path.read_text())), path
