"""The counted work equals torch's own counter on small models."""

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.kept_tail import kept_tail
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.trees.closed_trie import build_closed_trie
from behaviorlm.trees.token_tree import TreeWriter
from behaviorlm_ray.costs.operations import StepWork, model_work, step_work

LENGTH = 24


def llama(layers: int = 2, **changes: Any) -> LlamaForCausalLM:
    config: dict[str, Any] = {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
    }
    config |= {"num_key_value_heads": 2, "num_hidden_layers": layers, "attn_implementation": "eager"}
    return LlamaForCausalLM(LlamaConfig(**(config | changes)))


def counted(model: Any) -> int:
    """Operations of a forward and a backward pass over one sequence with every position read out, by torch."""
    tokens = torch.arange(LENGTH)[None] % 90
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens).logits.sum().backward()
    return counter.get_total_flops()


WHOLE = StepWork(tokens=LENGTH, attention_pairs=LENGTH * LENGTH, readouts=LENGTH)
"""Eager attention computes all pairs, masked ones too."""


@pytest.mark.parametrize(
    "model",
    [
        llama(),
        llama(tie_word_embeddings=True),
        llama(head_dim=16),
        GPT2LMHeadModel(
            GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, attn_implementation="eager")  # type: ignore[call-arg]
        ),
    ],
    ids=["llama", "tied", "wide heads", "gpt2"],
)
def test_full_tuning_is_six_operations_a_weight_as_torch_counts(model: Any) -> None:
    work = model_work(model)
    assert work is not None
    # The head's rotary tables and the like are not products of weights; torch counts one tiny product of them.
    assert work.of(WHOLE) == pytest.approx(counted(model), rel=2e-3)


def test_lora_is_four_operations_a_frozen_weight_but_for_the_first_inputs() -> None:
    model = get_peft_model(llama(layers=4), LoraConfig(r=4, target_modules="all-linear"))
    work = model_work(model)
    assert work is not None
    base: Any = model.get_base_model()
    layer = base.model.layers[0].self_attn
    # Nobody needs the gradient of the embeddings, so the products that would lead there are not computed.
    first = sum(
        parameter.numel()
        for projection in (layer.q_proj, layer.k_proj, layer.v_proj)
        for name, parameter in projection.named_parameters()
        if "lora_B" not in name
    )
    assert work.of(WHOLE) - 2 * LENGTH * first == pytest.approx(counted(model), rel=2e-3)
    full = model_work(llama(layers=4))
    assert full is not None
    assert work.per_token < full.per_token  # adapters are large beside a model as small as this


@pytest.mark.parametrize("tied", [False, True])
def test_a_loss_over_labels_is_the_work_of_their_rows_of_the_head(tied: bool) -> None:
    model, labels = llama(tie_word_embeddings=tied), np.array([3, 7, 8, 40])
    writer = TreeWriter()
    said = np.resize(labels, LENGTH + 1).astype(np.int32)
    writer.chain(said, np.arange(LENGTH + 1) > 0, weight=1.0, part=0, item=0)
    work = model_work(model, len(labels))
    assert work is not None
    with FlopCounterMode(display=False) as counter:
        batch = pack_tensors(writer.finish(), "cpu")
        TreeModel(model, TreeAttention("full"), label_tokens=labels)(batch)[0].backward()
    counted_pairs = StepWork(LENGTH, LENGTH * LENGTH, readouts=0, sample_readouts=LENGTH)
    assert work.of(counted_pairs) == pytest.approx(counter.get_total_flops(), rel=2e-3)


def test_what_holds_a_sample_is_the_work_of_its_nodes_and_of_the_rows_that_they_take() -> None:
    model = llama()
    names = [np.array(name, np.int32) for name in ([5, 9], [6, 7, 9], [6, 8, 9])]
    trie = build_closed_trie(names, 100).among(np.array([0, 1, 2]))
    (piece,) = trie.pieces
    writer = TreeWriter()
    writer.open(np.arange(1, 12, dtype=np.int32))
    writer.chain(names[0][:1], weight=1.0, part=0, item=0)
    q = np.log(np.full(3, 1 / 3, np.float32))
    writer.kept_sample(piece.tree, piece.places, weight=1.0, reference=q, part=1)
    pack = writer.finish()
    term = kept_tail(trie, 1.0)
    assert step_work([pack]) == StepWork(
        12, 11 * 12 // 2 + 12, readouts=0, sample_readouts=1, kept_readouts=2
    )
    work = model_work(model, kept_tokens=len(term.among))
    assert work is not None
    with FlopCounterMode(display=False) as counter:
        TreeModel(model, TreeAttention("full"), 2, kept_tail=term)(pack_tensors(pack, "cpu"))[0].backward()
    # torch counts masked pairs, and the head's rows of kept samples once more: their logits are recomputed
    extra = 2 * 2 * len(term.among) * 32
    eager = StepWork(12, 12 * 12, readouts=0, sample_readouts=1, kept_readouts=2)
    assert work.of(eager) == pytest.approx(counter.get_total_flops() - extra, rel=2e-3)


def test_experts_have_no_number_rather_than_a_wrong_one() -> None:
    config = MixtralConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4,
    )  # fmt: skip
    assert model_work(MixtralForCausalLM(config)) is None


def test_the_work_of_a_tree_counts_shared_tokens_once() -> None:
    writer = TreeWriter()
    writer.open(np.array([1, 2, 3], dtype=np.int32))
    writer.leaf(np.array([4, 5], dtype=np.int32))
    writer.leaf(np.array([6], dtype=np.int32))
    tree = writer.finish()
    assert step_work([tree, tree]) == StepWork(
        tokens=12, attention_pairs=2 * (1 + 2 + 3 + 4 + 5 + 4), readouts=0, sample_readouts=0
    )
