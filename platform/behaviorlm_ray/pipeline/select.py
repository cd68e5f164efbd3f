"""The stages `select`, the balanced subset for B-Tuning, by difficulty, and `draw`, one of the same mix at random."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from behaviorlm.files.data_only import data_only
from behaviorlm.selection.difficulty import align_judges
from behaviorlm.selection.quotas import quotas
from behaviorlm.selection.quotas import select as select_by_difficulty
from behaviorlm.timelines.sample_ids import id_column
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


def drawn(run: Run) -> Stage:
    """Writes the samples that `select` takes where `selection.within` is random, and the same summary."""
    settings = run.settings
    limits = settings.difficulty
    at_random = settings.selection.model_copy(update={"within": "random"})
    return Stage(
        name="draw",
        version=VERSION,
        identity={
            "selection": plain(at_random),
            "limits": {"max_per_behavior": limits.max_per_behavior, "seed": limits.seed},
            **run.few_shot_identity,
        },
        inputs={"prepared": prepare(run)},
        body=lambda folder, made: _draw(folder, made, settings.model_copy(update={"selection": at_random})),
        arm=run.arm,
    )


def _draw(folder: StageFolder, made: Made, settings: RunSettings) -> StageResult:
    log = open_log(made["prepared"], settings)
    rows = scored_rows(log, settings)
    ids = id_column(gather(log, rows, "sample_id"))
    table = pa.table({"sample_id": ids, "behavior": gather(log, rows, "behavior")})
    return _write(folder, table, None, log, settings)


def select_samples(folder: StageFolder, made: Made, settings: RunSettings) -> StageResult:
    """Choose from the scored samples."""
    place = made["score"].folder / DIFFICULTY
    table = data_only(pq.ParquetFile(storage.local_copy(place)), place).read()
    difficulty = ordering(table, settings.difficulty.measure)
    return _write(folder, table, difficulty, open_log(made["prepared"], settings), settings)


def _write(
    folder: StageFolder,
    table: pa.Table,
    difficulty: np.ndarray | None,
    log: PreparedLog,
    settings: RunSettings,
) -> StageResult:
    """What is chosen of a table of samples (sample_id, behavior), and the summary. difficulty: float64[n]; None: at
    random.
    """
    vocabulary = log.vocabulary
    names = list(vocabulary.names)
    behavior = table["behavior"].to_numpy()
    chosen, report = select_by_difficulty(
        table["sample_id"],
        behavior,
        np.zeros(len(table)) if difficulty is None else difficulty,
        vocabulary.is_anchor,
        names,
        settings.selection,
    )
    with storage.writing_file(folder.output / SELECTION) as path:
        pq.write_table(table.filter(pa.array(chosen)), path)
    summary = report.to_dict(names)
    for index, name in enumerate(names):
        members = chosen & (behavior == index)
        mean = None if difficulty is None or not members.any() else float(difficulty[members].mean())
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


def selected_samples(log: PreparedLog, settings: RunSettings) -> NDArray[np.int64]:
    """How many samples of each behavior the selection takes, int64[K]. Scores decide which, not how many. Raises
    DataError as `quotas` does.
    """
    names = list(log.vocabulary.names)
    counts = np.bincount(gather(log, scored_rows(log, settings), "behavior"), minlength=len(names))
    return quotas(counts, log.vocabulary.is_anchor, names, settings.selection)
