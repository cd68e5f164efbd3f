"""The oracles of the synthetic worlds, found by the entry-point group `behaviorlm.oracles`."""

from collections.abc import Iterator
from dataclasses import dataclass

from behaviorlm.errors import ConfigError
from behaviorlm_lab.truth.batches import TrueProbabilities, truth_batches, vocabulary_in_world
from behaviorlm_lab.truth.knowledge import WorldKnowledge
from behaviorlm_lab.world.errands import errands_world
from behaviorlm_lab.world.generator import Generator
from behaviorlm_lab.world.opaque import OpaqueWorld
from behaviorlm_lab.world.process import default_world
from behaviorlm_ray.evaluation.oracle import TruthSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows, gather


@dataclass(frozen=True)
class WorldOracle:
    """The truth of a synthetic world; `name` is the one in messages."""

    name: str
    world: Generator

    @property
    def version(self) -> str:
        """Names the world and its version."""
        return self.world.version

    def about(self, log: PreparedLog, rows: SampleRows) -> WorldKnowledge:
        """The truth about the chosen samples. Raises DataError if the log is of another world."""
        vocabulary_in_world(log, self.world, self.name)
        return WorldKnowledge(
            lambda windowed: self.batches(log, rows, windowed=windowed),
            gather(log, rows, "behavior"),
            log.vocabulary.is_anchor,
        )

    def batches(
        self, log: PreparedLog, rows: SampleRows, *, windowed: bool = False
    ) -> Iterator[TrueProbabilities]:
        """See `truth_batches`."""
        columns = vocabulary_in_world(log, self.world, self.name)
        return truth_batches(log, rows, self.world, columns, windowed=windowed)


def main_world(opaque_seed: int | None = None) -> WorldOracle:
    """The main world, under codes for names where there is a seed."""
    return WorldOracle("main", _named(default_world(), opaque_seed))


def second_world(opaque_seed: int | None = None) -> WorldOracle:
    """The second world, likewise."""
    return WorldOracle("second", _named(errands_world(), opaque_seed))


def world_oracle(settings: TruthSettings) -> WorldOracle:
    """The oracle of one of these worlds, with its probabilities. Raises ConfigError for another package's."""
    oracle = settings.open()
    if not isinstance(oracle, WorldOracle):
        raise ConfigError(f"evaluation.truth.world: {settings.world!r} is no world of the laboratory")
    return oracle


def _named(world: Generator, opaque_seed: int | None) -> Generator:
    return world if opaque_seed is None else OpaqueWorld(world, opaque_seed)
