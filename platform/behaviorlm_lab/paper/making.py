"""Making the exhibits: what would run, running it, and drawing each exhibit whose runs are there."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from behaviorlm.errors import BehaviorLMError, ConfigError
from behaviorlm_lab.paper.captions import caption
from behaviorlm_lab.paper.comparisons import ablations, accuracy, main_table, sensitivity
from behaviorlm_lab.paper.cost import cost
from behaviorlm_lab.paper.drawn import Drawn, brief, write_exhibit, write_missing
from behaviorlm_lab.paper.embeddings import behavior_map
from behaviorlm_lab.paper.finished import PaperRun, open_paper_run
from behaviorlm_lab.paper.framework import framework
from behaviorlm_lab.paper.lines import lines
from behaviorlm_lab.paper.logs import behaviors_table, data_table, distribution
from behaviorlm_lab.paper.runs import NeededRun, needed_runs, paper_folder, run_all, states
from behaviorlm_lab.paper.settings import ExhibitSettings, Kind, PaperSettings, every_exhibit, exhibits_of
from behaviorlm_lab.paper.work import work_in_words, work_to_do
from behaviorlm_ray import storage

FUNCTIONS: Mapping[Kind, Callable[[ExhibitSettings, Sequence[PaperRun]], Drawn]] = {
    "distribution": distribution,
    "map": behavior_map,
    "accuracy": accuracy,
    "framework": framework,
    "lines": lines,
    "data": data_table,
    "main": main_table,
    "ablations": ablations,
    "sensitivity": sensitivity,
    "behaviors": behaviors_table,
    "cost": cost,
}
INDEX = "index.md"
HEAD = """# {name}: exhibits in the manner of the paper's

Figures and tables of the kinds that the paper has, from runs of this project; no number in them is the paper's. What
stands in bold is computed from the exhibit's numbers. "Level with" means that 95 % intervals overlap, which is no test:
paired differences, which can tell more apart, are in the table of ablations and in the reports of the runs.

"""
NOT_MADE = "not made"


def exhibits_folder(paper: PaperSettings) -> Path:
    """Where they are written, absolute."""
    return paper_folder(paper) / "exhibits" if paper.folder is None else Path(paper.folder).absolute()


def plan_paper(paper: PaperSettings) -> list[str]:
    """What would run and what is there, in lines. Raises ConfigError with the problems of all configurations."""
    found, exhibits = states(paper), exhibits_of(paper)
    lines = [f"paper {paper.name}: plan (nothing was run or written)", "", "runs"]
    lines += [f"  {name}: {missing or 'finished'}" for name, missing in found.items()]
    lines += ["", "exhibits"]
    for name, exhibit in exhibits.items():
        lacking = [run for run in exhibit.runs if found[run]]
        state = f"waits for {', '.join(lacking)}" if lacking else "can be drawn"
        lines.append(f"  {name}: {state}; {exhibit.title}")
    work = work_in_words(work_to_do(paper, needed_runs(paper)))
    return [*lines, "", "to do", *(f"  {line}" for line in work), "", f"output: {exhibits_folder(paper)}"]


def make_paper(paper: PaperSettings) -> list[str]:
    """Run what is missing, if that is asked for, and draw every exhibit whose runs are there. Returns what was written
    and what was not, in lines.

    Raises ConfigError with the problems of all configurations, and, once all others are made, BehaviorLMError for
    exhibits that could not be.
    """
    found = run_all(paper) if paper.run_missing else states(paper)
    exhibits = exhibits_of(paper)
    needed = needed_runs(paper)
    told = [_make(paper, name, exhibit, needed, found) for name, exhibit in exhibits.items()]
    folder = exhibits_folder(paper)
    pages = [
        brief(page, name)
        for name in every_exhibit(paper)
        if (page := storage.read_bytes(folder / f"{name}.md"))
    ]
    storage.write_replacing(folder / INDEX, HEAD.format(name=paper.name).encode() + b"\n".join(pages))
    lines = [*told, f"wrote the exhibits to {folder}"]
    lacking = [name for name, line in zip(exhibits, told, strict=True) if NOT_MADE in line]
    if lacking and paper.run_missing:
        raise BehaviorLMError("\n".join([*lines, f"not made: {', '.join(lacking)}; all others are"]))
    return lines


def _make(
    paper: PaperSettings,
    name: str,
    exhibit: ExhibitSettings,
    needed: Mapping[str, NeededRun],
    found: Mapping[str, str],
) -> str:
    """Write one exhibit, or what it lacks. Returns a line for the screen."""
    folder, title = exhibits_folder(paper), exhibit.title
    again = f"`behaviorlm paper` with the configuration {paper.name} and `--only='[{name}]'`"
    lacking = [f"run {run}: {found[run]}" for run in exhibit.runs if found[run]]
    if not lacking:
        try:
            runs = [open_paper_run(needed[run].settings, of.at) for run, of in exhibit.runs.items()]
            drawn = FUNCTIONS[exhibit.shows](exhibit, runs)
            if not drawn.rows:
                raise ConfigError(f"{name}: none of its methods has anything to show")
            asked = f"which {Path(paper.exhibits) / name}.yaml asks for over {paper.run}; drawn by {again}"
            write_exhibit(folder, name, drawn, title, caption(exhibit, runs, asked, drawn.has_intervals))
            return f"{name}: {len(drawn.rows)} rows"
        except BehaviorLMError as error:
            lacking = [str(error)]
    lines = [*(f"- {line}" for line in lacking), "", f"{again} makes it."]
    write_missing(folder, name, title, lines)
    return f"{name}: {NOT_MADE}: {'; '.join(lacking)}; {again}"
