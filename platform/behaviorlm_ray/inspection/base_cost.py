"""What a log would take with a base model: tokens, samples, memory and computing, before anything is tuned.

Loads the tokenizer, which the rest of a look does without.
"""

from behaviorlm.inspection.mapped import Mapped
from behaviorlm_ray.inspection.overview import Overview

MOST_EVENTS = 5_000
BYTES_OF_FULL_TUNING = 16
"""Bytes a weight: itself and its gradient in two, the float32 copy and two moments of AdamW in four each."""
BYTES_OF_ADAPTER = 2.2
"""With LoRA: the weights in bfloat16 and a little for the adapter; activations come on top of both (our choice)."""
OPERATIONS_A_TOKEN = 6
"""Floating point operations of training, forward and backward, for each weight and token."""


def cost_lines(overview: Overview, base: str) -> list[str]:
    """In words. Raises ModelError and ConfigError for a base that cannot be used."""
    from behaviorlm.model.base_model import load_tokenizer, model_without_weights
    from behaviorlm.model.config import ModelConfig
    from behaviorlm.prompts.config import PromptConfig
    from behaviorlm.prompts.encoder import PromptEncoder

    model = ModelConfig(base=base)
    proposed = {choice.key: choice.value for choice in overview.choices}
    prompt = PromptConfig(**{key: proposed[key] for key in ("max_events", "stride") if key in proposed})
    encoder = PromptEncoder(load_tokenizer(model), prompt)
    events = overview.mapped.timelines.slice(0, MOST_EVENTS)
    line = _mean(encoder.encode_lines(events).value_lengths().to_numpy())
    names = encoder.encode_names(list(overview.mapped.facts.behaviors))
    label = _mean([len(name) for name in names])
    rows = _rows_of_log(overview)
    training = _share(overview.mapped, "train_targets") * rows
    # A window shows max_events lines once, and a question and a label for each of its `stride` targets.
    tokens = training * (line * prompt.max_events / prompt.stride + 2 * label)
    network = model_without_weights(model)
    found = [
        f"with {base}: a line of history is {line:.1f} tokens, a behavior's name {label:.1f}; "
        f"about {training:,.0f} training samples and {tokens / 1e6:,.1f} million tokens an epoch, histories shared",
    ]
    if network is not None:
        weights = sum(parameter.numel() for parameter in network.parameters())
        found.append(
            f"{weights / 1e6:,.0f} million weights: about {weights * BYTES_OF_ADAPTER / 1e9:,.1f} GB with an adapter, "
            f"{weights * BYTES_OF_FULL_TUNING / 1e9:,.1f} GB for full tuning, activations aside; an epoch is about "
            f"{OPERATIONS_A_TOKEN * weights * tokens / 1e15:,.2f} PFLOP"
        )
    return found


def _rows_of_log(overview: Overview) -> float:
    """About the rows of the log; those of the sample where that cannot be told."""
    sample = overview.sample
    return float(max(sample.rows, sample.rows_estimated or 0))


def _share(mapped: Mapped, count: str) -> float:
    return mapped.facts.counts.get(count, 0) / max(mapped.facts.rows, 1)


def _mean(numbers: object) -> float:
    import numpy as np

    values = np.asarray(numbers, float)
    return float(values.mean()) if len(values) else 0.0
