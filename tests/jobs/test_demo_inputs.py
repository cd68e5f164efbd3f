"""The demo inputs are made once and made again only if the settings changed or a file is damaged."""

import json
from pathlib import Path

import pytest

from jobs import demo_inputs


@pytest.mark.slow
def test_inputs_are_made_once_and_again_when_damaged_or_asked_for_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--folder", str(tmp_path), "--users", "12", "--seed", "1"]
    assert demo_inputs.main(arguments) == 0
    assert capsys.readouterr().out.count("wrote ") == 4
    first = demo_inputs.hashes(tmp_path)
    assert {path.split("/")[0] for path in first} == {*demo_inputs.MADE, "base"}
    assert demo_inputs.main(arguments) == 0
    assert "already" in capsys.readouterr().out
    (tmp_path / "base" / "tokenizer.json").write_text("damaged")
    assert demo_inputs.main(arguments) == 0
    assert "wrote" in capsys.readouterr().out and demo_inputs.hashes(tmp_path) == first


def test_a_folder_counts_as_made_only_with_these_settings_and_whole_files(tmp_path: Path) -> None:
    settings = {"world_version": 1, "users": 2, "seed": 0}
    assert not demo_inputs.is_made(tmp_path, settings)
    (tmp_path / "base").mkdir()
    files = [tmp_path / "base" / "config.json", *(tmp_path / name for name in demo_inputs.MADE)]
    for file in files:
        file.write_text("content")
    record = {"settings": settings, "files": demo_inputs.hashes(tmp_path)}
    (tmp_path / demo_inputs.RECORD).write_text(json.dumps(record))
    assert demo_inputs.is_made(tmp_path, settings)
    assert not demo_inputs.is_made(tmp_path, {**settings, "seed": 1})
    files[1].write_text("damaged")
    assert not demo_inputs.is_made(tmp_path, settings)
    files[1].unlink()
    assert not demo_inputs.is_made(tmp_path, settings)


def test_bad_arguments_end_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo_inputs.main(["--folder", str(tmp_path), "--users", "0"]) == 1
    assert "users=0" in capsys.readouterr().err
    assert not (tmp_path / demo_inputs.RECORD).exists()
