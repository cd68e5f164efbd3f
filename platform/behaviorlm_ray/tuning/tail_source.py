"""What holds a tuning to the base among the tail, opened by its workers: the trie of the tail and the base's scores."""

from dataclasses import dataclass

import numpy as np
import torch

from behaviorlm.model.kept_tail import KeptTail, kept_tail
from behaviorlm.training.packs import TailReference
from behaviorlm_ray import storage
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning.config import KeepTail
from behaviorlm_ray.tuning.training_rows import held_rows, tail_trie


@dataclass(frozen=True)
class TailSource:
    """Picklable. scores: the base's of the tail behaviors for each of `held_rows`, float32 [n, T] in NumPy's format."""

    log: PreparedLog
    keep: KeepTail
    scores: Location

    def term(self) -> KeptTail:
        """What the model is asked for."""
        return kept_tail(tail_trie(self.log), self.keep.temperature)

    def reference(self) -> TailReference:
        """What it is held to."""
        scores = np.load(storage.local_copy(self.scores), mmap_mode="r")
        rows = held_rows(self.log, self.keep)
        parts = np.split(scores, np.cumsum([len(of_part) for of_part in rows])[:-1])
        softened = [
            torch.log_softmax(torch.from_numpy(part.astype(np.float64)) / self.keep.temperature, -1)
            .float()
            .numpy()
            for part in parts
        ]
        return TailReference(tail_trie(self.log), self.keep.weight, rows, softened)
