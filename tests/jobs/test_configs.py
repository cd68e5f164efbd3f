"""Every configuration that is shipped loads; those for GPUs run in shape, on shallow random models of their kind."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import LlamaConfig, PretrainedConfig, PreTrainedTokenizerFast, Qwen2Config

from behaviorlm.config import load_settings
from behaviorlm.model.adapters import add_adapter
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import load_model, load_tokenizer, max_positions
from behaviorlm.model.lm_head import causal_lm
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.scoring.label_scoring import label_scorer
from behaviorlm.timelines.parts import TimelinePart, Window, labels_with_terminator, load_part, write_prompts
from behaviorlm.timelines.samples import build_timelines, training_target_counts
from behaviorlm.timelines.vocabulary import build_vocabulary
from behaviorlm.training.packs import Batching, StepSchedule
from behaviorlm.trees.token_tree import TreeWriter
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.search.settings import SearchSettings, base_run, sure_trials, trial_settings
from tests.behaviorlm.tiny_models import trainable_parameters
from tests.behaviorlm.tokenizers_for_tests import small_tokenizer

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"
BEHAVIORS = ("open music", "camera on", "camera off", "pay the bill", "book a flight")
ADAPTED = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@dataclass(frozen=True)
class Shape:
    """A model as its config.json describes it, and what makes it small: layers, widths, vocabulary; heads stay."""

    config: PretrainedConfig
    overrides: dict[str, Any]


SHAPES = {
    "qwen2.5-1.5b": Shape(
        Qwen2Config(
            vocab_size=151936,
            hidden_size=1536,
            intermediate_size=8960,
            num_hidden_layers=28,
            num_attention_heads=12,
            num_key_value_heads=2,
            max_position_embeddings=32768,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            tie_word_embeddings=True,
            dtype="bfloat16",
            architectures=["Qwen2ForCausalLM"],
        ),
        {"hidden_size": 96, "intermediate_size": 128, "num_hidden_layers": 2},
    ),
    "llama-3.1-8b": Shape(
        LlamaConfig(
            vocab_size=128256,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=131072,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            dtype="bfloat16",
            architectures=["LlamaForCausalLM"],
        ),
        {"hidden_size": 256, "head_dim": 8, "intermediate_size": 384, "num_hidden_layers": 2},
    ),
}


def run_configs() -> list[str]:
    return sorted(path.name for path in CONFIGS.glob("*.yaml"))


def settings_in_shape(name: str, folder: Path, tokenizer: PreTrainedTokenizerFast) -> RunSettings:
    """The shipped settings with a base in `folder`: the real config.json and our tokenizer, made small and random."""
    shape = SHAPES[name]
    shape.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = load_settings(RunSettings, CONFIGS / f"{name}.yaml")
    overrides = shape.overrides | {"vocab_size": len(tokenizer)}
    model = {"base": str(folder), "random_init": True, "config_overrides": overrides}
    return settings.model_copy(update={"model": settings.model.model_copy(update=model)})


def events(settings: RunSettings) -> pa.Table:
    """Normalized events of three users, as the columns of the config's mapping become them."""
    random = np.random.default_rng(3)
    rows = 60
    table = {
        "user": [f"user-{row % 3}" for row in range(rows)],
        "group": [f"user-{row % 3}" for row in range(rows)],
        "order": np.arange(rows),
        "order_remainder": np.zeros(rows, dtype=np.int64),
        "behavior": random.choice(BEHAVIORS, rows),
        "split_label": pa.nulls(rows, pa.string()),
        "before.weekday": random.choice(["Mon", "Tue"], rows),
        "before.hour": random.choice(["08", "19"], rows),
        "file": pa.array(np.zeros(rows), pa.int32()),
        "row": np.arange(1, rows + 1),
        "is_zoned": np.zeros(rows, dtype=bool),
    }
    assert settings.events.clock == ["weekday", "hour"]
    return pa.table(table)


def prepared(settings: RunSettings, folder: Path) -> tuple[TimelinePart, Any]:
    """One prepared part of the events above and the prompt's tokens, by the config's split, prompt and tokenizer."""
    timelines, _ = build_timelines(
        events(settings),
        settings.events,
        settings.split,
        settings.prompt.min_history,
        settings.events.dataset,
    )
    vocabulary = build_vocabulary(training_target_counts(timelines), settings.vocabulary)
    encoder = PromptEncoder(load_tokenizer(settings.model), settings.prompt)
    questions = encoder.encode_questions(timelines)
    prompt = encoder.prompt_tokens(vocabulary.names, max_positions(settings.model), 30)
    timelines = timelines.append_column("line_ids", encoder.encode_lines(timelines))
    timelines = timelines.append_column("question_ids", questions).combine_chunks()
    path = folder / "timelines.arrow"
    with pa.ipc.new_file(str(path), timelines.schema) as writer:
        writer.write_table(timelines)
    window = Window(settings.prompt.max_events, settings.prompt.stride, prompt.max_history_tokens)
    return load_part(path, vocabulary, window), prompt


@pytest.mark.parametrize("name", run_configs())
def test_every_config_of_a_run_loads(name: str) -> None:
    settings = load_settings(RunSettings, CONFIGS / name)
    assert settings.name == Path(name).stem
    assert "ab_tuned" in settings.evaluation.arms


@pytest.mark.parametrize("path", sorted((CONFIGS / "search").glob("*.yaml")), ids=lambda path: path.name)
def test_every_trial_of_a_search_config_is_a_valid_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parents[1])  # `base` is written as seen from there
    settings = load_settings(SearchSettings, path)
    assert settings.name in (path.stem, f"search_{path.stem}")  # the latter where a run has the name already
    run = base_run(settings)
    trials = [trial_settings(run, parameters) for parameters in sure_trials(settings)]
    assert all(first != second for first, second in itertools.combinations(trials, 2))


@pytest.mark.parametrize("name", run_configs())
def test_the_header_of_a_config_holds_its_own_commands(name: str) -> None:
    text = (CONFIGS / name).read_text(encoding="utf-8")
    header = text[: text.index("\nname:") + 1]
    assert f"#   behaviorlm run --config jobs/configs/{name} --dry-run\n" in header
    assert f"#   behaviorlm run --config jobs/configs/{name}\n" in header
    assert ("use_gpu: true" in text) == ("Untested at size" in header)


COMMANDS = ("#   behaviorlm ", "#   python -m benchmarks.")


def test_every_command_in_a_config_is_that_of_the_project() -> None:
    typed = {
        path: [line for line in path.read_text(encoding="utf-8").splitlines() if "--config" in line]
        for path in CONFIGS.rglob("*.yaml")
    }
    assert sum(map(len, typed.values())) > 20
    assert not [line for lines in typed.values() for line in lines if not line.startswith(COMMANDS)]


@pytest.mark.parametrize("name", SHAPES)
def test_a_config_for_gpus_tunes_and_scores_a_shallow_random_model_of_its_kind(
    name: str, tmp_path: Path
) -> None:
    settings = settings_in_shape(name, tmp_path / "base", small_tokenizer())
    part, prompt = prepared(settings, tmp_path)
    tuning = settings.a_tuning
    batching = Batching(
        tuning.samples_per_step,
        tuning.max_samples_per_timeline_per_step,
        tuning.max_tokens,
        tuning.epochs,
        tuning.max_steps,
        tuning.seed,
    )
    schedule = StepSchedule([part], [part.targets("train")], prompt, [], batching)
    model = add_adapter(load_model(settings.model), settings.model, tuning.seed)
    attention = choose_attention(model)
    assert attention.kind == "full"  # trees, not the fallback
    heads = causal_lm(model).config
    assert (heads.num_attention_heads, heads.num_key_value_heads) == (
        SHAPES[name].config.num_attention_heads,
        SHAPES[name].config.num_key_value_heads,
    )

    # One step: the loss of plain sequences within bfloat16, and gradients in every adapter.
    if settings.execution.tuning.activation_checkpointing:
        causal_lm(model).gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    packs = [pack_tensors(pack, "cpu") for pack in schedule.packs(0)]
    loss = sum((TreeModel(model, attention)(pack)[0] for pack in packs), torch.zeros(()))
    loss.backward()
    gradients = {key: parameter.grad for key, parameter in trainable_parameters(model).items()}
    assert {key.split(".")[-4] for key in gradients} == ADAPTED
    for key, gradient in gradients.items():
        assert gradient is not None and gradient.isfinite().all()
        assert (
            "lora_A" in key or gradient.abs().max() > 0
        )  # an adapter begins with B = 0, so its A gets nothing yet
    model.eval()
    with torch.no_grad():
        plain = sum(float(TreeModel(model, TreeAttention("plain"))(pack)[0]) for pack in packs)
    assert loss.item() == pytest.approx(plain, rel=2e-3)

    # Label scores of one window's prompts: log-probabilities of disjoint texts, as from plain sequences.
    rows = next(part.windows(part.targets("test")))

    def write(writer: TreeWriter) -> list[int]:
        writer.open(prompt.instruction_ids)
        return write_prompts(writer, part, rows)

    labels = labels_with_terminator(prompt)
    scores, expected = (
        label_scorer(model, kind, labels, settings.execution.scoring_tokens).score(write)
        for kind in (attention, TreeAttention("plain"))
    )
    assert scores.shape == (len(rows), len(BEHAVIORS)) and (np.exp(scores).sum(axis=1) < 1).all()
    np.testing.assert_allclose(scores, expected, rtol=0.02)
