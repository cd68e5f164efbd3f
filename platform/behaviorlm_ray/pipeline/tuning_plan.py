"""How and on what a model is tuned, and how many steps that has."""

from dataclasses import dataclass

from behaviorlm.training.schedule import step_count, steps_per_epoch
from behaviorlm_ray.tuning.config import KeepTail, TuningConfig
from behaviorlm_ray.tuning.training_rows import TrainingSamples


@dataclass(frozen=True)
class TuningPlan:
    """How and on what a model is tuned.

    key: under which `config` stands in the settings. mixed: with the auxiliary conversations. half: only samples of
    half 0 or 1 of the groups. stop_step: only the first so many steps of that tuning; the checkpoint there is kept for
    those that go further. keep: how samples are held to the base; None: none are.
    """

    key: str
    config: TuningConfig
    samples: TrainingSamples
    mixed: bool
    half: int | None = None
    stop_step: int | None = None
    keep: KeepTail | None = None

    def steps(self, samples: int) -> int:
        """Of a tuning on so many samples."""
        steps, _ = steps_of(self.config, samples)
        return steps if self.stop_step is None else min(steps, self.stop_step)


def steps_of(config: TuningConfig, samples: int) -> tuple[int, int]:
    """Steps of a whole tuning on so many samples, and of one epoch of it."""
    steps = step_count(samples, config.samples_per_step, config.epochs, config.max_steps)
    return steps, steps_per_epoch(samples, config.samples_per_step)


def described_steps(tuning: TuningPlan, samples: int) -> str:
    """How many steps of how many samples a tuning on so many has, in words."""
    _, in_epoch = steps_of(tuning.config, samples)
    return f"{tuning.steps(samples)} steps of about {round(samples / in_epoch)} samples, of {samples} in an epoch"
