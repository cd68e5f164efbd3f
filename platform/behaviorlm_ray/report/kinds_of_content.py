"""The two kinds of data of a report."""

from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    """Something measured: keys that the page does not show are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Part(BaseModel):
    """Something assembled for the page: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
