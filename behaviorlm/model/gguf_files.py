"""A base that is one GGUF file: unpacked once into a folder of safetensors, which all else reads.

Its blocks become plain numbers, so that it can be tuned; what it is, is told by its content, not by what it became.
"""

import hashlib
import os
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from behaviorlm.errors import ModelError

CACHE_VARIABLE = "BEHAVIORLM_CACHE"
_MAGIC = b"GGUF"
_UNPACKING = ".unpacking-"
_STALE_SECONDS = 3600


def cache_folder() -> Path:
    """Where unpacked and fetched bases are kept: the variable BEHAVIORLM_CACHE, else ~/.cache/behaviorlm."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/behaviorlm").expanduser().absolute()


def is_gguf(path: Path) -> bool:
    """Whether a base is a GGUF file, by its name."""
    return path.suffix == ".gguf" and path.is_file()


def content_hash(file: Path) -> str:
    """Hex SHA-256 of a file; it is read again only where its size or its time of change is another one."""
    found = file.stat()
    return _hashed(file.absolute(), found.st_size, found.st_mtime_ns)


@cache
def _hashed(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def unpacked_folder(file: Path, dtype: str) -> Path:
    """The folder with what a GGUF file holds; unpacks it into the cache at first. Raises as `unpack`.

    dtype: `model.dtype`; "auto" is bfloat16, which is what all but the finest blocks can tell apart.
    """
    stored = "float32" if dtype == "float32" else "bfloat16"
    folder = cache_folder() / "gguf" / f"{content_hash(file)}-{stored}"
    if not folder.is_dir():
        unpack(file, folder, stored)
    return folder


def unpack(file: Path, folder: Path, dtype: str) -> None:
    """Write a GGUF file's network, weights and tokenizer as a folder of safetensors, whole or not at all.

    Another process may do the same: the first to be done is kept. dtype: "float32" or "bfloat16". Raises ModelError for
    what is no GGUF file, lacks weights or is of a kind that transformers cannot read; without the package gguf; and
    without room for it.
    """
    _check_readable(file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f"{_UNPACKING}*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_UNPACKING, dir=folder.parent) as temporary:
        written = Path(temporary) / "model"
        written.mkdir()
        try:
            _write(file, written, dtype)
        except ModelError:
            raise
        # transformers, gguf and numpy raise what they meet in a file of a kind or state that they were not made for.
        except Exception as error:
            raise ModelError(_unreadable(file, error)) from error
        try:
            written.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _check_readable(file: Path) -> None:
    with file.open("rb") as opened:
        begins = opened.read(len(_MAGIC))
    if begins != _MAGIC:
        raise ModelError(
            f"{file} is no GGUF file: it begins with {begins!r} and not with {_MAGIC!r}; get it again"
        )
    from transformers.utils import is_gguf_available

    if not is_gguf_available():
        raise ModelError(
            f"{file} is a GGUF file, and the package gguf, which reads it, is not installed: "
            "pip install 'behaviorlm[gguf]', or give the folder of a transformers model"
        )


def _write(file: Path, folder: Path, dtype: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    place: dict[str, Any] = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        **place,
        dtype=getattr(torch, dtype),
        quantization_config=GgufConfig(dequantize=True),
        output_loading_info=True,
    )
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{file} lacks {len(missing)} of the model's parameters, such as {missing[0]}; get another"
        )
    _check_room(folder, sum(one.numel() * one.element_size() for one in model.parameters()))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**place).save_pretrained(folder)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelError(
            f"{folder.parent.parent} has {free / 1e9:.1f} GB left, and the model takes {needed / 1e9:.1f}; make room, "
            f"or name another folder by the variable {CACHE_VARIABLE}"
        )


def _unreadable(file: Path, error: Exception) -> str:
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    known = ", ".join(sorted(set(GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer"}))
    return (
        f"{file} cannot be unpacked ({type(error).__name__}: {str(error)[:300]}). It may be cut off, or of a kind that "
        f"transformers does not read (it knows {known}); get it again, or give the folder of a transformers model"
    )
