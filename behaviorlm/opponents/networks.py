"""Three sequence recommenders: events go in as codes, a score of every behavior comes out at every place.

SASRec (Kang and McAuley 2018) with cross-entropy over all behaviors instead of one sampled negative, which has been
found to beat BERT4Rec; GRU4Rec (Hidasi et al. 2016) with the same loss; BERT4Rec (Sun et al. 2019). Ours beside what is
published: the context known before an event is added to its embedding, and each behavior has a bias.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from behaviorlm.opponents.budget import NetworkBudget
from behaviorlm.opponents.windows import FIRST

NetworkName = Literal["sasrec", "gru4rec", "bert4rec"]


class EventEmbedding(nn.Module):
    """Codes of events and of their context as vectors; the rows of behaviors are those of the read-out, too."""

    def __init__(self, behaviors: int, contexts: Sequence[int], width: int) -> None:
        super().__init__()
        self.behaviors = behaviors
        self.events = nn.Embedding(FIRST + behaviors + 1, width, padding_idx=0)
        columns = [nn.Embedding(size, width, padding_idx=0) for size in contexts]
        self.contexts = nn.ModuleList(columns)
        self.bias = nn.Parameter(torch.zeros(behaviors))
        for one in (self.events, *columns):
            nn.init.normal_(one.weight, std=width**-0.5)

    @property
    def hidden_code(self) -> int:
        """The code of an event whose behavior is hidden."""
        return FIRST + self.behaviors

    def forward(self, events: Tensor, context: Tensor) -> Tensor:
        """events: int64[b, L]; context: int64[b, L, C]. float[b, L, width]."""
        found = self.events(events)
        for column, embedding in enumerate(self.contexts):
            found = found + embedding(context[..., column])
        return found

    def scores(self, vectors: Tensor) -> Tensor:
        """Of vectors float[n, width] those of every behavior, float[n, K]."""
        return functional.linear(vectors, self.events.weight[FIRST : FIRST + self.behaviors], self.bias)


class Block(nn.Module):
    """One layer of a transformer, normalized before each of its two parts."""

    def __init__(self, budget: NetworkBudget) -> None:
        super().__init__()
        width = budget.width
        self.heads, self.dropout = budget.heads, budget.dropout
        self.before_attention, self.before_inner = nn.LayerNorm(width), nn.LayerNorm(width)
        self.projections, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(budget.dropout), nn.Linear(4 * width, width)
        )

    def forward(self, vectors: Tensor, is_seen: Tensor | None) -> Tensor:
        """vectors: float[b, L, width]; is_seen: bool[b, 1, 1, L], None: each place sees itself and those before it."""
        batch, length, width = vectors.shape
        split = self.projections(self.before_attention(vectors)).view(batch, length, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(
            query, key, value, is_seen, self.dropout if self.training else 0.0, is_causal=is_seen is None
        )
        gathered = self.output(seen.transpose(1, 2).reshape(batch, length, width))
        vectors = vectors + functional.dropout(gathered, self.dropout, self.training)
        return vectors + functional.dropout(
            self.inner(self.before_inner(vectors)), self.dropout, self.training
        )


class Transformer(nn.Module):
    """SASRec where each place sees what is before it; BERT4Rec where it sees all of the window."""

    def __init__(
        self, behaviors: int, contexts: Sequence[int], length: int, budget: NetworkBudget, is_causal: bool
    ) -> None:
        super().__init__()
        self.is_causal = is_causal
        self.embedding = EventEmbedding(behaviors, contexts, budget.width)
        self.places = nn.Embedding(length, budget.width)
        nn.init.normal_(self.places.weight, std=budget.width**-0.5)
        self.dropout = nn.Dropout(budget.dropout)
        self.blocks = nn.ModuleList(Block(budget) for _ in range(budget.layers))
        self.last = nn.LayerNorm(budget.width)

    def forward(self, events: Tensor, context: Tensor, is_there: Tensor) -> Tensor:
        """events: int64[b, L]; context: int64[b, L, C]; is_there: bool[b, L], from the left on. float[b, L, width]."""
        place = torch.arange(events.shape[1], device=events.device)
        vectors = self.dropout(self.embedding(events, context) + self.places(place))
        is_seen = None if self.is_causal else is_there[:, None, None, :]
        for block in self.blocks:
            vectors = block(vectors, is_seen)
        return self.last(vectors)


class Recurrent(nn.Module):
    """GRU4Rec."""

    def __init__(self, behaviors: int, contexts: Sequence[int], budget: NetworkBudget) -> None:
        super().__init__()
        self.embedding = EventEmbedding(behaviors, contexts, budget.width)
        self.dropout = nn.Dropout(budget.dropout)
        self.recurrent = nn.GRU(budget.width, budget.hidden, batch_first=True)
        self.last = nn.Linear(budget.hidden, budget.width)

    def forward(self, events: Tensor, context: Tensor, is_there: Tensor) -> Tensor:
        """See `Transformer.forward`."""
        seen, _ = self.recurrent(self.dropout(self.embedding(events, context)))
        return self.last(self.dropout(seen))


def network(
    name: NetworkName, behaviors: int, contexts: Sequence[int], length: int, budget: NetworkBudget
) -> Transformer | Recurrent:
    """A network with drawn weights, by torch's own random state. length: places of its windows; contexts: codes of each
    column.
    """
    if name == "gru4rec":
        return Recurrent(behaviors, contexts, budget)
    return Transformer(behaviors, contexts, length, budget, is_causal=name == "sasrec")
