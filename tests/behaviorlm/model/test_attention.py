"""How models are made to take trees: what is refused, and models that change their logits or cut off by index."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    FalconH1Config,
    GPTNeoConfig,
    HyperCLOVAXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    OpenAIGPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    RecurrentGemmaConfig,
)

from behaviorlm.errors import ModelError
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.lm_head import head_logits, target_log_probabilities
from behaviorlm.model.tree_model import pack_tensors, read_out_states
from behaviorlm.scoring.label_scoring import label_scorer
from behaviorlm.trees.token_tree import TokenTree, TreeWriter, plain_sequences
from tests.behaviorlm.tiny_models import (
    COMMON,
    RECURRENT,
    VOCABULARY,
    WINDOW,
    random_tokens,
    random_tree,
    tiny_model,
    window_writer,
)

SCALED_HEADS: dict[str, PretrainedConfig] = {
    "falcon_h1": FalconH1Config(
        **COMMON,
        lm_head_multiplier=0.1,
        mamba_d_ssm=32,
        mamba_n_heads=4,
        mamba_d_state=8,
        mamba_chunk_size=8,
    ),
    "recurrent_gemma": RecurrentGemmaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        logits_soft_cap=2.0,
        eos_token_id=2,
        bos_token_id=1,
    ),
    "hyperclovax": HyperCLOVAXConfig(**COMMON, logits_scaling=0.25),
}


def gpt_neo(layers: list[str], positions: int = 256) -> GPTNeoConfig:
    return GPTNeoConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[layers, 1]],
        window_size=WINDOW,
        max_position_embeddings=positions,
        bos_token_id=1,
        eos_token_id=2,
    )


def own_log_probabilities(model: PreTrainedModel, tree: TokenTree) -> np.ndarray:
    """Log-probability of each read-out's target from the logits that the model itself gives for its sequence."""
    found = np.zeros(len(tree.source))
    for token_ids, read_outs in plain_sequences(tree):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor(token_ids.astype(np.int64))[None]).logits[0]
        log_probabilities = torch.log_softmax(logits.double(), -1).numpy()
        found[read_outs] = log_probabilities[tree.depth[tree.source[read_outs]], tree.target[read_outs]]
    return found


def found_log_probabilities(model: PreTrainedModel, tree: TokenTree, attention: TreeAttention) -> np.ndarray:
    with torch.no_grad():
        batch = pack_tensors(tree, "cpu")
        states = read_out_states(model, batch, attention)
        return target_log_probabilities(model, states, batch.target).numpy()


@pytest.mark.parametrize("name", SCALED_HEADS)
def test_read_outs_are_those_of_the_models_own_logits_where_its_head_changes_them(name: str) -> None:
    model = tiny_model(SCALED_HEADS[name])
    tree = random_tree(seed=5)
    found = found_log_probabilities(model, tree, choose_attention(model))
    np.testing.assert_allclose(found, own_log_probabilities(model, tree), atol=1e-4)


def test_a_model_whose_hidden_states_are_in_another_dtype_than_its_head_runs_as_plain_sequences() -> None:
    model = tiny_model(RECURRENT).bfloat16()
    attention = choose_attention(model)
    tree = random_tree(seed=6)
    found, expected = found_log_probabilities(model, tree, attention), own_log_probabilities(model, tree)
    assert attention.kind == "plain"
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.1)


class _HalvedLogits(LlamaForCausalLM):
    """A model whose own code changes the logits in a way that no configuration key tells."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits / 2
        return output


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_changes_its_logits_in_an_unknown_way_is_refused(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model: Any = _HalvedLogits(LlamaConfig(**COMMON, initializer_range=0.3))
    model.to(dtype)
    with pytest.raises(ModelError, match=r"model\.base: a llama model's own logits differ .* LM head"):
        choose_attention(model)
    assert model.training  # the mode is left as it was


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_a_window_counted_in_flattened_tokens_means_plain_sequences_and_their_scores(named: bool) -> None:
    model = tiny_model(gpt_neo(["global", "local"]))
    if not named:  # then the probe has to find it
        model.config.attention_layers = []
    attention = choose_attention(model)
    assert attention.kind == "plain"
    tree = random_tree(seed=2)
    np.testing.assert_allclose(
        found_log_probabilities(model, tree, attention), own_log_probabilities(model, tree), atol=1e-4
    )

    random = np.random.default_rng(1)
    instruction, lines, questions = (
        random_tokens(random, 8, 8),
        [random_tokens(random, 3, 5) for _ in range(3)],
        [random_tokens(random, 1, 3) for _ in range(3)],
    )
    labels = [np.array([3 + label, label % 7 + 3, 2], dtype=np.int32) for label in range(6)]
    write = window_writer(instruction, lines, questions)

    scores = label_scorer(model, attention, labels, 200).score(write)
    for row in range(3):
        for column, label in enumerate(labels):
            writer = TreeWriter()
            writer.open(np.concatenate([instruction, *lines[: row + 1], questions[row]]))
            writer.chain(label, weight=1.0, part=0, item=0)
            expected = own_log_probabilities(model, writer.finish()).sum()
            assert scores[row, column] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        gpt_neo(["global", "global"], positions=48),
        OpenAIGPTConfig(vocab_size=VOCABULARY, n_positions=96, n_embd=32, n_layer=2, n_head=4),
    ],
    ids=["gpt_neo", "openai"],
)
def test_trees_longer_than_the_mask_that_a_model_keeps_run_as_plain_sequences(
    config: PretrainedConfig,
) -> None:
    model = tiny_model(config)
    attention = choose_attention(model)
    tree = random_tree(seed=4, events=9)
    assert tree.depth.max() < 48 and len(tree) > 96
    np.testing.assert_allclose(
        found_log_probabilities(model, tree, attention), own_log_probabilities(model, tree), atol=1e-4
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_are_added_in_the_weights_type_and_their_rows_are_aligned(dtype: torch.dtype) -> None:
    model = tiny_model(LlamaConfig(**COMMON, dtype=dtype))
    attention = choose_attention(model)
    end, depth = torch.tensor([[5, 3, 3, 5, 5]]), torch.tensor([[0, 1, 2, 1, 2]])
    mask = attention.masks(end, depth)
    assert mask.dtype == dtype and mask.shape == (1, 1, 5, 5)
    assert mask.stride(-2) % 16 == 0 and mask.stride(-1) == 1
    assert (mask == 0).tolist() == TreeAttention("full").masks(end, depth).tolist()


def test_attention_of_cudnn_which_plans_for_each_shape_is_switched_off() -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    choose_attention(tiny_model(LlamaConfig(**COMMON)))
    assert not torch.backends.cuda.cudnn_sdp_enabled()


class Products(TorchDispatchMode):
    """Counts matrix products: the matrices of each."""

    def __init__(self) -> None:
        super().__init__()
        self.matrices: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm", "addmm"):
            self.matrices.append(args[0].shape[0] if name == "bmm" else 1)
        return func(*args, **(kwargs or {}))


def test_the_head_reads_its_matrix_once_for_a_slice_of_states() -> None:
    model = tiny_model(LlamaConfig(**COMMON))
    states = torch.randn(5, 9, COMMON["hidden_size"])
    with torch.no_grad(), Products() as products:
        found = head_logits(model, states[:, 2:4])
    assert products.matrices == [1]
    torch.testing.assert_close(found, model.get_output_embeddings()(states)[:, 2:4])
