"""What a search cost, in tokens that went through a model, and what it would have cost with nothing shared."""

from collections.abc import Iterable

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.search.decisions import Outcome
from behaviorlm_ray.stages.manifests import Manifest, decode_manifest, read_manifest
from behaviorlm_ray.storage import Location


class StageCosts:
    """Looks up what stages cost, each manifest read once. State: the manifests by the stage's folder."""

    def __init__(self, root: Location) -> None:
        self._root = root
        self._manifests: dict[str, Manifest] = {}

    def manifest(self, folder: str) -> Manifest:
        """The manifest of a stage by its folder's name. Raises StorageError."""
        if folder not in self._manifests:
            self._manifests[folder] = read_manifest(self._root / "stages" / folder)
        return self._manifests[folder]

    def spent(self, outcomes: Iterable[Outcome]) -> float:
        """Tokens of all stages that these tasks used, each once; of a rung, what is beyond the one before."""
        folders = dict.fromkeys(folder for outcome in outcomes for folder in outcome.stages.values())
        return sum(self.manifest(folder).cost.get("tokens", 0.0) for folder in folders)

    def whole(self, outcome: Outcome) -> float:
        """Tokens of this trial from nothing to the end of its B-Tuning and one validation, with nothing shared.

        B-Tuning that stopped early is extended in proportion to its steps, which are all of the same size.
        """
        total = 0.0
        for name, folder in outcome.stages.items():
            cost = self.manifest(folder).cost
            tokens = cost.get("tokens", 0.0) + cost.get("tokens_continued", 0.0)
            if name.startswith("b_tune") and outcome.steps and outcome.steps_of_whole:
                tokens *= outcome.steps_of_whole / outcome.steps
            total += tokens
        return total

    def are_there(self, outcome: Outcome) -> bool:
        """Whether all stages of a task still have their manifest. Raises StorageError if storage does not answer."""
        for folder in set(outcome.stages.values()) - self._manifests.keys():
            content = storage.read_bytes(self._root / "stages" / folder / "manifest.json")
            try:
                self._manifests[folder] = decode_manifest(content or b"")
            except StorageError:  # damaged or gone
                return False
        return True
