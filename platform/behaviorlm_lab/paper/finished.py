"""A finished run as exhibits read it: its report's data, who stands for each method, and its stages' manifests."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from behaviorlm.errors import ConfigError
from behaviorlm_lab.paper.settings import NON_LLM, ExhibitSettings
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.report.content import Interval, ReportData
from behaviorlm_ray.report.forms import Forms, Shown
from behaviorlm_ray.report.side_by_side import read_run
from behaviorlm_ray.stages.manifests import Manifest, read_manifest
from behaviorlm_ray.stages.run_record import read_asked
from behaviorlm_ray.storage import Location


@dataclass(frozen=True)
class PaperRun:
    """One finished run. at: where it stands in the exhibit, by axis."""

    place: Location
    at: Mapping[str, str]
    data: ReportData
    forms: Forms

    @cached_property
    def settings(self) -> RunSettings:
        return RunSettings.model_validate(self.data.configuration)

    @cached_property
    def manifests(self) -> dict[str, Manifest]:
        """Of the stages that its results came of, by the hash of their content."""
        found = [
            read_manifest(self.place.parent / "stages" / name) for name in read_asked(self.place).finished
        ]
        return {manifest.content_hash: manifest for manifest in found}

    @property
    def evaluated(self) -> Manifest:
        """The stage that compared."""
        [found] = [manifest for manifest in self.manifests.values() if manifest.stage == "evaluate"]
        return found

    def way_to(self, arm: str) -> list[Manifest]:
        """All stages that an arm's scores came of, each once, later ones first. Raises ConfigError for an arm that the
        run does not have.
        """
        if arm not in self.evaluated.inputs:
            raise ConfigError(f"{self.place}: there is no arm {arm} in this run")
        return list(self.before(self.evaluated.inputs[arm]))

    def before(self, content: str) -> Iterator[Manifest]:
        """The stage of this content and all that it needs, each once."""
        waiting, seen = [content], set()
        while waiting:
            found = self.manifests.get(waiting.pop(0))
            if found is None or found.content_hash in seen:  # read from outside, or met before
                continue
            seen.add(found.content_hash)
            yield found
            waiting += found.inputs.values()

    def folder_of(self, manifest: Manifest) -> Location:
        """Where a stage's files lie."""
        name = f"{manifest.stage}-{manifest.fingerprint[:16]}"
        return self.place.parent / "stages" / name / "attempts" / manifest.attempt


@dataclass(frozen=True)
class Method:
    """A method of an exhibit in one run. label: what it is called; shown: its predictor under the rule that counts."""

    label: str
    shown: Shown

    def interval(self, data: ReportData, group: str, metric: str) -> Interval:
        """What was measured of it."""
        return data.results.models[self.shown.model].get(group, {}).get(metric, Interval())


def tokens_of(manifest: Manifest) -> int:
    """Tokens that went through a model in a stage; 0 for one without."""
    return int(manifest.cost.get("tokens", 0))


def open_paper_run(place: Location, at: Mapping[str, str]) -> PaperRun:
    """Read from its folder. Raises ConfigError where there is no finished run."""
    compared = read_run(str(place))
    return PaperRun(place, at, compared.data, compared.forms)


def methods_of(run: PaperRun, exhibit: ExhibitSettings) -> list[Method]:
    """The exhibit's methods in its order; without any, every predictor, the best first.

    Raises ConfigError for one that the run does not have.
    """
    every = [*run.forms.best, *run.forms.others]
    among = (
        run.forms.best
        if exhibit.rule == "preferred"
        else [one for one in every if one.model == one.predictor]
    )
    asked = exhibit.methods or {one.predictor: one.predictor for one in among}
    return [Method(*_found(run, among, name, label)) for name, label in asked.items()]


def _found(run: PaperRun, among: Iterable[Shown], name: str, label: str) -> tuple[str, Shown]:
    by_name = {one.predictor: one for one in among}
    if name == NON_LLM:
        if run.forms.counting is None:
            raise ConfigError(f"{run.place}: nothing in this run does without a language model")
        name = run.forms.counting.predictor
    if name not in by_name:
        raise ConfigError(f"{run.place}: there is no {name} in this run; there are {', '.join(by_name)}")
    return label, by_name[name]
