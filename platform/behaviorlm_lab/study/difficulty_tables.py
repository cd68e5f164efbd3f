"""What examination found, as tables: what each arm selected, and what each measure of difficulty goes along with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from behaviorlm_lab.study.examination import TARGETS
from behaviorlm_lab.study.intervals import markdown, mean

Record = Mapping[str, Any]


def selections(records: Sequence[Record]) -> list[str]:
    """One row an arm with B-Tuning: how much of what was scored it selected, with mean true p. Empty without any."""
    arms = list(records[0]["difficulty"].get("selections", {}))
    rows = []
    for arm in arms:
        found = [record["difficulty"]["selections"][arm] for record in records]
        cells = []
        for group in ("anchor", "tail"):
            for which in ("selected", "scored"):
                samples = np.mean([one[which][group]["samples"] for one in found])
                cells += [f"{samples:,.0f}", mean(one[which][group]["mean_true_p"] for one in found)]
        rows.append([arm, *cells])
    header = ["selection"]
    for group in ("anchors", "tail"):
        header += [f"{group} selected", "mean true p", "of scored", "mean true p"]
    return markdown(header, rows) if rows else []


def overlaps(records: Sequence[Record]) -> list[str]:
    """One row an arm: the share of the tail it selected that each other arm selected as well. Empty below two arms."""
    found = [record["difficulty"].get("overlaps", {}).get("tail", {}) for record in records]
    arms = list(found[0])
    if len(arms) < 2:
        return []
    rows = [
        [arm, *("" if arm == other else mean((one[arm][other] for one in found), digits=2) for other in arms)]
        for arm in arms
    ]
    return markdown(["of its tail selected, shared with", *arms], rows)


def measures(records: Sequence[Record]) -> list[str]:
    """One row a measure: rank correlations, mean over seeds, all inside tail behaviors and inside anchors, with each
    target. Empty where none was examined.
    """
    found = [record["difficulty"]["measures"] for record in records if "measures" in record["difficulty"]]
    if not found:
        return []
    rows = []
    for name in dict.fromkeys(name for of_record in found for name in of_record["correlations"]):
        cells = []
        for target in TARGETS:
            for group in ("tail", "anchor"):
                cells.append(
                    mean(
                        (
                            of_record["correlations"].get(name, {}).get(target, {}).get(group)
                            for of_record in found
                        ),
                        digits=2,
                    )
                )
        rows.append([name, *cells])
    learned = mean(of_record["learned"]["on others"] for of_record in found)

    def of_nll(group: str, when: str) -> str:
        return mean(of_record["nll"][group][when] for of_record in found)

    header = ["measure", *(f"{text}: {group}" for text in TARGETS.values() for group in ("tail", "anchors"))]
    note = (
        f"Rank correlations inside behaviors, on the samples that {found[0]['on']} scored and, for what was learned, "
        f"did not select. There the loss fell by {learned} nats. Before B-Tuning it was {of_nll('tail', 'before')} "
        f"nats on tail targets and {of_nll('anchor', 'before')} on anchors; after it, on those that were left out, "
        f"{of_nll('tail', 'after, on others')} and {of_nll('anchor', 'after, on others')}. Given the NLL before, a "
        "measure that orders nearly as it does (margin, excess) has only noise left; cross-fitted NLLs are of two "
        "judges, which weakens what goes along with them."
    )
    return [note, "", *markdown(header, rows)]
