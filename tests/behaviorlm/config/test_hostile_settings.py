"""A configuration from somebody else is values alone: it runs nothing, and reads neither files nor variables."""

from pathlib import Path

import pytest
import yaml

from behaviorlm.config import Settings, load_settings
from behaviorlm.errors import ConfigError


class Small(Settings):
    """A text."""

    name: str = ""


@pytest.mark.parametrize(
    "tagged",
    [
        "!!python/object/apply:os.mkdir [{marker!r}]",
        "!!python/object/new:os.mkdir [{marker!r}]",
        "!!python/name:os.mkdir",
        "!!python/module:os",
        "!include /etc/passwd",
    ],
)
def test_a_tag_is_refused_in_a_file_and_is_text_in_an_override(tagged: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    text = tagged.format(marker=str(marker))
    file = tmp_path / "small.yaml"
    file.write_text(f"name: {text}\n")
    with pytest.raises(ConfigError, match=r"small\.yaml"):
        load_settings(Small, file)
    assert load_settings(Small, None, [f"name={text}"]).name == text
    assert not marker.exists()


def test_the_tag_would_act_on_who_trusts_it(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    yaml.load(f"!!python/object/apply:os.mkdir [{str(marker)!r}]", yaml.UnsafeLoader)
    assert marker.is_dir()


@pytest.mark.parametrize(
    "text", ["${SECRET}", "$SECRET", "%SECRET%", "{{ SECRET }}", "${oc.env:SECRET}", "`id`", "$(id)"]
)
def test_variables_and_commands_stay_text(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "planted")
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump({"name": text}))
    assert load_settings(Small, file).name == text
    assert load_settings(Small, None, [f"name='{text}'"]).name == text
