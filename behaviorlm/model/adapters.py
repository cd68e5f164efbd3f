"""What tuning changes: adding an adapter, saving and loading what was trained, and merging it for serving.

Weights are stored as safetensors only. The files name no path, so that the same weights have the same bytes
anywhere.
"""

import copy
import json
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from behaviorlm.errors import ModelError
from behaviorlm.model.base_model import dropout_overrides, load_model, model_without_weights
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.lm_head import causal_lm
from behaviorlm.model.low_rank import in_one_operation

AdaptedModel = PreTrainedModel | PeftModel

# The names that peft gives these files, so that its own loader and other tools read the folder too.
_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PROBE_SHAPE = (2, 32)
# Largest difference of logits after merging, relative to the largest logit: rounding of the merged weights.
_EXPORT_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def add_adapter(model: PreTrainedModel, config: ModelConfig, seed: int) -> AdaptedModel:
    """The model, ready to be trained: a new LoRA adapter drawn from `seed`, or all weights trainable.

    The adapter starts as the identity (peft's initialization) and is held in float32 beside bfloat16 weights.
    Works in place. Raises ModelError when `lora.target_modules` names nothing in the model.
    """
    if config.adaptation == "full":
        return model.requires_grad_(True)
    lora = LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,  # type: ignore[arg-type]  # peft divides it by the rank; any number does
        target_modules=config.lora.target_modules,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _with_adapter(model, lora)


def check_adapter(config: ModelConfig) -> None:
    """Raise ModelError where `lora.target_modules` fits nothing in the base. Its weights are not read."""
    network = None if config.adaptation == "full" else model_without_weights(config)
    if network is None:
        return
    with warnings.catch_warnings(action="ignore"):  # peft's, for whoever tunes
        add_adapter(network, config, seed=0)


def save_trained(model: AdaptedModel, folder: Path) -> None:
    """Write what was trained: the adapter in peft's format or all the weights."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, PeftModel):
        weights = {name: value.detach().cpu().contiguous() for name, value in _adapter_weights(model).items()}
        save_file(weights, folder / _ADAPTER_WEIGHTS, metadata={"format": "pt"})
        (folder / _ADAPTER_CONFIG).write_text(_adapter_config_json(model), encoding="utf-8")
    else:
        model.save_pretrained(folder)


def load_trained(config: ModelConfig, folder: Path, trainable: bool = False) -> AdaptedModel:
    """The base model of `config` with what `save_trained` wrote, in evaluation mode.

    Without `trainable`, no parameter asks for gradients. Raises ModelError for a folder that does not fit the
    base.
    """
    folder = Path(folder)
    model: AdaptedModel
    if (folder / _ADAPTER_CONFIG).is_file():
        model = _load_adapter(config, folder)
    elif (folder / "config.json").is_file():
        # The folder's config.json has the overrides; dropout must be asked for again.
        overrides = dropout_overrides(config)
        stored = {"base": str(folder), "random_init": False, "config_overrides": overrides}
        model = load_model(config.model_copy(update=stored))
    else:
        raise ModelError(
            f"{folder} holds no trained model (neither {_ADAPTER_CONFIG} nor config.json); tune one first"
        )
    if not trainable:
        model.requires_grad_(False)
    return model.eval()


def export_merged(model: AdaptedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> float:
    """Write a plain transformers model, adapter merged, with its tokenizer and chat template, for any server.

    Reads the written model back and compares its logits with those of `model`, which is left as it is.
    Returns the largest difference, relative to the largest logit. Raises ModelError when that exceeds
    rounding, or when the written tokenizer differs.
    """
    folder = Path(folder)
    merged = copy.deepcopy(model).merge_and_unload(safe_merge=True) if isinstance(model, PeftModel) else model
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    network: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        use_safetensors=True,
        dtype=merged.dtype,
        attn_implementation=merged.config._attn_implementation,
    )
    expected = _probe_logits(model)
    difference = _probe_logits(network.to(model.device).eval()) - expected
    largest = float(difference.abs().max() / expected.abs().max().clamp(min=1.0))
    tolerance = _EXPORT_TOLERANCE.get(merged.dtype, 1e-4)
    if not largest <= tolerance:
        raise ModelError(
            f"the merged model in {folder} differs from the tuned one: logits by {largest:.2g} of the "
            f"largest, more than rounding of {merged.dtype} explains ({tolerance:g}). Do not serve it; "
            "export with model.dtype: float32"
        )
    read_tokenizer = AutoTokenizer.from_pretrained(folder)
    same_template = read_tokenizer.chat_template == tokenizer.chat_template
    if not same_template or read_tokenizer.get_vocab() != tokenizer.get_vocab():
        raise ModelError(
            f"the tokenizer written to {folder} differs from the tuned model's; do not serve this export"
        )
    return largest


def merged_where_exact(model: AdaptedModel) -> AdaptedModel:
    """The model with its adapter added to its weights, which spares the adapter's products; works in place.

    Only in float32, where it differs by rounding: bfloat16 weights would lose most of what is small beside them. An
    adapter on the head or the embeddings stays, too, for these may share a matrix.
    """
    if not isinstance(model, PeftModel):
        return model
    inner = causal_lm(model)
    head = inner.get_output_embeddings()
    is_shared = any(isinstance(end, BaseTunerLayer) for end in (head, inner.get_input_embeddings()))
    dtypes = {parameter.dtype for parameter in model.parameters()}
    if dtypes != {torch.float32} or not isinstance(head, torch.nn.Linear) or is_shared:
        return model
    merged: AdaptedModel = model.merge_and_unload(safe_merge=True)
    return merged


def _with_adapter(model: PreTrainedModel, lora: LoraConfig) -> PeftModel:
    wanted = lora.target_modules  # peft replaces "all-linear" by what it found
    value = sorted(wanted) if isinstance(wanted, set) else wanted
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not model.get_output_embeddings()
    }
    try:
        adapted = get_peft_model(model, lora)
    except (ValueError, re.error) as error:
        raise ModelError(
            f"model.lora.target_modules: {value!r} does not fit {type(model).__name__}: {error} Its linear modules "
            f"are {', '.join(sorted(linear))}; name some of them"
            f"{'' if value == 'all-linear' else ', or set all-linear for all'}"
        ) from None
    in_one_operation(adapted)
    return adapted


def _load_adapter(config: ModelConfig, folder: Path) -> PeftModel:
    try:
        stored = json.loads((folder / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
        weights = load_file(folder / _ADAPTER_WEIGHTS)
        model = _with_adapter(load_model(config), LoraConfig(**{**stored, "inference_mode": False}))
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ModelError(f"the adapter in {folder} cannot be read ({error}); tune or copy it again") from None
    expected = {name: tuple(value.shape) for name, value in _adapter_weights(model).items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    differing = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    if differing:
        name = differing[0]
        raise ModelError(
            f"the adapter in {folder} belongs to another base model than {config.base}: {len(differing)} of "
            f"its weights do not fit, such as {name} (stored {found.get(name)}, expected "
            f"{expected.get(name)}); set model.base to the one that it was tuned from"
        )
    set_peft_model_state_dict(model, weights)
    return model


def _adapter_weights(model: PeftModel) -> dict[str, torch.Tensor]:
    # Embeddings are never trained here; "auto" would look for the base model on the hub to decide.
    weights: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return weights


def _adapter_config_json(model: PeftModel) -> str:
    stored: dict[str, Any] = model.peft_config["default"].to_dict()
    stored |= {"base_model_name_or_path": None, "inference_mode": True}
    return json.dumps(stored, sort_keys=True, indent=2, default=sorted) + "\n"  # sets are no JSON


def _probe_logits(model: AdaptedModel) -> torch.Tensor:
    """Logits of two fixed random sequences, float32 [2, 32, V]."""
    size = model.config.get_text_config().vocab_size
    ids = torch.randint(size, _PROBE_SHAPE, generator=torch.Generator().manual_seed(0))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids.to(model.device), use_cache=False).logits.float()
    model.train(was_training)
    return logits
