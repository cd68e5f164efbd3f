"""What a run on a log that does not exist yet would take."""

from behaviorlm_ray.costs.config import ImaginedLog
from behaviorlm_ray.costs.imagined import imagined_sample
from behaviorlm_ray.costs.log_sample import LogSample
from behaviorlm_ray.pipeline.costs import described_costs
from behaviorlm_ray.pipeline.evaluate import evaluate
from behaviorlm_ray.pipeline.inputs import RunInputs
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.stages.stage import in_order


def sample_of_numbers(settings: RunSettings, log: ImaginedLog) -> LogSample:
    """A log of these numbers as the settings split it and cut histories; splits other than by time count alike."""
    split = settings.split
    shares = {
        "train": 1.0 - split.validation - split.test,
        "validation": split.validation,
        "test": split.test,
    }
    window = settings.prompt.max_events, settings.prompt.stride
    sources = [source.name for source in settings.auxiliary]
    return imagined_sample(log, window, shares, settings.vocabulary.anchor_threshold, sources)


def imagined_run(settings: RunSettings) -> Run:
    """A run that is reckoned and never run."""
    without_truth = settings.evaluation.model_copy(update={"truth": None})
    settings = settings.model_copy(update={"evaluation": without_truth})
    return Run(settings, RunInputs.imagined(settings))


def reckoned(settings: RunSettings, log: ImaginedLog) -> list[str]:
    """Lines of what all stages of the run take. Raises ModelError where the base's configuration is not there."""
    run = imagined_run(settings)
    return described_costs(run, in_order([evaluate(run)]), sample_of_numbers(run.settings, log))
