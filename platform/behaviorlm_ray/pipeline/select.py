"""The stage `select`: the balanced subset for B-Tuning, by difficulty."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behaviorlm.selection.difficulty import align_judges
from behaviorlm.selection.quotas import quotas
from behaviorlm.selection.quotas import select as select_by_difficulty
from behaviorlm_ray import storage
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run, plain
from behaviorlm_ray.pipeline.score import DIFFICULTY, score, scored_rows
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.tune import SELECTION
from behaviorlm_ray.preparation.prepared_log import PreparedLog, gather
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.stage import Made, Stage

VERSION = 1

SUMMARY = "selection.json"


def select(run: Run) -> Stage:
    """Writes the chosen samples and a summary by behavior."""
    settings = run.settings
    return Stage(
        name="select",
        version=VERSION,
        identity={"selection": plain(settings.selection), "measure": settings.difficulty.measure},
        inputs={"prepared": prepare(run), "score": score(run)},
        body=lambda folder, made: select_samples(folder, made, settings),
        arm=run.arm,
    )


def select_samples(folder: StageFolder, made: Made, settings: RunSettings) -> StageResult:
    """Choose from the scored samples."""
    vocabulary = open_log(made["prepared"], settings).vocabulary
    names = list(vocabulary.names)
    table = pq.read_table(storage.local_copy(made["score"].folder / DIFFICULTY))
    behavior = table["behavior"].to_numpy()
    difficulty = ordering(table, settings.difficulty.measure)
    chosen, report = select_by_difficulty(
        table["sample_id"], behavior, difficulty, vocabulary.is_anchor, names, settings.selection
    )
    with storage.writing_file(folder.output / SELECTION) as path:
        pq.write_table(table.filter(pa.array(chosen)), path)
    summary = report.to_dict(names)
    for index, name in enumerate(names):
        members = chosen & (behavior == index)
        mean = float(difficulty[members].mean()) if members.any() else None
        summary["behaviors"][name]["mean_difficulty"] = mean
    storage.write_replacing(folder.output / SUMMARY, json.dumps(summary, indent=1).encode())
    warnings = (
        [f"the selection is {report.shortfall} samples short of {report.requested}"]
        if report.shortfall
        else []
    )
    anchors = int(vocabulary.is_anchor[behavior[chosen]].sum())
    rows = {"samples": report.selected, "anchors": anchors, "tail": report.selected - anchors}
    return StageResult(rows=rows, warnings=warnings)


def ordering(table: pa.Table, measure: str) -> np.ndarray:
    """A measure of a table of difficulty, float64[n], comparable among the samples of a behavior: `align_judges` where
    each half of the samples had its own.
    """
    values = table[measure].to_numpy().astype(np.float64)
    if "judge" not in table.column_names:
        return values
    return align_judges(values, table["behavior"].to_numpy(), table["judge"].to_numpy())


def selected_samples(log: PreparedLog, settings: RunSettings) -> int:
    """How many samples the selection takes. Scores decide which, not how many. Raises DataError as `quotas` does."""
    names = list(log.vocabulary.names)
    counts = np.bincount(gather(log, scored_rows(log, settings), "behavior"), minlength=len(names))
    return int(quotas(counts, log.vocabulary.is_anchor, names, settings.selection).sum())
