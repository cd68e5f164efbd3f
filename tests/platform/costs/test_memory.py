"""What a worker is told to need, against bytes that an engine holds and that a pass keeps."""

from typing import Any

import numpy as np
import pytest
import torch

from behaviorlm.model.tree_model import pack_tensors
from behaviorlm_ray.costs.memory import Passing, activations, choose_stage, worker_memory
from behaviorlm_ray.costs.model_sizes import ModelSizes, model_sizes
from behaviorlm_ray.tuning.config import TuningConfig
from behaviorlm_ray.tuning.replicated import Replicated
from tests.platform.tuning_runs import random_pack, toy_model


def nbytes(tensors: Any) -> int:
    """Of different memory, each once."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("adapter", [True, False])
def test_weights_masters_moments_and_gradients_are_those_that_the_engine_holds(
    dtype: torch.dtype, adapter: bool
) -> None:
    low = dtype == torch.bfloat16
    engine = Replicated(toy_model(dtype, adapter), TuningConfig(), use_gpu=False, low_precision=low)
    told = worker_memory(model_sizes(engine.module.model), 0, 1, Passing(0, 0, 0, False))
    engine.optimizer.step()  # which makes the moments
    moments = [
        value for state in engine.optimizer.state.values() for name, value in state.items() if name != "step"
    ]
    gradients = [master.grad for master in engine.masters]
    assert told.weights == nbytes(engine.module.parameters())
    own_masters = engine.masters if low else []
    assert told.optimizer == nbytes([*own_masters, *moments])
    assert told.gradients == nbytes(gradients)


def kept_bytes(model: Any, pack: Any) -> int:
    """What a pass over a pack keeps, weights left out, as autograd tells it."""
    known = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    found: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(pack)[0]
    del loss
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("adapter", [True, False])
def test_what_a_pass_keeps_is_told_within_a_quarter(dtype: torch.dtype, adapter: bool) -> None:
    model = toy_model(dtype, adapter).to(dtype).train()
    tree = random_pack(np.random.default_rng(0), 1.0)
    sizes = model_sizes(model.model)
    # the head is left out on both sides: on CPU its logits are kept otherwise
    without_head = Passing(len(tree), 0, 0, False)
    pack = pack_tensors(tree, "cpu", row_tokens=None)
    logits = len(tree.part) * sizes.vocabulary * 4
    assert activations(sizes, without_head) == pytest.approx(kept_bytes(model, pack) - logits, rel=0.25)


def test_counting_leaves_the_model_as_it_was() -> None:
    model = toy_model().model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sizes = model_sizes(model)
    assert model_sizes(model) == sizes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.get_base_model().config._attn_implementation == "sdpa"  # type: ignore[operator]


LARGE = ModelSizes(8_030_000_000, 8_030_000_000, 7e9, 525_336_576, 2, 32, 4096, 128_256, 200_000.0 * 32)
ADAPTED = ModelSizes(8_072_000_000, 42_000_000, 7e9, 229_376, 2, 32, 4096, 128_256, 197_000.0 * 32)
PACK = Passing(4096, 1024, 128_256, True)


@pytest.mark.parametrize(
    ("sizes", "workers", "gib", "stage"),
    [
        (ADAPTED, 8, 79.6, 0),
        (ADAPTED, 8, 39.5, 0),
        (ADAPTED, 8, 15.0, 3),
        (LARGE, 8, 79.6, 3),
        (LARGE, 8, 179.0, 1),
        (LARGE, 1, 79.6, 0),
    ],
)
def test_no_more_is_shared_out_than_the_card_asks_for(
    sizes: ModelSizes, workers: int, gib: float, stage: int
) -> None:
    chosen = choose_stage(sizes, workers, PACK, gib)
    assert chosen.stage == stage
    assert f"{gib:.1f} GiB" in chosen.reason


def test_options_of_deepspeed_are_not_passed_over() -> None:
    assert choose_stage(ADAPTED, 8, PACK, 79.6, least=1).stage == 1


def test_each_stage_holds_less_than_the_one_before() -> None:
    held = [worker_memory(LARGE, stage, 8, PACK) for stage in (0, 1, 2, 3)]
    told = [memory.weights + memory.optimizer + memory.gradients for memory in held]
    assert told == sorted(told, reverse=True) and len({*told}) == 4
    # weights 2 bytes, masters 4, moments 8, sums 4
    assert told[0] == 18 * LARGE.weights and told[2] == pytest.approx((2 + 16 / 8) * LARGE.weights)
