"""Files of encoded conversations, written once for each auxiliary source and read by all that train or measure."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute

from behaviorlm.files.data_only import data_only
from behaviorlm.prompts.encoded_conversations import Conversation
from behaviorlm_ray import storage
from behaviorlm_ray.storage import Location


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
    table = data_only(pa.ipc.open_file(pa.memory_map(str(storage.local_copy(place)))), place).read_all()
    table = table.filter(pa.compute.equal(table["is_holdout"], is_holdout))
    return [
        Conversation(
            np.array(row["token_ids"], np.int32), np.array(row["is_assistant"], bool), row["is_truncated"]
        )
        for row in table.to_pylist()
    ]
