"""What docs/serve.md and the README say of the service is so."""

import json
import re
from pathlib import Path

import yaml

from behaviorlm.config import describe_settings
from behaviorlm.service.settings import ServeSettings
from behaviorlm_lab.world.inhabitants import default_world
from tests.behaviorlm.service.conftest import Serve

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_key_that_is_named_exists() -> None:
    known = {key.path for key in describe_settings(ServeSettings)}
    groups = {path.partition(".")[0] for path in known if "." in path}
    named = {key for key in re.findall(r"\b([a-z_]+\.[a-z_]+)\b", PAGE) if key.partition(".")[0] in groups}
    assert len(named) >= 12
    assert named <= known
    commands = [line for line in PAGE.splitlines() if "behaviorlm serve --" in line]
    typed = {key for line in commands for key in re.findall(r"--([a-z_.]+)", line)}
    assert typed <= known | {"help", "config"}


def test_every_measure_of_the_alerts_is_told(serve: Serve, tmp_path: Path) -> None:
    client = serve("counts", f"feedback.folder={tmp_path}")
    client.post("/v1/predict", json={})
    told = client.get("/metrics").text
    known = set(re.findall(r"^# TYPE (\w+)", told, re.MULTILINE))
    [alerts] = re.findall(r"```yaml\n(groups:.*?)```", PAGE, re.DOTALL)
    rules = yaml.safe_load(alerts)["groups"][0]["rules"]
    measured = {name for rule in rules for name in re.findall(r"behaviorlm_\w+", rule["expr"])}
    assert len(measured) >= 4
    assert {name.removesuffix("_bucket") for name in measured} <= known
    paths = set(re.findall(r'path="([^"]+)"', alerts))
    assert paths <= set(client.get("/openapi.json").json()["paths"])


def test_the_command_of_the_readme_asks_in_the_words_of_the_demo() -> None:
    [body] = re.findall(r"curl -s http://127\.0\.0\.1:8000/v1/predict .*? -d '(\{.*?\})'", README, re.DOTALL)
    asked = json.loads(body)
    mapping = yaml.safe_load((ROOT / "jobs/configs/demo.yaml").read_text())["events"]
    [event] = asked["history"]
    assert event.keys() == {mapping["behavior"], mapping["order"]["column"]}
    assert event[mapping["behavior"]] in default_world().names
