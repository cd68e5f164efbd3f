"""A proposal as YAML that runs, with the reason of each choice and its alternatives in comments."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from behaviorlm.inspection.choices import Choice
from behaviorlm.inspection.proposal import Proposal

WIDTH = 110


def written(proposal: Proposal, base: str, seen: str, problems: Sequence[str] = ()) -> str:
    """The text of a configuration. base: `model.base`. seen: what was looked at, in words. problems: what to mend."""
    lines = [
        *_comment(f"Proposed by `behaviorlm inspect` from {seen}. Check each choice; then:", ""),
        "#   behaviorlm run --config <this file> --dry-run",
        *(line for doubt in [*proposal.doubts, *problems] for line in _comment(f"CHECK: {doubt}", "")),
        f"name: {as_yaml(proposal.name)}",
        "events:",
        *_section(proposal.events),
        "split:",
        *_section(proposal.split),
        "prompt:",
        *_section(proposal.prompt),
        "model:",
        "  # a tiny one that comes along, to see that all works; then name the model that you want to tune",
        f"  base: {as_yaml(base)}",
    ]
    return "\n".join(lines) + "\n"


def _section(choices: Sequence[Choice]) -> Iterator[str]:
    for choice in choices:
        others = f" Or: {'; '.join(choice.others)}." if choice.others else ""
        if choice.reason or others:
            yield from _comment(f"{choice.reason}.{others}", "  ")
        if choice.key:
            yield f"  {choice.key}: {as_yaml(choice.value)}"


def _comment(text: str, indent: str) -> list[str]:
    plain = "".join(sign if sign.isprintable() else "?" for sign in text)  # a comment must not end early
    return textwrap.wrap(
        plain, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}#   ", break_long_words=False
    )


def as_yaml(value: Any) -> str:
    """A value on one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
