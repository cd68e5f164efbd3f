"""Tables over the records of a study, in Markdown.

python -m behaviorlm_ray.study.tables FOLDER [REFERENCE]
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from behaviorlm_ray.study.comparison import comparison
from behaviorlm_ray.study.difficulty_tables import measures, overlaps, selections
from behaviorlm_ray.study.guards import guards
from behaviorlm_ray.study.intervals import markdown, mean
from behaviorlm_ray.study.records import read_records
from behaviorlm_ray.study.settings import REFERENCE

Record = Mapping[str, Any]


def study_tables(records: Sequence[Record], reference: str) -> list[str]:
    """All tables: for each condition the comparison and retention, then the guards and what was found of difficulty."""
    lines: list[str] = []
    conditions = list(dict.fromkeys(record["condition"] for record in records))
    for condition in sorted(conditions, key=lambda name: name != "main"):
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


if __name__ == "__main__":
    folder, *chosen = sys.argv[1:]
    print("\n".join(study_tables(read_records(Path(folder)), *(chosen or [REFERENCE]))))
