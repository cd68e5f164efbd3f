"""The base model: where it is, whether it can be used, and loading it and its tokenizer.

Only safetensors weights are read; a checkpoint in pickle form is refused.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub
import torch
from safetensors import safe_open
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from behaviorlm.errors import ConfigError, ModelError
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.gguf_files import content_hash, is_gguf, unpacked_folder
from behaviorlm.model.model_files import MODEL_FILES, WEIGHTS, model_files
from behaviorlm.model.weight_files import check_weight_files

if TYPE_CHECKING:
    # with scipy behind it: only functions that build a network load it
    from transformers import PreTrainedModel

_HUB_NAME = re.compile(r"[\w][\w.-]*(/[\w.-]+)?")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "*.tiktoken",
)
_POSITION_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
)
_UNLIMITED_POSITIONS = 1 << 20
# As safetensors files call them.
_FLOATING_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


# Also GPT-2's resid_pdrop and its like, layerdrop, drop_path_rate; not heads that a causal language model never runs.
_DROPOUT_KEY = re.compile(r"(?!.*(classif|summary)).*(dropout|drop$|droppath|drop_\w*rate$)")


def base_folder(config: ModelConfig, with_weights: bool = True) -> Path:
    """The folder that holds the base model; downloads one named on the hub, unpacks a GGUF file, unless it is cached.

    with_weights: whether the weights of one on the hub are wanted, too: machines that only write prompts need none.

    Raises ModelError when the folder is missing or holds files that are not its own, the hub model cannot be had or the
    file not unpacked. A path is never tried on the hub.
    """
    path = Path(config.base).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"{path} holds no config.json; model.base must be the folder of a transformers model"
            )
        model_files(path)
        return path
    if is_gguf(path):
        return unpacked_folder(path, config.dtype)
    if path.exists() or path.suffix == ".gguf" or not _HUB_NAME.fullmatch(config.base):
        raise ModelError(
            f"model.base: there is no folder {config.base}; give the folder of a transformers model, or a .gguf file"
        )
    try:
        folder = huggingface_hub.snapshot_download(
            config.base,
            revision=config.revision,
            allow_patterns=list(MODEL_FILES),
            ignore_patterns=["*/*"] if with_weights else ["*/*", WEIGHTS],
        )
    # The hub's client raises errors of its own, of the HTTP client and of the system, with no common parent.
    except Exception as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ModelError(
            f"model.base: {config.base} is no folder here, and the Hugging Face hub did not give it "
            f"({said}). Check the name and the network, or download the model elsewhere and give its folder"
        ) from error
    return Path(folder)


def load_model_config(config: ModelConfig) -> PretrainedConfig:
    """The base's configuration without dropout and with `config_overrides`, which can bring dropout back.

    Raises ModelError; ConfigError for an unknown key.
    """
    folder = base_folder(config, with_weights=False)
    loaded = _stored_config(config, folder)
    for part, key in _dropout_keys(loaded):
        setattr(part, key, type(getattr(part, key))(0))
    known = loaded.to_dict()
    for key, value in config.config_overrides.items():
        if key not in known and not hasattr(loaded, key):
            raise ConfigError(f"model.config_overrides.{key}: {folder / 'config.json'} has no such key")
        setattr(loaded, key, value)
    _check_causal(loaded, folder)
    return loaded


def removed_dropout(config: ModelConfig) -> list[str]:
    """Dropout keys that the base has at other values than 0, and that `load_model_config` sets to 0. Sorted."""
    stored = _stored_config(config, base_folder(config, with_weights=False))
    found = {key for _, key in _dropout_keys(stored)}
    return sorted(found - config.config_overrides.keys())


def dropout_overrides(config: ModelConfig) -> dict[str, Any]:
    """Those of `config_overrides` that set a dropout key."""
    return {key: value for key, value in config.config_overrides.items() if _DROPOUT_KEY.match(key)}


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The base's own tokenizer.

    Raises ModelError when the folder holds none, or one with more tokens than the model has embeddings.
    """
    folder = base_folder(config, with_weights=False)
    if not any(list(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        raise ModelError(
            f"{folder} holds a model but no tokenizer; copy tokenizer.json and tokenizer_config.json of the "
            "original model into it, or save them there with tokenizer.save_pretrained"
        )
    with _readable(folder, "its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=config.trust_remote_code)
    embeddings = load_model_config(config).get_text_config().vocab_size
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= embeddings:
        raise ModelError(
            f"the tokenizer in {folder} has tokens up to id {largest}, but the model only {embeddings} "
            "embeddings; use the tokenizer that the model was trained with, or resize the model's embeddings"
        )
    return tokenizer


def load_model(config: ModelConfig) -> "PreTrainedModel":
    """The base model on the CPU, in evaluation mode, with SDPA attention where its architecture has it.

    dtype: auto: as its weights are stored; what a run takes instead is chosen by `choose_precision`.

    Raises ModelError for a folder without usable weights, for weights that do not fill the model, and for
    anything but a causal language model.
    """
    model_config = load_model_config(config)
    options = _options(config, model_config) | {"dtype": config.dtype}
    if config.random_init:
        return _random_model(config, model_config, options)
    require_weights(config)
    return _filled_model(base_folder(config), model_config, options)


def check_weights(config: ModelConfig) -> None:
    """Raise ModelError where `load_model` would for the weights; only their headers are read, without memory."""
    require_weights(config)
    if config.random_init:
        return
    model_config = load_model_config(config)
    options = _options(config, model_config) | {"device_map": "meta"}
    _filled_model(base_folder(config), model_config, options)


def _filled_model(folder: Path, model_config: PretrainedConfig, options: dict[str, Any]) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    with _readable(folder, "its weights"):
        shows_progress = logging.is_progress_bar_enabled()
        if "device_map" in options:
            logging.disable_progress_bar()  # nothing is loaded
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, config=model_config, use_safetensors=True, output_loading_info=True, **options
            )
        finally:
            if shows_progress:
                logging.enable_progress_bar()
        model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"the weights in {folder} lack {len(missing)} of the model's parameters, such as {missing[0]}; "
            "they would be random. Use a complete checkpoint of a causal language model, and check "
            "model.config_overrides"
        )
    ready: PreTrainedModel = model.eval()
    return ready


def require_weights(config: ModelConfig) -> None:
    """Raise ModelError where the base's folder holds no whole files of weights and none are to be drawn."""
    folder = base_folder(config)
    if config.random_init:
        return
    check_weight_files(folder)
    if not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} holds no *.safetensors weights; convert other formats with model.save_pretrained, or "
            "set model.random_init: true to draw new weights"
        )


def max_positions(config: ModelConfig) -> int:
    """The number of positions the base model has; about a million where its configuration states no limit."""
    text_config = load_model_config(config).get_text_config()
    stated = [getattr(text_config, key, None) for key in _POSITION_KEYS]
    return next((value for value in stated if isinstance(value, int) and value > 0), _UNLIMITED_POSITIONS)


def weights_dtype(config: ModelConfig) -> torch.dtype:
    """The dtype in which `load_model` would hold the base's weights, told from its files. Raises as that does."""
    if config.dtype != "auto":
        return _as_dtype(config.dtype)
    stated = load_model_config(config).dtype
    if stated is None and not config.random_init:
        stated = _stored_dtype(base_folder(config))
    return torch.float32 if stated is None else _as_dtype(stated)


def model_without_weights(config: ModelConfig) -> "PreTrainedModel | None":
    """The base network on torch's meta device: every module, no memory; None for code that cannot be laid out so.

    Raises ModelError for a configuration that makes no network.
    """
    from transformers import AutoModelForCausalLM

    model_config = load_model_config(config)
    options = _options(config, model_config)
    with _readable(base_folder(config, with_weights=False), "its network"), torch.device("meta"):
        try:
            network: PreTrainedModel = AutoModelForCausalLM.from_config(model_config, **options)
        except RuntimeError:  # code of its own that computes with values while it builds
            return None
    return network


def model_fingerprint(config: ModelConfig) -> str:
    """Hex SHA-256 of what the base network is: its files and how they are loaded, not where they lie.

    A GGUF file counts as it is, not as what some version of transformers unpacked. Adaptation is left to the
    fingerprint of the stage that trains.
    """
    digest = hashlib.sha256()
    loading = config.model_dump(include={"dtype", "random_init", "random_init_seed", "config_overrides"})
    digest.update(json.dumps(loading, sort_keys=True).encode())
    if is_gguf(path := Path(config.base).expanduser()):
        digest.update(content_hash(path).encode())
        return digest.hexdigest()
    for path in model_files(base_folder(config)):
        with path.open("rb") as file:
            digest.update(f"\0{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()


def _as_dtype(name: str | torch.dtype) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, name) if isinstance(name, str) else name
    return dtype


def _stored_dtype(folder: Path) -> torch.dtype | None:
    """That of the first floating-point tensor, by which transformers goes where config.json states none."""
    files = sorted(
        folder.glob("*.safetensors"), key=lambda path: (not path.name.startswith("model"), path.name)
    )
    for path in files:
        with _readable(folder, "its weights"), safe_open(path, framework="pt") as file:
            stored = (file.get_slice(name).get_dtype() for name in file.keys())  # noqa: SIM118  # no mapping
            found = next((_FLOATING_DTYPES[name] for name in stored if name in _FLOATING_DTYPES), None)
        if found is not None:
            return found
    return None


def _stored_config(config: ModelConfig, folder: Path) -> PretrainedConfig:
    with _readable(folder, "its config.json"):
        stored: PretrainedConfig = AutoConfig.from_pretrained(
            folder, trust_remote_code=config.trust_remote_code
        )
    return stored


def _dropout_keys(model_config: PretrainedConfig) -> Iterator[tuple[PretrainedConfig, str]]:
    """The dropout keys with a value other than 0, with the configuration they stand in: this one or one within it."""
    for key, value in list(vars(model_config).items()):
        if isinstance(value, PretrainedConfig):
            yield from _dropout_keys(value)
        elif (
            _DROPOUT_KEY.match(key)
            and isinstance(value, int | float)
            and not isinstance(value, bool)
            and value
        ):
            yield model_config, key


@contextlib.contextmanager
def _readable(folder: Path, part: str) -> Iterator[None]:
    """Turns what transformers raises while it reads `part` of a folder into a ModelError."""
    try:
        yield
    # A damaged file surfaces as any of OSError, ValueError, KeyError, RuntimeError or an exception of Rust
    # code.
    except Exception as error:
        message = str(error)
        raise ModelError(
            f"{folder}: {part} cannot be loaded ({type(error).__name__}: {message[:500]}). Check that the "
            "folder is complete and of a supported kind; model code of its own needs "
            "model.trust_remote_code: true"
        ) from error


def _check_causal(model_config: PretrainedConfig, folder: Path) -> None:
    architectures = list(getattr(model_config, "architectures", None) or [])
    stated_causal = not architectures or any(
        name.endswith(("CausalLM", "LMHeadModel")) for name in architectures
    )
    is_known = type(model_config) in MODEL_FOR_CAUSAL_LM_MAPPING or "AutoModelForCausalLM" in (
        getattr(model_config, "auto_map", None) or {}
    )
    if getattr(model_config, "is_encoder_decoder", False) or not stated_causal or not is_known:
        raise ModelError(
            f"{folder} holds {', '.join(architectures) or model_config.model_type}, which is not a causal "
            "language model; give one whose architecture ends in ForCausalLM"
        )


def _options(config: ModelConfig, model_config: PretrainedConfig) -> dict[str, Any]:
    """How transformers builds the network."""
    attention = "sdpa"
    if type(model_config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(model_config)]
        attention = "sdpa" if model_class._supports_sdpa else "eager"
    return {"trust_remote_code": config.trust_remote_code, "attn_implementation": attention}


def _random_model(
    config: ModelConfig, model_config: PretrainedConfig, options: dict[str, Any]
) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM

    # Drawn in float32 and then converted, so that the same seed gives the same network in every dtype. Only
    # parameters are: buffers, such as those of rotary positions, stay in float32 as when weights are loaded.
    dtype = getattr(torch, config.dtype) if config.dtype != "auto" else model_config.dtype or torch.float32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.random_init_seed)
        model = AutoModelForCausalLM.from_config(model_config, **{**options, "dtype": torch.float32})
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    ready: PreTrainedModel = model.eval()
    return ready
