"""The artifact: what a folder of a predictor holds, schema version 1. Light: neither torch nor transformers.

behaviorlm.json (`Artifact`) beside the tokenizer, the weights (an adapter or a whole model), counts in Arrow, and
README.md, the model card. No file is a pickle, none names a user or a path of the machine that wrote it.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from behaviorlm.baselines.habits import Habits
from behaviorlm.config import Settings, validate_settings
from behaviorlm.errors import ConfigError, DataError
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.model.config import ModelConfig
from behaviorlm.predictor.rules import BayesRule, DecisionRule, OwnMixRule
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.scoring.config import Normalization

SCHEMA_VERSION = 1
DESCRIPTION = "behaviorlm.json"
CARD = "README.md"
COUNTS = "counts.arrow"
CONTEXTS = "contexts.arrow"
OWN_BASE = "base"
"""The folder of a base model that came from no hub."""

HASHED_BYTES = 64 << 20
"""Larger files are only held against their size when a folder is opened: hashing them takes as long as loading them."""

Intervals = dict[str, dict[str, dict[str, float | None]]]
"""{group: {metric: {"value", "low", "high"}}}."""


class Behavior(Settings):
    """One behavior of the closed vocabulary; its id is its place in the list."""

    name: str = Field(description="As in the log.")
    count: int = Field(ge=0, description="Training targets of the log; 0: known, but never seen in training.")
    group: Literal["anchor", "tail"] = Field(description="By its share of the training targets.")
    trained_on: int | None = Field(
        default=None, description="Samples of it that the model was last tuned on; null: not told."
    )


class ModelPredictor(Settings):
    """The language model alone."""

    kind: Literal["model"] = "model"


class CountsPredictor(Settings):
    """Counting alone."""

    kind: Literal["counts"] = "counts"


class FusedPredictor(Settings):
    """A linear mixture of the probabilities of both, with a share of counting for each group, normalized again."""

    kind: Literal["fused"] = "fused"
    counts_weight: float = Field(ge=0, le=1, description="Share of counting; chosen on validation.")
    tail_counts_weight: float | None = Field(
        default=None, ge=0, le=1, description="That of tail behaviors, where it differs; null: the same."
    )

    def weights(self, is_anchor: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The share of counting of each behavior, float64[C]; is_anchor bool[C]."""
        tail = self.counts_weight if self.tail_counts_weight is None else self.tail_counts_weight
        return np.where(is_anchor, self.counts_weight, tail)


Predictor = Annotated[ModelPredictor | CountsPredictor | FusedPredictor, Field(discriminator="kind")]


class NaturalPrior(Settings):
    """What brings a predictor of few shots back to the natural prior: of each behavior of the vocabulary, log of its
    share of all training targets by that in the mix that was tuned on, or counted. Added to log probabilities before
    they are normalized; null: nothing.
    """

    model: list[float] | None = Field(default=None, description="Of the language model.")
    counts: list[float] | None = Field(default=None, description="Of counting.")


class Calibration(Settings):
    """A log probability s of group g becomes s / temperature_g + shift_g, then all are normalized.

    It tells how sure an answer is. Which one comes first is the decision rule's, on what was there before.
    """

    anchor_temperature: float = Field(default=1.0, gt=0)
    tail_temperature: float = Field(default=1.0, gt=0)
    tail_shift: float = Field(default=0.0, description="That of anchors is 0: only the difference counts.")


class Threshold(Settings):
    """What abstaining below a probability gives on validation."""

    min_probability: float = Field(ge=0, le=1)
    coverage: float = Field(ge=0, le=1, description="Share of samples that are answered.")
    precision: float | None = Field(description="Share of these that are right; null: none is answered.")
    recall_at_5: float | None = Field(
        default=None,
        description="Share of these whose behavior is among the first five answers; null: none, or not told.",
    )


class EventMapping(EventsConfig):
    """How a log is read, but not where it lies."""

    paths: list[str] = Field(default=[], description="Empty: a history is handed over, not read from files.")


class SharedTokens(Settings):
    """The tokens that all prompts share, and the room for history."""

    instruction_ids: list[int] = Field(description="What precedes the history.")
    terminator_ids: list[int] = Field(description="What follows a label.")
    label_ids: list[list[int]] = Field(description="Of each behavior, without the terminator.")
    max_history_tokens: int = Field(description="Room for history lines.")
    max_positions: int = Field(description="Positions of the model.")


class Weights(Settings):
    """What the language model is made of."""

    form: Literal["adapter", "merged", "base"] = Field(
        description="An adapter in peft's format beside a base; a whole model in this folder; the base as it came."
    )
    base: ModelConfig = Field(
        description=f"The base and how it is loaded; base: a name on the hub, {OWN_BASE!r} for the folder of that "
        "name in here, '.' for this folder itself."
    )
    base_fingerprint: str = Field(description="SHA-256 over the base's files and how they are loaded.")


class Counting(Settings):
    """The counts that are kept."""

    order: int = Field(description="Past behaviors that are looked at.")
    minimum: int = Field(description="Longer histories with fewer events of a behavior were dropped.")
    kept: int = Field(description="Pairs of history and behavior that are left.")
    dropped: int = Field(description="Pairs that were dropped.")
    habits: Habits | None = Field(
        default=None,
        description="How far the past of whoever is asked about counts itself; null: it does not.",
    )


class Verification(Settings):
    """How the folder was held against the run before it was handed over."""

    samples: int = Field(description="Held-out samples whose label scores were compared.")
    largest_difference: float = Field(description="Of a label score in nats.")
    mean_difference: float = Field(description="Of a label score in nats.")
    tolerance: float = Field(description="What the largest difference may be.")
    dtype: str = Field(description="Numbers of the weights.")


class Origin(Settings):
    """Where it comes from."""

    run: str = Field(description="Name of the run.")
    dataset: str = Field(description="Name of the log.")
    predictor: str = Field(description="What the run calls it.")
    created: str = Field(description="ISO 8601, UTC.")
    versions: dict[str, str] = Field(default={}, description="Of the packages that wrote it.")
    fingerprints: dict[str, str] = Field(
        default={}, description="Content hashes of the stages it was made from."
    )


class StoredFile(Settings):
    """A file of the folder."""

    bytes: int
    sha256: str


class Artifact(Settings):
    """behaviorlm.json."""

    schema_version: Literal[1] = Field(default=1, description="Of this file.")
    predictor: Predictor
    decision: DecisionRule
    to_natural: NaturalPrior | None = Field(
        default=None, description="Before anything else; null: nothing is to be brought back."
    )
    calibration: Calibration | None = None
    thresholds: list[Threshold] = Field(default=[])
    behaviors: list[Behavior] = Field(min_length=2)
    events: EventMapping
    prompt: PromptConfig
    tokens: SharedTokens | None = Field(default=None, description="null without a language model.")
    weights: Weights | None = Field(default=None, description="null without a language model.")
    normalization: Normalization = Field(
        default="full",
        description="Of a name's probability by the language model. full: among all texts, then over the names that "
        "may be answered. trie: among the names of the vocabulary and new ones, at each token over what may follow.",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        description="Of the language model's softmax over the trie: that of its tuning's loss.",
    )
    counting: Counting | None = Field(default=None, description="null without counts.")
    metrics: Intervals = Field(default={}, description="On the test part, under the decision rule.")
    uncalibrated: Intervals | None = Field(
        default=None, description="The same without calibration, if there is one."
    )
    verification: Verification | None = None
    origin: Origin
    files: dict[str, StoredFile] = Field(default={}, description="All other files but the card.")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The behaviors' names by id."""
        return tuple(behavior.name for behavior in self.behaviors)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Training targets of each behavior, int64[K]."""
        return np.array([behavior.count for behavior in self.behaviors], np.int64)

    @cached_property
    def is_anchor(self) -> NDArray[np.bool_]:
        """bool[K]."""
        return np.array([behavior.group == "anchor" for behavior in self.behaviors], bool)

    @property
    def wants_whole_history(self) -> bool:
        """Whether all that a user did counts, by habits or in a profile line, and not the last events alone."""
        has_habits = self.counting is not None and self.counting.habits is not None
        return has_habits or (self.tokens is not None and self.prompt.profile > 0)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all of it, hexadecimal: equal for equal predictors, weights included."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The text of behaviorlm.json."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def event_mapping(config: EventsConfig) -> EventMapping:
    """What prediction needs of a log's mapping: neither where the log lies, nor groups and splits."""
    kept = config.model_dump(exclude={"paths", "group", "split_column"})
    return EventMapping.model_validate(kept)


def read_artifact(folder: Path) -> Artifact:
    """Read behaviorlm.json and hold the other files against it.

    Raises ConfigError for a folder that holds no artifact, DataError for a damaged or unknown one.
    """
    path = folder / DESCRIPTION
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} holds no {DESCRIPTION}, so it is no exported predictor; `behaviorlm export` writes one"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable JSON ({error}); export it again") from None
    version = stored.get("schema_version") if isinstance(stored, Mapping) else None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path}: schema_version is {version!r}, and this version of behaviorlm reads {SCHEMA_VERSION}; install "
            "the version that wrote it, or a newer one"
        )
    try:
        artifact = validate_settings(Artifact, stored, str(path))
    except ConfigError as error:
        raise DataError(
            f"{error}\nthe file was changed or written by a newer version; export it again"
        ) from None
    problems = [problem for name, file in artifact.files.items() if (problem := _damage(folder, name, file))]
    if problems:
        raise DataError(f"{folder} is damaged: {'; '.join(problems)}; export or copy it again")
    _check(artifact, path)
    return artifact


def describe_files(folder: Path) -> dict[str, StoredFile]:
    """Every file below a folder but the description and the card, by relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (DESCRIPTION, CARD):
            found[name] = StoredFile(bytes=path.stat().st_size, sha256=_sha256(path))
    return found


def _check(artifact: Artifact, path: Path) -> None:
    """Raise DataError where parts that the predictor needs are not there."""
    kind = artifact.predictor.kind
    if len(set(artifact.names)) < len(artifact.names):
        raise DataError(f"{path}: behaviors: a name is there twice")
    rule = artifact.decision
    if isinstance(rule, BayesRule | OwnMixRule) and len(rule.shift) != len(artifact.names):
        raise DataError(
            f"{path}: decision.shift has {len(rule.shift)} numbers for {len(artifact.names)} behaviors"
        )
    natural = artifact.to_natural or NaturalPrior()
    for name, shift in (("model", natural.model), ("counts", natural.counts)):
        if shift is not None and len(shift) != len(artifact.names):
            raise DataError(
                f"{path}: to_natural.{name} has {len(shift)} numbers for {len(artifact.names)} behaviors"
            )
    if kind != "counts" and (artifact.weights is None or artifact.tokens is None):
        raise DataError(f"{path}: predictor.kind is {kind!r}, but weights or tokens are missing")
    if kind != "model" and artifact.counting is None:
        raise DataError(f"{path}: predictor.kind is {kind!r}, but counting is missing")


def _damage(folder: Path, name: str, file: StoredFile) -> str | None:
    path = folder / name
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return f"{name!r} would lie outside of it"
    if not path.is_file():
        return f"{path.name} is missing"
    size = path.stat().st_size
    if size != file.bytes:
        return f"{path.name} has {size} bytes instead of {file.bytes}"
    if size <= HASHED_BYTES and _sha256(path) != file.sha256:
        return f"{path.name} has changed"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
