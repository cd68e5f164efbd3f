"""A finished run as exhibits read it: its report's data, who stands for each method, and its stages' manifests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from behaviorlm.errors import ConfigError
from behaviorlm_lab.paper.settings import NON_LLM, ExhibitSettings
from behaviorlm_ray.pipeline.endpoint_comparison import endpoint_input
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.report.content import Interval, ReportData
from behaviorlm_ray.report.forms import Forms, Shown
from behaviorlm_ray.report.side_by_side import read_run
from behaviorlm_ray.stages.manifests import Manifest, read_manifest
from behaviorlm_ray.stages.run_record import read_asked
from behaviorlm_ray.storage import Location


@dataclass(frozen=True)
class PaperRun:
    """One finished run. at: where it stands in the exhibit, by axis. settings: as they are now, whose paths are there
    even where those that it ran with are not any more.
    """

    place: Location
    at: Mapping[str, str]
    settings: RunSettings
    data: ReportData
    forms: Forms

    @cached_property
    def manifests(self) -> list[Manifest]:
        """Of the stages that its results came of, in the order of the run: each after all that it reads."""
        asked = read_asked(self.place).finished
        return [read_manifest(self.place.parent / "stages" / name) for name in asked]

    def stage(self, name: str) -> Manifest:
        """The only stage of this name."""
        [found] = [manifest for manifest in self.manifests if manifest.stage == name]
        return found

    def reads(self, manifest: Manifest) -> list[Manifest]:
        """The stages that it reads, each once. Two may have written the same; then it is the later one before it."""
        earlier = {one.content_hash: one for one in self.manifests[: self.manifests.index(manifest)]}
        return [earlier[content] for content in dict.fromkeys(manifest.inputs.values()) if content in earlier]

    def has_way_to(self, name: str) -> bool:
        """Whether an arm, opponent or endpoint of this name was compared."""
        return bool(self._scores_of(name))

    def way_to(self, name: str) -> list[Manifest]:
        """All stages that the scores of an arm, opponent or endpoint came of, in the order of the run. Raises
        ConfigError for one that the run does not have.
        """
        waiting = self._scores_of(name)
        if not waiting:
            raise ConfigError(f"{self.place}: there is no arm {name} in this run")
        needed: list[Manifest] = []
        while waiting:
            found = waiting.pop()
            if found not in needed:
                needed.append(found)
                waiting += self.reads(found)
        return sorted(needed, key=self.manifests.index)

    def _scores_of(self, name: str) -> list[Manifest]:
        """The stage that wrote its scores; none for what is counted."""
        evaluated = self.stage("evaluate")
        content = evaluated.inputs.get(name, evaluated.inputs.get(endpoint_input(name)))
        return [one for one in self.reads(evaluated) if one.content_hash == content]

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


def open_paper_run(settings: RunSettings, at: Mapping[str, str]) -> PaperRun:
    """Read from its folder. Raises ConfigError where there is no finished run."""
    place = settings.storage.place / settings.name
    compared = read_run(str(place))
    return PaperRun(place, at, settings, compared.data, compared.forms)


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
            raise ConfigError(f"{run.place}: there is no counting in this run")
        name = run.forms.counting.predictor
    if name not in by_name:
        raise ConfigError(f"{run.place}: there is no {name} in this run; there are {', '.join(by_name)}")
    return label, by_name[name]
