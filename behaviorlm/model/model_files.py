"""Which files of a folder make a model, and that they are its own: somebody else may have made the folder."""

from pathlib import Path

from behaviorlm.errors import ModelError

WEIGHTS = "*.safetensors"
MODEL_FILES = ("*.json", WEIGHTS, "*.model", "*.txt", "*.jinja", "*.tiktoken", "*.py")
"""What a model is made of, at the top of its folder: network, weights, tokenizer, chat template."""
MOST_BYTES = 512 << 20
"""Of any of them but weights, which are not read into memory whole. Tokenizers of 260,000 tokens take 40 MB."""


def model_files(folder: Path) -> list[Path]:
    """The model's files, sorted by name.

    Raises ModelError for a link to a file elsewhere, which an export would copy with whatever it holds, unless to
    weights, whose form is checked, or into the hub's cache, which keeps content apart from names; and for a file of a
    size that no tokenizer or description has.
    """
    found = sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()})
    home = folder.resolve()
    if home.parent.name == "snapshots":  # models--owner--name/snapshots/revision, beside which blobs/ lies
        home = home.parent.parent
    for path in found:
        if path.suffix == ".safetensors":
            continue
        if not path.resolve().is_relative_to(home):
            raise ModelError(
                f"{path} is a link to {path.resolve()}, outside of the model's folder; put a copy of the file in its "
                "place if it belongs to the model, or remove it"
            )
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ModelError(
                f"{path} has {size / 2**20:,.0f} MiB, and no file of a model but its weights has more than "
                f"{MOST_BYTES >> 20}; download the model again, or remove the file"
            )
    return found
