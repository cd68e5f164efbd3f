"""Running a study: every cell that has no record yet, one after another, stages shared as always."""

from pathlib import Path

from behaviorlm_lab.study.cells import cell_settings, make_files, planned_cells, records_folder, study_folder
from behaviorlm_lab.study.provenance import check_same_making, provenance
from behaviorlm_lab.study.records import existing_records, making, record_of, record_path, write_record
from behaviorlm_lab.study.settings import StudySettings
from behaviorlm_ray.pipeline.input_checks import check_inputs
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.stages.run_record import RunRecord


def run_study(study: StudySettings) -> Path:
    """Run what is missing. Returns the folder of the records.

    Raises ConfigError for records that were made with other settings, and what a run raises, naming the cell by a note.
    """
    records = records_folder(study)
    wanted = planned_cells(study)
    check_records(study)
    for number, cell in enumerate(wanted, 1):
        if record_path(records, cell).exists():  # asked each time: another process may share the work
            continue
        print(f"cell {number} of {len(wanted)}: {cell.name}", flush=True)
        try:
            make_files(study, cell)
            run = open_run(cell_settings(study, cell))
            check_inputs(run, is_written=True)
            runner = run.runner(RunRecord(study_folder(study)))
            written = write_record(records, cell, record_of(run, runner, study, cell))
        except Exception as error:
            error.add_note(f"in cell {cell.name}; run the same command again to go on")
            raise
        print(f"wrote {written}", flush=True)
    return records


def plan_study(study: StudySettings) -> list[str]:
    """What would run. Raises ConfigError with the problems of any cell's configuration, and for records that were made
    with other settings.
    """
    records = records_folder(study)
    lines = [f"study {study.name}: plan (nothing was run or written)", "", "cells"]
    for cell in planned_cells(study):
        arms = ", ".join(cell_settings(study, cell).evaluation.arms)
        state = "has a record" if record_path(records, cell).exists() else "to run"
        lines.append(f"  {cell.name}: {state}; {arms}")
    check_records(study)
    return [*lines, "", f"output: {records}"]


def check_records(study: StudySettings) -> None:
    """Refuse records that were made with other settings than the planned cells would be. Raises ConfigError."""
    planned = [
        ("this study", cell.kind, provenance(cell_settings(study, cell), study))
        for cell in planned_cells(study)
    ]
    check_same_making([*planned, *making(existing_records(records_folder(study)))])
