"""What a run's inputs are looked at for before anything runs: the base model against what the run asks of it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from behaviorlm.errors import ConfigError, DataError, ModelError
from behaviorlm.model import gpu
from behaviorlm.model.config import ModelConfig
from behaviorlm.prompts.config import PromptConfig
from behaviorlm_ray.pipeline.input_checks import check_inputs, check_model
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.sample_checks import check_samples
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from behaviorlm_ray.scoring.replica import ScoringTask, open_model
from behaviorlm_ray.tuning.inputs import ModelSource
from behaviorlm_ray.tuning.precision import keeps_masters
from tests.behaviorlm.tokenizers_for_tests import small_tokenizer
from tests.platform.preparation.test_prepared_log import random_log
from tests.platform.small_runs import log_rows, run_settings, write_conversations, write_log


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    write_log(tmp_path / "log.csv", log_rows(5, users=6))
    write_conversations(tmp_path / "talk.jsonl")
    return tmp_path


def settings_of(inputs: Path, base: Path, *overrides: str) -> RunSettings:
    return run_settings(inputs / "runs", base, inputs / "log.csv", overrides=overrides)


def base_in(folder: Path, base: Path, dtype: torch.dtype, is_stated: bool) -> Path:
    """A copy of a base with weights of another dtype, which its config.json states or not."""
    shutil.copytree(base, folder)
    weights = {name: value.to(dtype) for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}
    config |= {"dtype": str(dtype).removeprefix("torch.")} if is_stated else {}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("is_stated", [True, False])
def test_a_float16_base_is_read_as_float32(inputs: Path, small_base: Path, is_stated: bool) -> None:
    base = base_in(inputs / "half", small_base, torch.float16, is_stated)
    run = open_run(settings_of(inputs, base))
    check_inputs(run, is_written=False)
    found = run.inputs.precision
    assert (found.dtype, found.stored, run.resolved.model.dtype) == ("float32", "float16", "float32")
    with pytest.raises(ConfigError, match=r"model\.dtype: .*float16.*float32 or bfloat16: set model\.dtype"):
        keeps_masters({torch.float16, torch.float32})


@pytest.mark.parametrize("value", ["[query]", "'.*query'", "'*query'"])
def test_target_modules_that_fit_nothing_are_refused_with_those_that_would(
    inputs: Path, small_base: Path, value: str
) -> None:
    overrides = (f"model.lora.target_modules={value}",)
    with pytest.raises(ConfigError, match=r"model\.lora\.target_modules: .*query.*k_proj.*all-linear"):
        check_model(settings_of(inputs, small_base, *overrides))
    check_model(settings_of(inputs, small_base, *overrides, "model.adaptation=full"))
    check_model(settings_of(inputs, small_base, *overrides, "evaluation.arms=[untuned]"))


def test_conversations_longer_than_the_model_are_refused_by_key_in_the_run_and_in_arms(
    inputs: Path, small_base: Path
) -> None:
    talks = [f"{{name: talk{number}, paths: [{inputs}/talk.jsonl], max_tokens: {length}}}"
             for number, length in enumerate((512, 513, 9000))]  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        check_model(settings_of(inputs, small_base, f"auxiliary=[{', '.join(talks)}]"))
    lines = str(raised.value).splitlines()
    assert [line.partition(" ")[0] for line in lines] == [
        "auxiliary.1.max_tokens:",
        "auxiliary.2.max_tokens:",
    ]
    assert "513 tokens" in lines[0] and all("512 positions" in line for line in lines)

    arm = 'arms={longer: {tuning: a_tuned, values: {"auxiliary.0.max_tokens": 600}}}'
    settings = settings_of(
        inputs, small_base, f"auxiliary=[{talks[0]}]", arm, "evaluation.arms=[untuned, longer]"
    )
    with pytest.raises(ConfigError, match=r"^arms\.longer\.values: auxiliary\.0\.max_tokens: 600 tokens"):
        check_inputs(open_run(settings), is_written=False)


def test_all_that_does_not_fit_the_model_is_told_at_once(inputs: Path, small_base: Path) -> None:
    settings = settings_of(
        inputs,
        small_base,
        "model.lora.target_modules=[query]",
        f"auxiliary=[{{name: talk, paths: [{inputs}/talk.jsonl], max_tokens: 1000}}]",
        f"prompt.instruction={'press the button ' * 200}",
    )
    with pytest.raises(ConfigError) as raised:
        check_inputs(open_run(settings), is_written=False)
    told = [line.partition(":")[0] for line in str(raised.value).splitlines()]
    assert told == [
        "prompt",
        "auxiliary.0.max_tokens",
        "model.lora.target_modules",
    ]


def test_an_empty_half_is_refused_where_arms_are_judged_by_halves(inputs: Path, small_base: Path) -> None:
    log = random_log(3, [[40]])
    arms = "evaluation.arms=[ab_tuned]"
    for key in ("difficulty.source=cross_fit", "difficulty.measure=reducible"):
        with pytest.raises(DataError, match=r"half [01] of the groups has no training sample"):
            check_samples(settings_of(inputs, small_base, arms, key), log)
        with pytest.raises(DataError, match="there is no test sample"):
            check_samples(settings_of(inputs, small_base, "evaluation.arms=[one_stage]", key), log)
    with pytest.raises(DataError, match="there is no test sample"):
        check_samples(settings_of(inputs, small_base, arms), log)


def test_a_cloze_question_longer_than_the_model_is_refused_before_anything_runs(
    inputs: Path, small_base: Path
) -> None:
    questions = [{"prefix": "word " * length, "right": " a", "wrong": [" b"]} for length in (3, 2000)]
    path = inputs / "cloze.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in questions), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"evaluation\.cloze: question 2 of .*cloze\.jsonl has \d+ tokens"):
        check_inputs(open_run(settings_of(inputs, small_base, f"evaluation.cloze={path}")), is_written=False)
    path.write_text(json.dumps(questions[0]), encoding="utf-8")
    check_model(settings_of(inputs, small_base, f"evaluation.cloze={path}"))


def test_weights_cut_off_and_packs_smaller_than_the_instruction_are_refused(
    inputs: Path, small_base: Path
) -> None:
    base = inputs / "cut"
    shutil.copytree(small_base, base)
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"model\.safetensors is no whole file of weights"):
        check_inputs(open_run(settings_of(inputs, base)), is_written=False)
    small = ("a_tuning.max_tokens=16", "one_stage.max_tokens=16", "evaluation.arms=[untuned, a_tuned]")
    with pytest.raises(ConfigError, match=r"^a_tuning\.max_tokens: 16 tokens hold no sample") as raised:
        check_model(settings_of(inputs, small_base, *small))
    assert "one_stage" not in str(raised.value)  # no arm is tuned so


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A base of which there is a configuration alone: its layer has 16.06 * 2^31 weights, 64 GiB in bfloat16."""
    tokenizer = small_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=65536,
        intermediate_size=131072,
        num_hidden_layers=1,
        num_attention_heads=512,
        num_key_value_heads=8,
        max_position_embeddings=512,
    )
    config.save_pretrained(tmp_path / "large")
    tokenizer.save_pretrained(tmp_path / "large")
    return tmp_path / "large"


@pytest.mark.parametrize(
    ("dtype", "too_small", "needed", "there"),
    [("bfloat16", "A100 40GB", "64.3", "39.5"), ("float32", "H100", "128.7", "79.6")],
)
def test_a_base_larger_than_the_card_is_refused_before_anything_is_loaded(
    inputs: Path, large: Path, dtype: str, too_small: str, needed: str, there: str
) -> None:
    def check(card: str, stage: str = "auto", use_gpu: bool = True) -> None:
        common = (f"model.dtype={dtype}", "model.random_init=true", f"execution.costs.card={card}")
        how = (f"execution.tuning.zero_stage={stage}", f"execution.tuning.use_gpu={use_gpu}")
        check_inputs(open_run(settings_of(inputs, large, *common, *how)), is_written=False)

    for stage in ("auto", "3"):
        with pytest.raises(ConfigError) as raised:
            check(too_small, stage)
        told = f"model.base: its weights are {needed} GiB in {dtype}, and {too_small} has {there} GiB free"
        assert str(raised.value).startswith(told) and "execution.costs.card" in str(raised.value)
    check("B200")
    check(too_small, use_gpu=False)


def test_workers_refuse_it_before_they_load_it(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "own_gpu", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (20 * 2**30, 24 * 2**30))
    model = ModelConfig(base=str(large), dtype="bfloat16")
    log = PreparedLog(large, PromptConfig())
    scoring = ScoringTask(log, model, None, measures=False, max_tokens=64, threads=1, use_gpu=True)
    for load in (ModelSource(model, None, 1, 0, use_gpu=True), lambda: open_model(scoring)):
        with pytest.raises(
            ModelError, match=r"64\.3 GiB in bfloat16, and a card has 20\.0 GiB free of 24\.0"
        ):
            load()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (79 * 2**30, 80 * 2**30))
    with pytest.raises(ModelError, match=r"holds no \*\.safetensors weights"):  # it fits, and would be loaded
        ModelSource(model, None, 1, 0, use_gpu=True)()
