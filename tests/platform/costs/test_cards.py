"""Peaks are those of the device, or there is none."""

import pytest

from behaviorlm_ray.costs.cards import peak_teraflops


@pytest.mark.parametrize(
    ("device", "dtype", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16 with float32 masters", 989.0),
        ("NVIDIA H100 PCIe", "bfloat16 with float32 masters", 756.0),
        ("NVIDIA A100-SXM4-80GB", "bfloat16 with float32 masters", 312.0),
        ("NVIDIA L4", "bfloat16 with float32 masters", 121.0),
        ("NVIDIA L40S", "bfloat16 with float32 masters", 362.0),
        ("NVIDIA L40", "bfloat16 with float32 masters", None),
        ("NVIDIA A10", "bfloat16 with float32 masters", None),
        ("Some GPU", "bfloat16 with float32 masters", None),
        ("NVIDIA H100 80GB HBM3", "float32", None),
    ],
)
def test_peaks_are_those_of_the_device_or_none(device: str, dtype: str, peak: float | None) -> None:
    assert peak_teraflops(device, dtype) == peak
