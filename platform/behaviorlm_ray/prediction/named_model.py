"""The artifact as a person names it. Light, so that a wrong name is told at once."""

import re

from behaviorlm.errors import ConfigError
from behaviorlm.predictor.artifact import DESCRIPTION
from behaviorlm_ray import storage

_HUB_NAME = re.compile(r"[\w][\w.-]*/[\w.-]+")


def check_named_model(text: str) -> None:
    """Raise ConfigError where a folder is named that holds no artifact; a name on the hub is looked up later."""
    place = storage.location(text)
    if storage.read_bytes(place / DESCRIPTION) is not None:
        return
    is_there = bool(storage.list_files(place)) or bool(storage.list_folders(place))
    if is_there or "://" in text or not _HUB_NAME.fullmatch(text) or text.startswith("."):
        raise ConfigError(
            f"model: {text} holds no {DESCRIPTION}, so it is no exported predictor; `behaviorlm export` writes one"
        )
