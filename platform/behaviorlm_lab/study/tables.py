"""Tables over the records of a study, in Markdown."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from behaviorlm.errors import ConfigError
from behaviorlm_lab.study.comparison import comparison
from behaviorlm_lab.study.difficulty_tables import measures, overlaps, selections
from behaviorlm_lab.study.guards import guards
from behaviorlm_lab.study.intervals import markdown, mean
from behaviorlm_lab.study.records import read_records
from behaviorlm_lab.study.settings import MAIN, REFERENCE

Record = Mapping[str, Any]


def study_tables(records: Sequence[Record], reference: str) -> list[str]:
    """All tables: for each condition the comparison and retention, then the guards and what was found of difficulty."""
    lines: list[str] = []
    conditions = list(dict.fromkeys(record["condition"] for record in records))
    for condition in sorted(conditions, key=lambda name: name != MAIN):
        chosen = [record for record in records if record["condition"] == condition]
        seeds = ", ".join(str(record["seed"]) for record in chosen)
        lines += [f"### {condition} (seeds {seeds})", "", *comparison(chosen, reference), ""]
        for table in (retention(chosen), selections(chosen), overlaps(chosen), measures(chosen)):
            lines += [*table, ""] if table else []
    found = guards(records)
    if found:
        lines += ["### Guards", "", *found, ""]
    return lines[:-1]


def retention(records: Sequence[Record]) -> list[str]:
    """One row an arm: loss on held-out conversations of each source, and cloze answers. Empty if none was measured."""
    arms = [arm for arm in records[0]["retention"] if records[0]["retention"][arm]]
    if not arms:
        return []
    sources = [name for name in records[0]["retention"][arms[0]] if name != "cloze"]
    kinds = list(records[0]["retention"][arms[0]].get("cloze", {}))
    rows = [
        [
            arm,
            *(mean(record["retention"][arm][source]["loss"] for record in records) for source in sources),
            *(mean(record["retention"][arm]["cloze"][kind] for record in records) for kind in kinds),
        ]
        for arm in arms
    ]
    return markdown(
        ["arm", *(f"loss on {source}" for source in sources), *(f"cloze: {k}" for k in kinds)], rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables over a folder of records. Returns the exit status, 2 for what cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m behaviorlm_lab.study.tables", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the records, .json or .json.gz")
    parser.add_argument(
        "reference", nargs="?", default=REFERENCE, help=f"model to compare with ({REFERENCE})"
    )
    given = parser.parse_args(arguments)
    try:
        records = read_records(given.folder)
    except ConfigError as error:
        parser.error(str(error))
    known = list(dict.fromkeys(name for record in records for name in record["models"]))
    if given.reference not in known:
        parser.error(f"reference: there is no model {given.reference!r}; known: {', '.join(known)}")
    print("\n".join(study_tables(records, given.reference)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
