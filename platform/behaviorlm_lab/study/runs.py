"""Running a study: every condition and seed that has no record yet, one after another, stages shared as always."""

from collections.abc import Mapping
from pathlib import Path

from behaviorlm_lab.study.conditions import make_files, study_files
from behaviorlm_lab.study.provenance import check_same_making, provenance
from behaviorlm_lab.study.records import existing_records, has_record, record_of, write_record
from behaviorlm_lab.study.settings import StudySettings, seeds_of, study_run
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings, with_absolute_paths
from behaviorlm_ray.stages.run_record import RunRecord


def run_study(study: StudySettings) -> Path:
    """Run what is missing. Returns the folder of the records.

    Raises ConfigError for records that were made with other settings, and what a run raises, naming the run by a note.
    """
    folder = study_folder(study)
    records = folder / "records"
    wanted = planned_runs(study)
    check_records(study)
    for number, (condition, seed) in enumerate(wanted, 1):
        if has_record(records, condition, seed):  # asked each time: another process may share the work
            continue
        print(f"run {number} of {len(wanted)}: {condition}, seed {seed}", flush=True)
        make_files(study, folder, study.conditions[condition], seed)
        try:
            run = open_run(_settings(study, condition, seed))
            check_inputs(run, is_written=True)
            check_records(study, {condition: run.inputs.base})
            runner = run.runner(RunRecord(folder))
            written = write_record(records, record_of(run, runner, study, condition, seed))
        except Exception as error:
            error.add_note(f"in condition {condition}, seed {seed}; run the same command again to go on")
            raise
        print(f"wrote {written}", flush=True)
    return records


def plan_study(study: StudySettings) -> list[str]:
    """What would run. Raises ConfigError with the problems of a run's configuration under any condition, and for
    records that were made with other settings.
    """
    records = study_folder(study) / "records"
    lines = [f"study {study.name}: plan (nothing was run or written)", "", "runs"]
    for condition, seed in planned_runs(study):
        settings = _settings(study, condition, seed)
        state = "has a record" if has_record(records, condition, seed) else "to run"
        lines.append(f"  {condition}, seed {seed}: {state}; {', '.join(settings.evaluation.arms)}")
    check_records(study)
    return [*lines, "", f"output: {records}"]


def check_records(study: StudySettings, bases: Mapping[str, str] | None = None) -> None:
    """Refuse records that were made with other settings than the planned runs would be. Raises ConfigError.

    bases: fingerprint of the base of a condition, as far as it is known.
    """
    known = bases or {}
    planned = {}
    for condition, seed in planned_runs(study):
        made = provenance(_settings(study, condition, seed), study, condition, known.get(condition))
        planned[f"this study's {condition}"] = {"condition": condition, "made": made}
    records = existing_records(study_folder(study) / "records")
    check_same_making([*planned.items(), *((str(path), record) for path, record in records.items())])


def planned_runs(study: StudySettings) -> list[tuple[str, int]]:
    """(condition, seed): seeds of the main result first, then the other conditions."""
    chosen = study.conditions if study.only is None else study.only
    return [(condition, seed) for condition in chosen for seed in seeds_of(study, condition)]


def study_folder(study: StudySettings) -> Path:
    """<root>/<name>, absolute."""
    return Path(study.root).expanduser().absolute() / study.name


def _settings(study: StudySettings, condition: str, seed: int) -> RunSettings:
    files = study_files(study, study_folder(study), study.conditions[condition], seed)
    return with_absolute_paths(study_run(study, condition, seed, {"storage.root": study.root, **files}))
