"""The head over its whole vocabulary in blocks: the model's own log-probabilities, never more logits than allowed."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import CohereConfig, Gemma2Config, LlamaConfig, PhiConfig, PretrainedConfig

from behaviorlm.model import lm_head
from behaviorlm.scoring import whole_head
from tests.behaviorlm.tiny_models import COMMON, VOCABULARY, tiny_model

HEADS: dict[str, PretrainedConfig] = {
    "bias": PhiConfig(**COMMON),
    "tied": LlamaConfig(**COMMON, tie_word_embeddings=True),
    "soft cap": Gemma2Config(**COMMON, head_dim=8, sliding_window=5, final_logit_softcapping=1.5),
    "scaled": CohereConfig(**COMMON, logit_scale=0.2),
}


@pytest.mark.parametrize("prompts", [1, 3, 40])
@pytest.mark.parametrize("name", [*HEADS, "adapter"])
def test_blocks_give_the_models_log_probabilities_within_their_bound(
    name: str, prompts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = tiny_model(HEADS.get(name, HEADS["bias"]))
    if name == "adapter":
        targets = [key for key, _ in model.named_modules() if key.endswith(("head", "q_proj"))]
        model = get_peft_model(model, LoraConfig(r=2, target_modules=targets, init_lora_weights=False)).eval()
    torch.manual_seed(0)
    states = torch.randn(prompts, 7, lm_head.causal_lm(model).config.hidden_size)
    edges = np.random.default_rng(0).integers(0, [7, VOCABULARY], (50, 2))
    source, target = edges.T
    expected = torch.log_softmax(lm_head.head_logits(model, states).double(), -1)[:, source, target]

    unwatched, allowed, seen = lm_head.adjusted_logits, VOCABULARY + 3, list[int]()
    monkeypatch.setattr(whole_head, "HEAD_LOGITS", {"cpu": allowed})
    monkeypatch.setattr(whole_head, "HEAD_ROWS", 16)

    def adjusted(model: Any, logits: Tensor) -> Tensor:
        seen.append(logits.numel())
        return unwatched(model, logits)

    for module in (whole_head, lm_head):
        monkeypatch.setattr(module, "adjusted_logits", adjusted)
    with torch.no_grad():
        found = whole_head.edge_log_probabilities(model, states, source, target)
    assert (found.double() - expected).abs().max() < 1e-5
    assert max(seen) <= allowed
    # every state and every token once; only states at which edges are read
    assert sum(seen) == prompts * 7 * VOCABULARY


@given(st.integers(1, 4096), st.integers(1, 1 << 28))
def test_a_block_is_aligned_and_holds_no_more_than_allowed_and_little_less(rows: int, allowed: int) -> None:
    columns, fit = whole_head.columns_of_block(rows, allowed), allowed // rows
    if fit < whole_head.COLUMNS:
        assert columns == max(1, fit)
    else:
        assert columns % whole_head.COLUMNS == 0 and fit - whole_head.COLUMNS < columns <= fit
