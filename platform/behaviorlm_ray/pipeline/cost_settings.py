"""On what the plan of a run reckons hours and money."""

from typing import Any

from pydantic import Field, field_validator

from behaviorlm.config import Settings
from behaviorlm_ray.costs.cards import CARDS, card_of

NAMES = ", ".join(card.name for card in CARDS)


class CostSettings(Settings):
    """What a plan tells of cost; it decides nothing of what comes out."""

    card: str | None = Field(
        default=None,
        description=f"The GPU that hours and memory are reckoned for, and that the base must fit on: {NAMES}; null: "
        "the one of this machine, if it is one of them.",
    )
    gigaflops: float | None = Field(
        default=None,
        gt=0,
        description="10^9 operations that a CPU core does in a second of a model's work, for hours without a GPU; "
        "null: no hours. A run tells it: operations of its plan by the seconds of its stage.",
    )
    price_per_hour: float | None = Field(
        default=None, gt=0, description="Of one GPU, or CPU core, in any currency; null: no price is told."
    )

    @field_validator("card")
    @classmethod
    def _card_is_known(cls, card: Any) -> Any:
        if card is not None and card_of(card) is None:
            raise ValueError(f"there is no card {card!r}; known: {NAMES}")
        return card
