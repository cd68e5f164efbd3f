"""The tables of real logs with a real language model: `python -m docs.real_logs` writes them anew from docs/results,
`pytest tests/docs` finds them old.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from behaviorlm_ray.console.tables import markdown
from docs import tables

DOCS = Path(__file__).parent
SUMMARY, DETAILS = DOCS / "results.md", DOCS / "study" / "real_logs.md"
NAMED = re.compile(r"(?P<log>\w+)_gemma_k(?P<shots>\d+|all)")
RULES = ("bayes", "adjusted", "fitted", "pmi")
SHOWN = {
    "untuned": "untuned",
    "one_stage": "one stage",
    "thinned_at_once": "one stage, thinned",
    "a_then_b": "A → B at random",
    "mixture": "best mixture with counting",
    "counts": "counting as it is served",
    "per_user_markov": "per-user Markov",
    "sasrec": "SASRec",
    "gru4rec": "GRU4Rec",
    "bert4rec": "BERT4Rec",
    "lightgbm": "LightGBM",
}
LOGS = {"foursquare_nyc": "Foursquare, New York", "smartthings_us": "SmartThings, US"}

Record = Mapping[str, Any]


def main() -> None:
    """Write both pages."""
    found = records()
    for page, lines in ((SUMMARY, summary(found)), (DETAILS, details(found))):
        page.write_text(written(page.read_text(encoding="utf-8"), lines), encoding="utf-8")


def written(page: str, lines: Iterator[str]) -> str:
    """A page with these lines."""
    return tables.written(page, "docs.real_logs", {"gemma": lines})


def records() -> dict[tuple[str, str], Record]:
    """By log and shots: few first, all at the end."""
    named = [(NAMED.fullmatch(path.stem), path) for path in (DOCS / "results").glob("*.json")]
    found = {
        (match["log"], match["shots"]): json.loads(path.read_text(encoding="utf-8"))
        for match, path in named
        if match is not None
    }
    return dict(sorted(found.items(), key=lambda item: (item[0][0], _order(item[0][1]))))


def _order(shots: str) -> float:
    return float("inf") if shots == "all" else int(shots)


def summary(found: Mapping[tuple[str, str], Record]) -> Iterator[str]:
    """A row for each predictor; for each log and number of shots its plain form."""
    heads = ["accuracy / tail accuracy / MRR"]
    heads += [f"{LOGS[log].partition(',')[0]}, {shots}" for log, shots in found]
    rows = [
        [shown, *(_in_short(record, predictor) for record in found.values())]
        for predictor, shown in SHOWN.items()
    ]
    yield from markdown(heads, rows)


def _in_short(record: Record, predictor: str) -> str:
    of = record["models"].get(_mixture(record) if predictor == "mixture" else predictor)
    if of is None:
        return "–"
    values = of["all"]["accuracy"], of["tail"]["accuracy"], of["all"]["mrr"]
    return " / ".join(_number(value["value"]) for value in values)


def _mixture(record: Record) -> str:
    """The mixture that the run chose on validation."""
    [name] = [name for name in record["models"] if name.endswith("+counts")]
    return str(name)


def details(found: Mapping[tuple[str, str], Record]) -> Iterator[str]:
    """For each record what it is of, all predictors, and what is left of other text."""
    for (log, shots), record in found.items():
        yield from ["", f"## {LOGS[log]}: {_shots_in_words(shots)}", "", _about(log, shots, record), ""]
        yield from markdown(
            [
                "predictor",
                "anchor accuracy",
                "tail accuracy",
                "tail macro recall",
                "accuracy",
                "MRR",
                "Bayes rule: anchor / tail",
                "adjusted: anchor / tail",
            ],
            _rows(record),
        )
        yield from ["", *markdown(["arm", "loss of conversations", "cloze"], _kept(record))]
        yield from _endpoints(record)


def _shots_in_words(shots: str) -> str:
    return (
        "all training targets" if shots == "all" else f"at most {shots} training targets of a tail behavior"
    )


def _about(log: str, shots: str, record: Record) -> str:
    samples, best, few = record["samples"], record["recommended"], record.get("few_shot")
    used = (
        f" Of {few['train']['tail_there']:,} training samples with a tail target {few['train']['tail']:,} are used."
        if few
        else ""
    )
    return (
        f"{samples['all']:,} test samples of {samples['groups']:,} groups, {samples['tail']:,} of them tail; "
        f"{samples['validation']:,} validation samples.{used} Recommended: `{best['model']}`, {best['reason']}. "
        f"[Record](../results/{log}_gemma_k{shots}.json) of commit {record['made']['commit'][:7]}, with its command."
    )


def _rows(record: Record) -> Iterator[list[str]]:
    models = record["models"]
    for name in models:
        if name.partition("+")[0] not in models or name.rpartition("+")[2] in RULES:
            continue
        of = models[name]
        yield [
            f"`{name}`",
            *(_with_interval(of[group]["accuracy"]) for group in ("anchor", "tail")),
            _with_interval(of["tail"]["macro_recall_at_least_10"]),
            *(_with_interval(of["all"][key]) for key in ("accuracy", "mrr")),
            *(_pair(models.get(f"{name}+{rule}")) for rule in ("bayes", "adjusted")),
        ]


def _pair(of: Record | None) -> str:
    return (
        "–"
        if of is None
        else " / ".join(_number(of[group]["accuracy"]["value"]) for group in ("anchor", "tail"))
    )


def _kept(record: Record) -> Iterator[list[str]]:
    for arm, of in record["retention"].items():
        cloze = of.get("cloze")
        yield [f"`{arm}`", f"{of['dolly']['loss']:.2f}", _number(cloze["accuracy"]) if cloze else "–"]


def _endpoints(record: Record) -> Iterator[str]:
    """What chat models answered, beside the others on their samples."""
    for name, of in record.get("endpoints", {}).items():
        compared = of["models"]
        yield from ["", f"`{name}`, on the {of['samples']['all']:,} samples that it was asked about:", ""]
        rows = (
            [f"`{model}`", *(_with_interval(compared[model]["all"][key]) for key in ("accuracy", "mrr"))]
            for model in compared
            if model.rpartition("+")[2] not in RULES
        )
        yield from markdown(["predictor", "accuracy", "MRR"], rows)


def _with_interval(of: Mapping[str, float | None]) -> str:
    if of["value"] is None:
        return "–"
    return f"{_number(of['value'])} [{_number(of['low'])}, {_number(of['high'])}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".removeprefix("0")


if __name__ == "__main__":
    main()
