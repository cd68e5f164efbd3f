"""What tuning workers open for themselves: the model to tune and the step schedule, from files and settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behaviorlm.model.adapters import add_adapter, load_trained
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import load_model
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.tree_model import TreeModel
from behaviorlm.prompts.encoded_conversations import Conversation
from behaviorlm.timelines.sample_ids import id_octets
from behaviorlm.training.packs import AuxiliaryConversations, Batching, StepSchedule
from behaviorlm_ray import storage
from behaviorlm_ray.preparation.prepared_log import (
    PreparedLog,
    SampleRows,
    rows_of_anchors,
    rows_of_half,
    rows_of_ids,
    rows_of_split,
)
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning.config import TuningConfig

TrainingSamples = Literal["all", "anchors", "selected"]


@dataclass(frozen=True)
class MixedSource:
    """One auxiliary source of a tuning run: its encoded conversations, ratio and weight."""

    name: str
    path: Location
    ratio: float
    weight: float


@dataclass(frozen=True)
class ScheduleSource:
    """Opens the step schedule of a tuning run; picklable.

    half: only samples of half 0 or 1 of the groups. selection: the file of selected sample ids, for "selected".
    """

    log: PreparedLog
    samples: TrainingSamples
    half: int | None
    selection: Location | None
    auxiliary: Sequence[MixedSource]
    config: TuningConfig

    def __call__(self) -> StepSchedule:
        config = self.config
        return StepSchedule(
            self.log.parts,
            training_rows(self.log, self.samples, self.half, self.selection),
            self.log.prompt,
            [
                AuxiliaryConversations(
                    source.name, source.ratio, source.weight, read_encoded(source.path, False)
                )
                for source in self.auxiliary
            ],
            Batching(
                config.samples_per_step,
                config.max_samples_per_timeline_per_step,
                config.max_tokens,
                config.epochs,
                config.max_steps,
                config.seed,
            ),
        )


@dataclass(frozen=True)
class ModelSource:
    """Builds the model to tune; picklable. trained: continue from these weights; None: from the base model."""

    model: ModelConfig
    trained: Location | None
    parts: int
    seed: int

    def __call__(self) -> TreeModel:
        if self.trained is not None:
            model = load_trained(self.model, storage.local_copy(self.trained), trainable=True)
        else:
            model = add_adapter(load_model(self.model), self.model, self.seed)
        return TreeModel(model, choose_attention(model), self.parts)


def training_rows(
    log: PreparedLog, samples: TrainingSamples, half: int | None, selection: Location | None
) -> SampleRows:
    """The training samples of a tuning run."""
    rows = rows_of_split(log, "train")
    if samples == "anchors":
        log.vocabulary.require_anchors()
        rows = rows_of_anchors(log, rows)
    if samples == "selected":
        assert selection is not None
        ids = pq.read_table(storage.local_copy(selection))["sample_id"]
        rows = rows_of_ids(log, rows, id_octets(ids))
    return rows if half is None else rows_of_half(log, rows, half)


def write_encoded(place: Location, conversations: Sequence[Conversation], is_holdout: np.ndarray) -> None:
    """Encoded conversations of one source with their held-out ones marked, as one Arrow file."""
    table = pa.table(
        {
            "token_ids": pa.array([item.token_ids for item in conversations], pa.list_(pa.int32())),
            "is_assistant": pa.array([item.is_assistant for item in conversations], pa.list_(pa.bool_())),
            "is_truncated": [item.is_truncated for item in conversations],
            "is_holdout": is_holdout,
        }
    )
    with storage.writing_file(place) as path, pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def read_encoded(place: Location, is_holdout: bool) -> list[Conversation]:
    """The held-out conversations of a file of `write_encoded`, or the others."""
    table = pa.ipc.open_file(pa.memory_map(str(storage.local_copy(place)))).read_all()
    table = table.filter(pa.compute.equal(table["is_holdout"], is_holdout))
    return [
        Conversation(
            np.array(row["token_ids"], np.int32), np.array(row["is_assistant"], bool), row["is_truncated"]
        )
        for row in table.to_pylist()
    ]
