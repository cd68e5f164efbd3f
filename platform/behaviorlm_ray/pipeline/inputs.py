"""What a run reads from outside: each thing is resolved once for all arms, and what failed is not tried again."""

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from behaviorlm.errors import BehaviorLMError
from behaviorlm.events.log import SourceLog, find_log
from behaviorlm.files.patient_reads import patience
from behaviorlm.model.base_model import model_fingerprint, model_without_weights, removed_dropout
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.precision import Precision, choose_precision
from behaviorlm.prompts.conversations import AuxiliarySource, source_files
from behaviorlm.scoring.cloze_questions import read_cloze
from behaviorlm_ray.console.progress_lines import ProgressLines
from behaviorlm_ray.pipeline.conversation_checks import FirstConversations, read_first
from behaviorlm_ray.pipeline.kept_dtype import keep_dtype, kept_dtype
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.storage import hash_file, location

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from behaviorlm_ray.costs.model_sizes import ModelSizes

HASHING_THREADS = 8
"""Files that are hashed at a time: hashing leaves Python free, and S3 is waited for."""

T = TypeVar("T")


class RunInputs:
    """The inputs of one run. State: what was resolved, or how that failed; arms share it."""

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings
        self._known: dict[str, Any] = {}

    @classmethod
    def imagined(cls, settings: RunSettings) -> "RunInputs":
        """Of a run that is reckoned and never run: only the base's configuration is looked at."""
        found = cls(settings)
        sources = {f"source {source.name} of {source.paths}": "" for source in settings.auxiliary}
        found._known |= {"log": "", "base": "", "cloze": "", **sources}
        return found

    @property
    def source(self) -> SourceLog:
        """The log's files and how they are read, their columns checked. Raises ConfigError or DataError."""
        return self._once("source", lambda: find_log(self._settings.events))

    @property
    def log(self) -> str:
        """A hash of the log's content, wherever its files lie, and of what the names of folders say of its rows.

        Raises as `source` does, and StorageError.
        """
        return self._once("log", self._hash_of_log)

    @property
    def base(self) -> str:
        """The base model's fingerprint. Raises ModelError."""
        return self._once("base", lambda: model_fingerprint(self._settings.model))

    @property
    def precision(self) -> Precision:
        """In which numbers every stage loads the base: as the runs of this root did before. Raises as `base` does, and
        StorageError.
        """
        return self._once("precision", self._choose_precision)

    def keep_precision(self) -> None:
        """Bind all runs of this root, and this one when it goes on elsewhere, to what the hardware here decided."""
        if self.precision.by_hardware:
            dtype = keep_dtype(self._settings.storage.place, self.base, self.precision.dtype)
            self._known["precision"] = _as_kept(self.precision, dtype)

    @property
    def network(self) -> "PreTrainedModel | PeftModel | None":
        """The base with its adapter, without weights; None for code that cannot be laid out so. Raises ModelError."""
        return self._once("network", lambda: _network(self._settings.model))

    @property
    def sizes(self) -> "ModelSizes | None":
        """How large the base is where it is tuned. Raises ModelError."""
        return self._once("sizes", self._sizes)

    @property
    def removed_dropout(self) -> Sequence[str]:
        """Keys of the base's configuration whose dropout is set to 0. Raises ModelError."""
        return self._once("dropout", lambda: removed_dropout(self._settings.model))

    @property
    def cloze(self) -> str:
        """A hash of the cloze questions, which were read; empty without any. Raises DataError or StorageError."""
        return self._once("cloze", self._hash_of_cloze)

    def conversations(self, sources: Sequence[AuxiliarySource]) -> dict[str, str]:
        """{"source_0": a hash of the first source's content, ...}. Raises DataError or StorageError."""
        return {f"source_{number}": self._of_source(source) for number, source in enumerate(sources)}

    @property
    def first_conversations(self) -> list[FirstConversations]:
        """What the first conversations of each source are like. Raises DataError, ModelError or StorageError."""
        return self._once("first conversations", lambda: read_first(self._settings))

    def hashes(self) -> dict[str, str]:
        """Content hashes of what decides the run's stages, but for cloze questions."""
        return {"log": self.log, "base": self.base, **self.conversations(self._settings.auxiliary)}

    def _sizes(self) -> "ModelSizes | None":
        from behaviorlm_ray.costs.model_sizes import model_sizes  # brings torch

        return None if self.network is None else model_sizes(self.network, self.precision.dtype)

    def _choose_precision(self) -> Precision:
        settings = self._settings
        found = choose_precision(settings.model, settings.execution.tuning.use_gpu)
        dtype = kept_dtype(settings.storage.place, self.base) if found.by_hardware and self.base else None
        return _as_kept(found, dtype)

    def _of_source(self, source: AuxiliarySource) -> str:
        return self._once(
            f"source {source.name} of {source.paths}",
            lambda: hash_of_files(f"auxiliary source {source.name}", source_files(source)),
        )

    def _hash_of_log(self) -> str:
        files = self.source.files
        content = hash_of_files("the log", [file.path for file in files])
        named = [{name: value for name, value in file.given.items() if value is not None} for file in files]
        if not any(named):
            return content
        return hashlib.sha256(json.dumps([content, named], sort_keys=True).encode()).hexdigest()

    def _hash_of_cloze(self) -> str:
        path = self._settings.evaluation.cloze
        if path is None:
            return ""
        read_cloze(path)  # so that what is wrong with it shows before cluster work
        return hash_file(location(path)).sha256

    def _once(self, name: str, resolve: Callable[[], T]) -> T:
        if name not in self._known:
            try:
                with patience(self._settings.storage.patience_seconds):
                    self._known[name] = resolve()
            except BehaviorLMError as error:
                self._known[name] = error
        known = self._known[name]
        if isinstance(known, BehaviorLMError):
            raise known
        found: T = known
        return found


def _as_kept(found: Precision, dtype: str | None) -> Precision:
    """What is chosen where runs of the root have this dtype; None: there were none."""
    if dtype is None or dtype == found.dtype:
        return found
    reason = (
        f"runs of this storage.root began with it, though here it would be {found.dtype}: {found.reason}; model.dtype "
        "sets another"
    )
    return replace(found, dtype=dtype, reason=reason)


def _network(config: ModelConfig) -> "PreTrainedModel | PeftModel | None":
    network = model_without_weights(config)
    if network is None or config.adaptation == "full":
        return network
    from behaviorlm.model.adapters import add_adapter  # brings peft

    with warnings.catch_warnings(action="ignore"):  # peft's, for whoever tunes
        return add_adapter(network, config, seed=0)


def hash_of_files(what: str, paths: Sequence[str]) -> str:
    """One SHA-256 of several local files or objects, in their order, with lines of progress about `what` they are."""
    progress = ProgressLines(f"hashing {what}", len(paths), "files")
    places = [location(path) for path in paths]
    hashes = []
    with ThreadPoolExecutor(HASHING_THREADS) as threads:
        for digest in threads.map(hash_file, places):
            hashes.append(digest.sha256)
            progress.add(1)
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
