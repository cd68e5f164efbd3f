"""The peer of tuning has the same gradients, and runs every sample's whole history."""

import torch

from benchmarks.bench_tuning import measured
from benchmarks.gpu_shapes import drawn_log, drawn_model, shapes, with_adapter


def test_packed_sequences_have_our_gradients_and_more_tokens() -> None:
    model = with_adapter(
        drawn_model(shapes(is_tiny=True)["8B"], torch.device("cpu"), torch.float32, gain=1.2)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    row = measured(model, drawn_log(2048, 3, 16, 12), cap=4, samples=8, rounds=1, ceiling=1.0)
    assert row["equal"] and 0 < row["tokens"] < row["peer_tokens"]
