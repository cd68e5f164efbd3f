"""Typed configuration: YAML in which nothing stands twice, overrides from a command line, errors all at once."""

from behaviorlm.config.masking import masked
from behaviorlm.config.overrides import flattened, read_written, with_overrides, with_values
from behaviorlm.config.resolved import resolved_text
from behaviorlm.config.settings import (
    KeyDescription,
    Settings,
    describe_settings,
    json_schema,
    load_settings,
    validate_settings,
)
from behaviorlm.config.written import Written, parse_yaml

__all__ = [
    "KeyDescription",
    "Settings",
    "Written",
    "describe_settings",
    "flattened",
    "json_schema",
    "load_settings",
    "masked",
    "parse_yaml",
    "read_written",
    "resolved_text",
    "validate_settings",
    "with_overrides",
    "with_values",
]
