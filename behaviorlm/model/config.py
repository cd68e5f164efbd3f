"""Which base model a run starts from and how it is adapted. Light: neither torch nor transformers."""

from typing import Any, Literal

from pydantic import Field

from behaviorlm.config import Settings


class LoraSettings(Settings):
    """Low-rank adapters (LoRA). Dropout is 0: one draw would serve all the samples that share a prefix."""

    rank: int = Field(16, ge=1, description="Rank of the adapters.")
    alpha: float = Field(32, gt=0, description="Scale: the adapter's output is multiplied by alpha / rank.")
    target_modules: str | list[str] = Field(
        "all-linear", description='Modules that get an adapter: names, a regular expression, or "all-linear".'
    )


class ModelConfig(Settings):
    """The base model and how it is adapted."""

    base: str = Field(description="Folder of a transformers model, or its name on the Hugging Face hub.")
    revision: str | None = Field(
        None, description="Revision on the hub; a commit hash makes a run repeatable."
    )
    trust_remote_code: bool = Field(
        False, description="Whether Python code that comes with the model may run."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Numbers of the base weights. auto: bfloat16 where the hardware multiplies it (GPUs; CPUs with AMX "
        "or AVX512-BF16) and the base is at least 512 wide, else float32; chosen once for all runs of a storage.root.",
    )
    adaptation: Literal["lora", "full"] = Field("lora", description="Train adapters, or all the weights.")
    lora: LoraSettings = Field(default_factory=LoraSettings, description="Adapters, with adaptation: lora.")
    random_init: bool = Field(False, description="Ignore the base's weights and draw new ones: a control.")
    random_init_seed: int = Field(0, ge=0, description="Seed of the drawn weights.")
    config_overrides: dict[str, Any] = Field(
        default_factory=dict,
        description="Keys of the model's config.json to change, such as num_hidden_layers: 2. Its dropout keys are "
        "set to 0 unless they are given here: one draw would serve all the samples that share a prefix.",
    )
