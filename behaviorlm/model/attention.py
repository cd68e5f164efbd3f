"""How token trees are given to a model: which masks its layers take, or plain sequences instead.

Models whose layers all attend to everything take one ancestor mask. Where layers have a sliding window, they take a
mask "ancestor and within the window" instead, one mask for all layers or one for each kind of layer, as the model's
own code expects. Which of them a model takes is tried out in `attention_choice`.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

AttentionKind = Literal["full", "sliding", "per_layer", "plain"]


ALIGNED = 16
"""A row of a mask begins at a multiple of so many numbers: CUDA's memory-efficient attention copies others, in every
layer."""


@dataclass(frozen=True)
class TreeAttention:
    """How trees are given to one model. `kind` "plain" means: as separate plain sequences.

    full: one ancestor mask. sliding: one mask limited to `window` for every layer. per_layer: a mask for each kind of
    layer.
    """

    kind: AttentionKind
    window: int | None = None
    additive: torch.dtype | None = None
    """The dtype in which the mask is added to the scores; None: the model takes booleans."""
    takes_rows: bool = False
    """Whether rows are laid out in its attention alone (`row_attention`), or all of the model runs on rows."""

    def masks(self, end: Tensor, depth: Tensor) -> Any:
        """The `attention_mask` argument for B flattened trees; `end`, `depth`: int [B, L]; bool masks [B, 1, L, L]."""
        index = torch.arange(end.shape[-1], device=end.device)
        full = (index[None, None, :] <= index[None, :, None]) & (index[None, :, None] < end[:, None, :])
        return self.limit(full[:, None], depth, depth)

    def limit(self, full: Tensor, depth: Tensor, key_depth: Tensor) -> Any:
        """Turn a full mask [B, 1, Q, K] and depths [B, Q] and [B, K] into what the model takes."""
        if self.kind == "full":
            return self._as_taken(full)
        distance = depth[:, :, None] - key_depth[:, None, :]
        limited = self._as_taken(full & (distance < (self.window or torch.iinfo(torch.int32).max))[:, None])
        if self.kind == "sliding":
            return limited
        return {"full_attention": self._as_taken(full), "sliding_attention": limited}

    def _as_taken(self, mask: Tensor) -> Tensor:
        if self.additive is None:
            return mask
        keys = mask.shape[-1]
        aligned = -(-keys // ALIGNED) * ALIGNED
        blocked = torch.zeros(*mask.shape[:-1], aligned, device=mask.device, dtype=self.additive)[..., :keys]
        return blocked.masked_fill_(~mask, torch.finfo(self.additive).min)
