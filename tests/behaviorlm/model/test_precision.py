"""What `model.dtype: auto` comes to, by hardware and by the base."""

from pathlib import Path

import pytest
from transformers import LlamaConfig

import behaviorlm
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.precision import LEAST_WIDTH, choose_precision, slowness
from tests.hardware import cpu_with

EMBEDDED = Path(behaviorlm.__file__).parent / "assets" / "base"


def drawn(folder: Path, width: int, dtype: str = "auto") -> ModelConfig:
    """A base of this width whose weights would be drawn: only its configuration is there."""
    LlamaConfig(hidden_size=width, num_attention_heads=4, vocab_size=16).save_pretrained(folder)
    return ModelConfig.model_validate({"base": str(folder), "random_init": True, "dtype": dtype})


@pytest.mark.parametrize(
    ("flags", "width", "expected"),
    [
        (("amx_bf16", "avx512_bf16"), LEAST_WIDTH, "bfloat16"),
        (("amx_bf16",), LEAST_WIDTH, "bfloat16"),
        (("avx512_bf16",), LEAST_WIDTH, "bfloat16"),
        (("avx512_f", "avx2"), LEAST_WIDTH, "float32"),
        (("amx_bf16", "avx512_bf16"), LEAST_WIDTH // 2, "float32"),
    ],
)
def test_auto_is_bfloat16_for_wide_bases_on_cpus_that_multiply_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], width: int, expected: str
) -> None:
    cpu_with(monkeypatch, *flags)
    found = choose_precision(drawn(tmp_path, width), use_gpu=False)
    assert (found.dtype, found.stored) == (expected, "float32")
    assert found.by_hardware == (width == LEAST_WIDTH)
    if expected == "bfloat16":
        name = "AMX" if "amx_bf16" in flags else "AVX512-BF16"
        assert (
            found.told == f"weights in bfloat16, stored in float32: this CPU has {name} (model.dtype: auto)"
        )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_dtype_that_is_asked_for_is_taken_on_all_hardware_and_slow_hardware_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    for flags in ((), ("avx512_bf16",)):
        cpu_with(monkeypatch, *flags)
        found = choose_precision(drawn(tmp_path, LEAST_WIDTH, dtype), use_gpu=False)
        assert (found.dtype, found.by_hardware) == (dtype, False)
        assert (slowness(dtype, use_gpu=False) is not None) == (dtype == "bfloat16" and not flags)


@pytest.mark.parametrize("use_gpu", [False, True])
def test_the_embedded_base_stays_in_float32_on_all_hardware(
    monkeypatch: pytest.MonkeyPatch, use_gpu: bool
) -> None:
    cpu_with(monkeypatch, "amx_bf16", "avx512_bf16")
    found = choose_precision(ModelConfig(base=str(EMBEDDED)), use_gpu)
    assert (found.dtype, found.stored, found.by_hardware) == ("float32", "float32", False)
