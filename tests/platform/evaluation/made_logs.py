"""Random logs and scores for tests of evaluation."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from behaviorlm.metrics.score_batches import Kept
from behaviorlm.prompts.encoder import PromptConfig, PromptTokens
from behaviorlm.timelines.vocabulary import Vocabulary
from behaviorlm_ray.evaluation.comparison import Comparison, Resampling, compare
from behaviorlm_ray.evaluation.predictors import ArmScores
from behaviorlm_ray.preparation.prepared_log import PreparedLog, gather
from tests.behaviorlm.random_parts import write_part
from tests.platform.evaluation.in_memory import ARMS, GRID, MIXES, samples_of
from tests.platform.score_reading import in_batches


def write_log(
    folder: Path, lengths: list[list[int]], known: Vocabulary, prompt: PromptTokens, unseen: float
) -> PreparedLog:
    """Random timelines; a share of the events is of a behavior that training has not seen."""
    (folder / "parts").mkdir()
    random = np.random.default_rng(3)
    for number, of_part in enumerate(lengths):
        path = folder / "parts" / f"timelines-{number:05d}.arrow"
        write_part(path, number, of_part)
        table = pa.ipc.open_file(path.read_bytes()).read_all()
        names = ["never seen" if random.random() < unseen else name for name in table["behavior"].to_pylist()]
        table = table.set_column(table.column_names.index("behavior"), "behavior", pa.array(names))
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    (folder / "vocabulary.json").write_text(known.to_json())
    (folder / "prompt.json").write_text(prompt.to_json())
    return PreparedLog(folder, PromptConfig())


def made_scores(log: PreparedLog) -> dict[str, dict[str, np.ndarray]]:
    """Scores that lean towards the targets, many of them equal, some -inf."""
    samples, random = samples_of(log), np.random.default_rng(9)
    found: dict[str, dict[str, np.ndarray]] = {}
    for lean, name in enumerate(ARMS):
        found[name] = {}
        for split in ("validation", "test"):
            targets = gather(log, getattr(samples, split), "behavior")
            scores = np.round(random.normal(size=(len(targets), 5)) * 2) / 2
            scores += 0.5 * lean * (np.arange(5) == targets[:, None])
            scores[random.random(scores.shape) < 0.05] = -np.inf
            scores[np.isneginf(scores).all(axis=1), 2] = 0.0
            found[name][split] = scores.astype(np.float32)
    found["untuned"]["without_history"] = random.normal(size=found["untuned"]["test"].shape).astype(
        np.float32
    )
    return found


def streamed(
    log: PreparedLog,
    scores: dict[str, dict[str, np.ndarray]],
    step: int,
    told: Callable[[str, Kept], None] | None = None,
) -> Comparison:
    """The comparison, in batches of so many samples."""
    arms = {}
    for name, of_arm in scores.items():
        alone = of_arm.get("without_history")
        arms[name] = ArmScores(
            in_batches(of_arm["validation"], step, 1),
            in_batches(of_arm["test"], step, 2),
            None if alone is None else alone.__getitem__,
            MIXES.get(name),
        )
    return compare(log, samples_of(log), arms, tau_grid=GRID, resampling=Resampling(60, 4), told=told)
