"""The table of label scores in docs/benchmarks.md, from the records that `bench_label_scoring --write` made.

python -m benchmarks.label_scoring_table benchmarks/results/amd-epyc.json
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.records import read, told

NAME = re.compile(r"label scores, (full|trie) against (.+), (\d+) labels, (.+)")
PEERS = {"lm-eval": "lm-eval", "kv-per-prompt": "KV of a prompt", "kv-shared": "KV shared"}
Records = Mapping[tuple[str, str], Mapping[str, Any]]
"""By our way and the other one."""


def table_lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown: a row for each base and number of labels."""
    rows: dict[tuple[str, int], dict[tuple[str, str], Mapping[str, Any]]] = {}
    for record in records:
        found = NAME.fullmatch(record["name"])
        if found is None:
            continue
        ours, other, labels, base = found.groups()
        rows.setdefault((base, int(labels)), {})[ours, other] = record
    heads = ["base", "names", "nodes: full", "trie", "ms: full", "trie", "full by trie"]
    heads += [head for peer in PEERS.values() for head in (f"{peer} by full", "by trie")]
    heads += ["before by now: full", "trie"]
    return [
        "| " + " | ".join(heads) + " |",
        "|---" + "|---:" * (len(heads) - 1) + "|",
        *("| " + " | ".join(_cells(*row, rows[row])) + " |" for row in sorted(rows)),
    ]


def _cells(base: str, labels: int, records: Records) -> list[str]:
    first = records["trie", "full"]
    cells = [base.split(",")[0], str(labels), *(f"{_nodes(records, ours):,.0f}" for ours in ("full", "trie"))]
    cells += [f"{1000 * first['arms'][ours]['median_seconds']:,.0f}" for ours in ("full", "trie")]
    cells.append(_ratio(first))
    cells += [_ratio(records.get((ours, peer))) for peer in PEERS for ours in ("full", "trie")]
    return cells + [_ratio(records.get((ours, f"{ours} before"))) for ours in ("full", "trie")]


def _nodes(records: Records, ours: str) -> float:
    return next(float(record["nodes"]) for (way, _), record in records.items() if way == ours)


def _ratio(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "–"
    return told(record["ratio"])


if __name__ == "__main__":
    print("\n".join(table_lines(read(Path(sys.argv[1])))))
