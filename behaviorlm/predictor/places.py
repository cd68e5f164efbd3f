"""Where an artifact lies: a folder here, on S3, or on the Hugging Face hub; a local folder in the end."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from behaviorlm.errors import BehaviorLMError, ConfigError, StorageError
from behaviorlm.files.input_files import find_on_s3, is_on_s3, open_bytes
from behaviorlm.predictor.artifact import DESCRIPTION

_HUB_NAME = re.compile(r"[\w][\w.-]*/[\w.-]+")


@contextmanager
def local_folder(place: str | Path, revision: str | None = None) -> Iterator[Path]:
    """The folder itself, or a copy that is gone after the block. Raises ConfigError, or StorageError.

    revision: of the hub. A path is never tried on the hub. Errors of the block name the place and not the copy.
    """
    text = str(place)
    if is_on_s3(text):
        with tempfile.TemporaryDirectory(prefix="behaviorlm-") as copy:
            _fetch(text.rstrip("/"), Path(copy))
            try:
                yield Path(copy)
            except BehaviorLMError as error:  # nobody knows the copy
                error.args = (str(error).replace(copy, text.rstrip("/")),)
                raise
        return
    folder = Path(text).expanduser()
    if folder.is_dir():
        yield folder
    elif (
        folder.exists()
        or (folder.parent.resolve() != Path.cwd() and folder.parent.is_dir())  # a mistyped folder, not a name
        or isinstance(place, Path)
        or not _HUB_NAME.fullmatch(text)
    ):
        raise ConfigError(
            f"there is no folder {text}; give a folder that `behaviorlm export` wrote, s3://bucket/prefix, or the name "
            "of a repository on the Hugging Face hub (owner/name)"
        )
    else:
        yield _from_hub(text, revision)


def _fetch(place: str, folder: Path) -> None:
    try:
        found = find_on_s3(place + "/", lambda path: True)
        for path in found:
            target = folder / path.removeprefix(place).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_bytes(path) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    except OSError as error:
        raise StorageError(f"{place} cannot be read ({error})") from error
    if not (folder / DESCRIPTION).is_file():
        raise ConfigError(f"{place} holds no {DESCRIPTION}, so it is no exported predictor")


def _from_hub(name: str, revision: str | None) -> Path:
    import huggingface_hub  # takes a while to load

    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision))
    # The hub's client raises errors of its own, of the HTTP client and of the system, with no common parent.
    except Exception as error:
        raise ConfigError(
            f"there is no folder {name}, and the Hugging Face hub did not give it ({error}); check the name and the "
            "network, or download it elsewhere and give its folder"
        ) from error
