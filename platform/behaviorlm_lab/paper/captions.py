"""What every exhibit says of itself: log, base, samples, seeds, interval and commit, and that it is not the paper's."""

from collections.abc import Callable, Iterable, Sequence

from behaviorlm_lab.paper.finished import PaperRun
from behaviorlm_lab.paper.settings import ExhibitSettings
from behaviorlm_ray.report.provenance import commit_here, seeds_of

NOT_THE_PAPERS = "no number in it is the paper's"
ONE_SEED = "what another seed of training would change is not in them"
TUNED = {"full": "all of it tuned", "lora": "tuned by LoRA"}


def caption(exhibit: ExhibitSettings, runs: Sequence[PaperRun], asked: str, has_intervals: bool) -> str:
    """One paragraph. Where its runs differ in something, all that they have is listed. asked: where its
    runs are asked for, and by what command it is drawn."""
    manner = (
        f"In the manner of the paper's {exhibit.manner}; {NOT_THE_PAPERS}"
        if exhibit.manner
        else "Our own exhibit"
    )
    parts = [
        f"{exhibit.title}. {manner}",
        _each(runs, _log),
        f"Base: {_each(runs, _base)}",
        f"Samples: {_each(runs, _samples)}",
        f"Seeds: {_each(runs, lambda run: ', '.join(map(str, seeds_of(run.settings))))}",
        *(
            [f"Brackets and bars are 95 % intervals, {_each(runs, _interval)}; {ONE_SEED}"]
            if has_intervals
            else []
        ),
        f"From {', '.join(run.settings.name for run in runs)}, {asked} at commit {commit_here()}",
    ]
    return ". ".join(parts) + "."


def _each(runs: Sequence[PaperRun], told: Callable[[PaperRun], str]) -> str:
    return "; ".join(_once(told(run) for run in runs))


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _log(run: PaperRun) -> str:
    dataset, truth = run.data.dataset, run.settings.evaluation.truth
    users = "" if dataset is None or dataset.users is None else f" of {dataset.users:,} users"
    name = run.settings.events.dataset
    if truth is None:
        return f"The log {name}{users}, as it was recorded"
    return f"Synthetic: the log {name}{users} is made from world {run.stage('evaluate').config['world']}"


def _base(run: PaperRun) -> str:
    """Its name, as a path ends, and how it is adapted."""
    model = run.settings.model
    return f"{'/'.join(model.base.rstrip('/').split('/')[-2:])}, {TUNED[model.adaptation]}"


def _samples(run: PaperRun) -> str:
    samples, few = run.data.results.samples, run.settings.few_shot
    limits = [
        *([] if few.tail_samples is None else [f"at most {few.tail_samples} of each tail behavior"]),
        *([] if few.share == 1 else [f"{few.share:.0%} of all"]),
    ]
    used = f" ({' and '.join(limits)} used)" if limits else ""
    trained = (run.data.dataset.samples_per_split if run.data.dataset else {}).get("train", 0)
    return f"{samples['all']:,} test, {samples['validation']:,} validation, {trained:,} training{used}"


def _interval(run: PaperRun) -> str:
    evaluation, samples = run.settings.evaluation, run.data.results.samples
    return f"a bootstrap of {evaluation.bootstrap_samples:,} over {samples['groups']:,} groups of one run"
