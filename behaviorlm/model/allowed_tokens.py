"""What may follow in the names of a closed vocabulary: the softmax of a label's token is then over that alone.

It is the masked softmax loss of MSL (Wang et al., arXiv 2504.04178), with a temperature that stays as it is set; theirs
adapts, and they take the mean over a label's tokens, where the sum here is the log-probability of the name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.trees.token_tree import Int32, TokenTree

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class AllowedTokens:
    """following: for each proper beginning of a label, places among the labels' n tokens, ascending, that may follow.
    temperature: logits are divided by it.
    """

    following: Mapping[tuple[int, ...], Int64]
    tokens: int
    temperature: float

    def mask(self, tree: TokenTree, chosen: Int64) -> NDArray[np.bool_]:
        """What may follow where some read-outs of samples are, which hold whole labels in their order; bool[r, n]."""
        found = np.zeros((len(chosen), self.tokens), bool)
        before: tuple[int, ...] = ()
        item = -1
        for place, read_out in enumerate(chosen.tolist()):
            if tree.item[read_out] != item:
                before, item = (), int(tree.item[read_out])
            found[place, self.following[before]] = True
            before = (*before, int(tree.target[read_out]))
        return found


def allowed_tokens(labels: Sequence[Int32], temperature: float) -> AllowedTokens:
    """Of labels with their terminator; places are among their distinct tokens, ascending."""
    tokens = np.unique(np.concatenate(labels))
    following: dict[tuple[int, ...], set[int]] = {}
    for label in labels:
        ids = label.tolist()
        for length, place in enumerate(np.searchsorted(tokens, label).tolist()):
            following.setdefault(tuple(ids[:length]), set()).add(place)
    placed = {before: np.array(sorted(places), np.int64) for before, places in following.items()}
    return AllowedTokens(placed, len(tokens), temperature)
