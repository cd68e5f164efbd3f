"""What a log is like that does not exist yet. Light: no array library."""

from typing import Self

from pydantic import Field, model_validator

from behaviorlm.config import Settings


class ImaginedLog(Settings):
    """What a log is like. Names are of a thing and a state: five begin alike."""

    events: float = Field(ge=1000, description="Events of the log.")
    users: float = Field(ge=1, description="Users, with equally many events each.")
    behaviors: int = Field(
        default=200, ge=2, description="Names; the n-th has 1/n of the first one's events."
    )
    line_tokens: int = Field(default=13, ge=1, description="Tokens of an event in a history.")
    question_tokens: int = Field(default=9, ge=1, description="Tokens of what is known before an event.")
    name_tokens: int = Field(default=4, ge=2, description="Tokens of a behavior's name.")
    instruction_tokens: int = Field(default=50, ge=0, description="Tokens that all prompts begin with.")
    conversation_tokens: int = Field(default=300, ge=2, description="Tokens of an auxiliary conversation.")

    @model_validator(mode="after")
    def _two_events_a_user(self) -> Self:
        if self.events < 2 * self.users:
            raise ValueError(f"events: a user needs two, but {self.users:g} users share {self.events:g}")
        return self
