"""What copies of a token hand back to it is added up, and alike each time."""

import numpy as np
import pytest
import torch

from behaviorlm.model.row_attention import added

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")),
]


@pytest.mark.parametrize("device", DEVICES)
def test_copies_are_added_in_the_same_order_each_time(device: str) -> None:
    random = np.random.default_rng(4)
    tokens, copies = 50, 3000
    found, more = (random.normal(size=(count, 2, 8)).astype(np.float32) for count in (tokens, copies))
    places = random.integers(0, tokens, copies)
    expected = found.astype(np.float64)
    np.add.at(expected, places, more.astype(np.float64))

    def once() -> torch.Tensor:
        first, at, second = (torch.tensor(values, device=device) for values in (found, places, more))
        return added(first, at, second)

    results = [once() for _ in range(5)]
    assert np.abs(results[0].cpu().numpy() - expected).max() < 1e-4
    assert all(torch.equal(result, results[0]) for result in results)
