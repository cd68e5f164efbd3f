"""What a service is told: model, address, token, limits, batches, feedback. Light: no web framework."""

from typing import Self

from pydantic import Field, model_validator

from behaviorlm.config import Settings


class LimitSettings(Settings):
    """What one request, and all that wait, may ask for. Beyond it a request is refused with the key's name."""

    body_bytes: int = Field(default=4 << 20, ge=1024, description="Bytes of a request's body; beyond: 413.")
    body_seconds: float = Field(default=60, gt=0, description="Until a request's body is there; beyond: 408.")
    histories: int = Field(default=64, ge=1, description="Histories of a request; beyond: 422.")
    events: int = Field(default=2000, ge=1, description="Events of one history; beyond: 422.")
    k: int = Field(default=100, ge=1, description="Answers to each history; beyond: 422.")
    new_names: int = Field(
        default=32, ge=0, description="Behaviors of a request that the vocabulary does not hold; beyond: 422."
    )
    queue: int = Field(
        default=512,
        ge=1,
        description="Histories of all clients that may wait; beyond: 429, to be tried again.",
    )
    connections: int = Field(default=1000, ge=1, description="Connections at a time; beyond: 503.")

    @model_validator(mode="after")
    def _a_request_fits_into_the_queue(self) -> Self:
        if self.queue < self.histories:
            raise ValueError(f"queue must be at least histories ({self.histories}), not {self.queue}")
        return self


class BatchSettings(Settings):
    """Requests that come together are predicted together, so that what they share is computed once."""

    histories: int = Field(
        default=32, ge=1, description="A batch takes requests until it has so many histories; none is split."
    )
    wait_ms: float = Field(
        default=2.0,
        ge=0,
        le=1000,
        description="How long the first of a batch waits for others, in milliseconds. What comes while a batch is "
        "computed waits for the next one anyway.",
    )


class PrefixCacheSettings(Settings):
    """What a model made of a user's history, kept for his next request: one that names him by `user_key`."""

    bytes: int = Field(
        default=0,
        ge=0,
        description="Memory of it; who was not asked about for longest makes room. 0: nothing is kept.",
    )
    tenant_header: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]+$",
        description="Header by which a proxy in front of the service says whose client asks. What is kept of one "
        "tenant is never used for another, and without the header nothing is kept. null: all clients are one tenant.",
    )


class TokenSettings(Settings):
    """Who may ask: with a token, only requests with `Authorization: Bearer TOKEN`."""

    file: str | None = Field(default=None, description="A file that holds the token alone.")
    environment: str = Field(
        default="BEHAVIORLM_TOKEN", description="Variable that holds the token, where no file is given."
    )


class FeedbackSettings(Settings):
    """What came next, kept as a log in JSON lines. It holds users: whoever may read the folder may read them."""

    folder: str | None = Field(default=None, description="Where it is written; null: feedback is refused.")
    events: int = Field(default=1000, ge=1, description="Events of a request; beyond: 422.")
    file_bytes: int = Field(default=64 << 20, ge=1, description="A file that has reached it is closed.")
    folder_bytes: int = Field(
        default=4 << 30,
        ge=1,
        description="All feedback in the folder; beyond: 507. Nothing is deleted to make room: move files away.",
    )


class RaySettings(Settings):
    """How many answer under Ray Serve."""

    replicas: int = Field(default=1, ge=1, description="Processes, each with the model.")
    cpus: float = Field(default=1, gt=0, description="CPUs of each.")
    gpus: float = Field(default=0, ge=0, description="GPUs of each.")
    allow_unauthenticated_cluster: bool = Field(
        default=False,
        description="Whether to run on a cluster that other machines reach and that asks for no token.",
    )


class ServeSettings(Settings):
    """A service."""

    model: str = Field(
        min_length=1,
        description="A folder that `behaviorlm export` wrote, s3://bucket/prefix, or owner/name on the Hugging Face "
        "hub.",
    )
    revision: str | None = Field(default=None, description="Of the hub.")
    device: str | None = Field(default=None, description="cpu or cuda; null: cuda where there is one.")
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. Any but this machine's own (127.0.0.1, ::1, localhost) needs a token.",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0: any free one.")
    shutdown_seconds: int = Field(
        default=30, ge=1, description="How long what is queued may take when the service is told to end."
    )
    token: TokenSettings = Field(default=TokenSettings(), description="Who may ask.")
    limits: LimitSettings = Field(default=LimitSettings(), description="What may be asked for.")
    batch: BatchSettings = Field(default=BatchSettings(), description="What is predicted together.")
    prefix_cache: PrefixCacheSettings = Field(
        default=PrefixCacheSettings(), description="What is kept of users' histories between requests."
    )
    feedback: FeedbackSettings = Field(default=FeedbackSettings(), description="What came next.")
    ray: bool = Field(default=False, description="Serve under Ray Serve instead of one process.")
    ray_serve: RaySettings = Field(default=RaySettings(), description="With ray: how many.")
