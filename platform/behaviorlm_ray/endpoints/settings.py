"""What a chat model behind an endpoint is asked, and what that may cost. Light: no array library."""

from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from behaviorlm.config import Settings

OWN_PARAMETERS = ("model", "messages", "stream", "n", "logprobs", "top_logprobs")
"""Parts of a request that are not for `parameters`."""
EXECUTION = (
    "key_variable",
    "concurrency",
    "timeout_seconds",
    "patience_seconds",
    "max_tokens",
    "max_cost",
    "prices",
)
"""Keys that say how it is asked and up to which cost, never what: they are part of no identity."""


class Prices(Settings):
    """What tokens cost, in any currency."""

    prompt: float = Field(ge=0, description="A million tokens of prompts.")
    answer: float = Field(ge=0, description="A million tokens of answers.")


class EndpointSettings(Settings):
    """A chat model behind an OpenAI-compatible endpoint, which is asked as one more predictor and is never tuned."""

    url: str = Field(
        description="Where it is, as far as /chat/completions is added to it, such as https://host/v1."
    )
    model: str = Field(min_length=1, description="The model's name there.")
    key_variable: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable that holds the key, the only place where it is looked for; null: no key.",
    )
    answer: Literal["ranking", "logprobs"] = Field(
        default="ranking",
        description="ranking: it names the likeliest behaviors in order, and the probability of each is taken as "
        "proportional to 1/place; logprobs: it names one, and the probabilities of its tokens, which the endpoint must "
        "give, and of those in their place say how likely each behavior is.",
    )
    ranked: int = Field(default=10, ge=1, description="Behaviors that a ranking is asked for.")
    examples: int = Field(
        default=0,
        ge=0,
        description="Training samples with their answers in the prompt, the same in every one; 0: zero-shot.",
    )
    listed: int = Field(
        default=1000,
        ge=1,
        description="Behaviors that the prompt lists at most, the most frequent in training; answers may name others.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice of examples.")
    max_samples: int | None = Field(
        default=None,
        ge=1,
        description="Test samples it is asked about, the first of those drawn for evaluation.max_samples; null: all of "
        "those. With fewer, all predictors are measured on these beside the comparison.",
    )
    max_validation_samples: int | None = Field(
        default=None,
        ge=1,
        description="The same of validation samples, on which its decision rules are chosen.",
    )
    parameters: dict[str, Any] = Field(
        default={"temperature": 0, "max_tokens": 200},
        description=f"Parameters of every request as the endpoint names them, but for {', '.join(OWN_PARAMETERS)}.",
    )
    prices: Prices | None = Field(
        default=None, description="What tokens cost, {prompt: …, answer: …} a million; null: not told."
    )
    max_cost: float | None = Field(
        default=None,
        gt=0,
        description="What all of its answers may cost together, paid for earlier or now, in the currency of `prices`: "
        "before it is passed the run stops, and goes on when it is raised; null: no limit.",
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="The same in tokens of prompts and answers; null: no limit."
    )
    concurrency: int = Field(default=4, ge=1, le=256, description="Requests at a time.")
    timeout_seconds: float = Field(default=120, gt=0, description="How long an answer is waited for.")
    patience_seconds: float = Field(
        default=300,
        ge=0,
        description="How long a request that fails for a passing reason (429, 5xx, no connection, an answer cut off) "
        "is tried again before the run stops, resumably.",
    )

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url must be http:// or https:// and a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "url must hold no user, password, query or fragment: a key belongs in an environment variable, which "
                "key_variable names"
            )
        return url.rstrip("/")

    @field_validator("parameters")
    @classmethod
    def _not_its_own(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        wrong = sorted(parameters.keys() & set(OWN_PARAMETERS))
        if wrong:
            raise ValueError(f"parameters must not hold {', '.join(wrong)}")
        return parameters

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_cost is not None and self.prices is None:
            raise ValueError("max_cost needs prices")
        if (self.max_cost or self.max_tokens) and self.most_answer_tokens is None:
            raise ValueError(
                "max_cost and max_tokens need a limit on each answer: parameters.max_tokens or "
                "parameters.max_completion_tokens"
            )
        return self

    @property
    def most_answer_tokens(self) -> int | None:
        """Tokens of an answer at most; None: not limited."""
        for name in ("max_tokens", "max_completion_tokens"):
            if isinstance(found := self.parameters.get(name), int):
                return found
        return None

    @property
    def description(self) -> str:
        """What the report says about it."""
        shots = f"{self.examples} examples in the prompt" if self.examples else "zero-shot"
        return f"{self.model}, a chat model asked over HTTP, {shots}, by its {self.answer}"

    @property
    def asked(self) -> dict[str, Any]:
        """All that decides what is asked and how answers are read, as JSON values."""
        return self.model_dump(mode="json", exclude=set(EXECUTION))
