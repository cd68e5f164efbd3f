"""The tables of docs/benchmarks.md: `python -m docs.speed` writes them anew from the record, `pytest tests/docs` finds
them old.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from behaviorlm_ray.console.tables import markdown
from benchmarks.records import QUICK, read, told
from docs import tables

PAGE = Path(__file__).parent / "benchmarks.md"
RECORD = Path(__file__).parents[1] / "benchmarks" / "results" / "amd-epyc.json"
SCORED = re.compile(
    r"label scores, (?P<ours>full|trie) against (?P<other>.+), (?P<labels>\d+) labels of (?P<log>\S+), (?P<base>.+), "
    r"(?P<tokens>\d+) tokens, 0.8 shared, (?P<prompts>\d+) prompts"
)
TUNED = re.compile(
    r"tuning against (?P<other>.+), (cap (?P<cap>\d+), (?P<samples>\d+) samples|whole timelines of \d+ users), "
    r"(?P<size>\d+)M (?P<kind>.+)"
)
PREPARED = re.compile(r"preparation, (?P<other>.+?), (?P<events>[\d,]+) events(?P<huge>.*)")
PEERS = {"lm-eval": "lm-eval", "kv-per-prompt": "KV of a prompt", "kv-shared": "KV shared"}

Records = Sequence[Mapping[str, Any]]


def main() -> None:
    """Write the page."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), read(RECORD)), encoding="utf-8")


def written(page: str, records: Records) -> str:
    """The page with its tables as these records have them."""
    made = {"scoring": scoring_table, "tuning": tuning_table, "preparation": preparation_table}
    return tables.written(page, "docs.speed", {name: lines(records) for name, lines in made.items()})


def scoring_table(records: Records) -> Iterator[str]:
    """A row for each base, log, length of prompts and number of labels."""
    rows: dict[tuple[Any, ...], dict[tuple[str, str], Mapping[str, Any]]] = defaultdict(dict)
    for found, record in _matching(SCORED, records):
        size, _, kind = found["base"].partition("M ")
        row = int(size), kind, int(found["tokens"]), int(found["labels"]), int(found["prompts"]), found["log"]
        rows[row][found["ours"], found["other"]] = record
    heads = [
        "base",
        "prompt",
        "names",
        "prompts, rounds",
        "nodes: full",
        "trie",
        "ms: full",
        "trie",
        "of ceiling (floor): full",
        "trie",
    ]
    heads += ["full by trie", *(head for peer in PEERS.values() for head in (f"{peer} by full", "by trie"))]
    yield from markdown([*heads, "before by now: full", "trie"], _scoring_rows(rows))


def _scoring_rows(
    rows: Mapping[tuple[Any, ...], Mapping[tuple[str, str], Mapping[str, Any]]],
) -> Iterator[list[str]]:
    for row, of in sorted(rows.items()):
        size, kind, tokens, labels, prompts, _ = row
        first = of["trie", "full"]
        by_way = {ours: record for (ours, _), record in of.items()}
        yield [
            f"{size}M {kind}",
            str(tokens),
            str(labels),
            f"{prompts}, {first['rounds']}",
            *(f"{by_way[ours]['nodes']:,.0f}" for ours in ("full", "trie")),
            *(f"{1000 * first['arms'][ours]['median_seconds']:,.0f}" for ours in ("full", "trie")),
            *(_shares(by_way[ours]) for ours in ("full", "trie")),
            _ratio(first),
            *(_ratio(of.get((ours, peer))) for peer in PEERS for ours in ("full", "trie")),
            *(_ratio(of.get((ours, f"{ours} before"))) for ours in ("full", "trie")),
        ]


def tuning_table(records: Records) -> Iterator[str]:
    """A row for each base and number of samples of a user in a step; peers with other numbers are left out."""
    rows: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for found, record in _matching(TUNED, records):
        if "expected_unequal" not in record:
            whole = found["cap"] is None
            samples = record["samples"] if whole else int(found["samples"])
            row = int(found["size"]), found["kind"], whole, samples, int(found["cap"] or 0)
            rows[row][found["other"]] = record
    heads = ["base", "samples", "of a user", "tokens", "rounds", "TRL", "packed", "DTI", "of ceiling (floor)"]
    yield from markdown(
        [*heads, "before by now"],
        (
            [
                f"{size}M {kind}",
                str(samples),
                "all" if whole else str(cap),
                f"{of['packed']['tokens']:,}",
                str(of["packed"]["rounds"]),
            ]
            + [_ratio(of.get(peer)) for peer in ("trl", "packed", "dti")]
            + [_shares(of["packed"]), _ratio(of.get("before"))]
            for (size, kind, whole, samples, cap), of in sorted(rows.items())
        ),
    )


def preparation_table(records: Records) -> Iterator[str]:
    """For each log a row for ours, as it was beside the first peer, and one for each other way."""
    logs: dict[tuple[int, str], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for found, record in _matching(PREPARED, records):
        logs[int(found["events"].replace(",", "")), found["huge"].strip(", ")][found["other"]] = record
    heads = ["events", "rounds", "way", "CPU s", "times ours", "own MiB", "read", "written", "floor"]
    yield from markdown(heads, _preparation_rows(logs))


def _preparation_rows(
    logs: Mapping[tuple[int, str], Mapping[str, Mapping[str, Any]]],
) -> Iterator[list[str]]:
    for (events, huge), of in sorted(logs.items()):
        name = f"{events / 1e6:g} M" + (f", {huge}" if huge else "")
        first = next(iter(of.values()))
        yield [
            name,
            str(first["rounds"]),
            "ours",
            *_arm(first["arms"]["ours"], ""),
            f"{first['floor_share']:.2f}",
        ]
        for way in sorted(of):
            yield ["", "", way, *_arm(of[way]["arms"][way], _ratio(of[way])), ""]


def _arm(arm: Mapping[str, float], ratio: str) -> list[str]:
    seconds = f"{arm['median_seconds']:.1f}"
    return [seconds, ratio, *(f"{arm[f'median_{key}']:,.0f}" for key in ("peak_own", "read", "written"))]


def _matching(name: re.Pattern[str], records: Records) -> Iterator[tuple[dict[str, str], Mapping[str, Any]]]:
    for record in records:
        found = name.fullmatch(record["name"])
        if found is not None and not QUICK.search(record["name"]):  # which are baselines and not shown
            yield found.groupdict(), record


def _ratio(record: Mapping[str, Any] | None) -> str:
    return "–" if record is None else told(record["ratio"])


def _shares(record: Mapping[str, Any]) -> str:
    ceiling, floor = record["ceiling_share"], record["floor_share"]
    return "–" if ceiling is None else f"{ceiling:.2f} ({floor:.2f})"


if __name__ == "__main__":
    main()
