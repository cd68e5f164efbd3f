"""What the benchmark of tree batches is told reaches the steps that it runs, and what it cannot do is refused."""

import numpy as np
import pytest

from behaviorlm.training.chunks import Chunk
from behaviorlm.training.schedule import schedule_samples
from behaviorlm_ray.tuning.config import TuningConfig
from behaviorlm_ray.tuning.training_rows import batching_of
from benchmarks.bench_tree_batches import interval, main
from tests.behaviorlm.training.chunk_arrays import chunks_of


@pytest.mark.parametrize(("epochs", "steps"), [(1.0, 5), (2.0, 10), (2.4, 12)])
def test_the_epochs_and_the_samples_of_a_step_are_those_asked_for(epochs: float, steps: int) -> None:
    config = TuningConfig(epochs=epochs, samples_per_step=8, max_samples_per_timeline_per_step=3, seed=4)
    batching = batching_of(config)
    assert (batching.max_samples_per_timeline_per_step, batching.seed) == (3, 4)
    schedule = schedule_samples(
        chunks_of([Chunk(0, (0, first), np.arange(first, first + 2)) for first in range(0, 40, 2)]),
        samples_per_step=batching.samples_per_step,
        max_per_timeline=batching.max_samples_per_timeline_per_step,
        epochs=batching.epochs,
        max_steps=batching.max_steps,
        seed=batching.seed,
    )
    assert len(schedule) == steps


def test_an_interval_of_equal_differences_is_their_value_and_one_of_noise_holds_zero() -> None:
    groups = np.repeat(np.arange(50), 4)
    assert interval(np.full((3, 200), 0.25), groups) == pytest.approx((0.25, 0.25))
    low, high = interval(np.random.default_rng(0).normal(size=(3, 200)), groups)
    assert low < 0 < high


@pytest.mark.parametrize(
    "option", ["--samples=0", "--samples-per-step=0", "--epochs=-1", "--seeds=0", "--caps=2"]
)
def test_options_that_mean_nothing_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([option])
    assert option.partition("=")[0] in capsys.readouterr().err
