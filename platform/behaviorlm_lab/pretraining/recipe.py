"""The recipe of the tiny base model: its shapes, its amounts of text, and the file that says how a folder was made.

Light: what a command line offers and refuses is known before torch is loaded.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import behaviorlm
from behaviorlm.errors import ModelError

RECIPE_FILE = "pretraining.json"
ASSET = Path(behaviorlm.__file__).parent / "assets" / "base"
"""The base model that comes with the method."""

SENTENCES, CONVERSATIONS = 12_000, 2_000
STEPS = 750
BATCH_CHATS, BATCH_OTHERS = 24, 8
"""Documents of an optimizer step: chats about invented people, and paragraphs of knowledge and small talk."""
GATE = 0.5
"""What a base must name of the effects whose cause it was told; before the causes are learned it names about .05."""
KEYS = ("world", "size", "seed", "steps", "knowledge", "sentences", "conversations", "curve")


@dataclass(frozen=True)
class Size:
    """Shape of a base model; heads are 32 wide."""

    width: int
    inner_width: int
    layers: int


SIZES = {"small": Size(64, 128, 3), "base": Size(128, 256, 4), "large": Size(192, 512, 4)}
"""About 0.2, 0.8 and 2.0 million parameters."""


def read_recipe(folder: Path) -> dict[str, Any]:
    """What a folder says it was made by, unchecked but for `KEYS`. Raises ModelError where there is nothing like it."""
    path = folder / RECIPE_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot read the recipe: {error}") from error
    missing = [key for key in KEYS if not isinstance(found, dict) or key not in found]
    if missing:
        raise ModelError(f"{path}: no recipe of behaviorlm pretrain, it lacks {', '.join(missing)}")
    return found
