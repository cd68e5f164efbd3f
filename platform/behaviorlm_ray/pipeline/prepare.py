"""The stage `prepare`: timelines, vocabulary and prompt from the log's files."""

from behaviorlm.events.summary import told, worst_losses
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.pipeline.costs import prepare_cost
from behaviorlm_ray.pipeline.input_checks import check_quarantined_rows
from behaviorlm_ray.pipeline.run import Run, plain
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.plan import PreparationPlan, partition_count
from behaviorlm_ray.preparation.prepared_log import PreparedLog
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.stage import Made, Stage
from behaviorlm_ray.storage import Location

VERSION = 3
DECIDES_NOTHING = ("paths", "max_quarantine_share", "max_quarantine_share_of_behavior", "max_tie_share")


def prepare(run: Run) -> Stage:
    """The log as a run reads it. Its check raises DataError for too many unusable rows, also of what is reused."""
    settings = run.settings
    events = settings.events.model_dump(mode="json", exclude_defaults=True)

    def body(folder: StageFolder, made: Made) -> StageResult:
        # here, because it brings Ray Data, which a plan does without
        from behaviorlm_ray.preparation import passes

        for note in run.inputs.source.notes:
            screen().says(f"prepare: {note}")
        found = passes.prepare_log(preparation_plan(run, folder.output), settings.vocabulary)
        rows = {name: value for name, value in found.counts.items() if isinstance(value, int)}
        facts = found.facts
        warnings = list(found.warnings)
        warnings += [f"{number} rows in quarantine: {reason}" for reason, number in facts.quarantined.items()]
        metrics = {"quarantined": facts.quarantined, "quarantined_of": worst_losses(facts)}
        return StageResult(rows=rows, metrics=metrics, warnings=warnings)

    return Stage(
        name="prepare",
        version=VERSION,
        identity={
            # not where the files lie, nor how many bad rows are tolerated; without keys at their default, so that
            # one that is added later leaves what is finished as it is
            "events": {key: events[key] for key in events if key not in DECIDES_NOTHING},
            "split": plain(settings.split),
            "vocabulary": plain(settings.vocabulary),
            "prompt": {
                key: value for key, value in plain(settings.prompt).items() if key != "profile" or value
            },
            "preparation": plain(settings.preparation),
        },
        inputs={"log": run.inputs.log, "base": run.inputs.base},
        body=body,
        cost=prepare_cost,
        check=lambda prepared: check_quarantined_rows(prepared, settings.events),
        arm=run.arm,
    )


def preparation_plan(run: Run, output: Location) -> PreparationPlan:
    """What the passes over the log are told. output: the folder, local or on S3, that they write."""
    settings = run.settings
    asked = settings.preparation
    size = sum(file.size for file in run.inputs.source.files)
    return PreparationPlan(
        run.inputs.source,
        settings.split,
        settings.prompt,
        settings.model,
        partition_count(size, asked.partition_megabytes, asked.min_partitions),
        output,
        settings.storage.patience_seconds,
        asked.partition_megabytes,
    )


def open_log(prepared: StageOutput, settings: RunSettings) -> PreparedLog:
    """The prepared log of a finished preparation."""
    return PreparedLog(prepared.folder, settings.prompt, settings.few_shot)


def described(prepared: StageOutput, settings: RunSettings) -> list[str]:
    """What was read of the whole log, in lines."""
    return told(open_log(prepared, settings).facts, settings.events)
