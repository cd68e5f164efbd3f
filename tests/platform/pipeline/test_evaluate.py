"""What `evaluate` reads of a finished prediction: scores by sample, and those of questions that samples share."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behaviorlm.prompts.config import PromptConfig
from behaviorlm_ray import storage
from behaviorlm_ray.evaluation.samples import EvaluatedSamples
from behaviorlm_ray.pipeline.evaluate import arm_scores
from behaviorlm_ray.pipeline.predict import SCORES, WITHOUT_HISTORY
from behaviorlm_ray.preparation.prepared_log import PreparedLog, count, distinct_questions
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.manifests import FileRecord, Manifest
from tests.behaviorlm.random_parts import prompt_tokens, vocabulary, write_part


def write_windows(folder: Path, windows: list[tuple[int, np.ndarray]], scores: np.ndarray) -> None:
    """One file for each window, the last window first."""
    folder.mkdir()
    ends = np.cumsum([len(rows) for _, rows in windows])
    for name, ((part, rows), end) in enumerate(reversed(list(zip(windows, ends, strict=True)))):
        columns = {
            "part": [part],
            "rows": [rows.tolist()],
            "label_scores": pa.array([scores[end - len(rows) : end].ravel()], pa.list_(pa.float32())),
        }
        pq.write_table(pa.table(columns), folder / f"windows-{name}.parquet")


def test_each_sample_gets_the_scores_of_its_own_question(tmp_path: Path) -> None:
    (tmp_path / "log" / "parts").mkdir(parents=True)
    for number in range(2):
        write_part(tmp_path / "log" / "parts" / f"timelines-{number:05d}.arrow", number, [40, 30])
    (tmp_path / "log" / "vocabulary.json").write_text(vocabulary().to_json())
    (tmp_path / "log" / "prompt.json").write_text(prompt_tokens(0).to_json())
    log = PreparedLog(tmp_path / "log", PromptConfig())
    samples = EvaluatedSamples([np.arange(3, 9)] * 2, [np.arange(12, 60)] * 2)
    random = np.random.default_rng(0)
    behaviors = len(log.vocabulary)
    folder = tmp_path / "predicted"
    folder.mkdir()
    both = [np.union1d(*rows) for rows in zip(samples.validation, samples.test, strict=True)]
    scores = random.normal(size=(count(both), behaviors)).astype(np.float32)
    write_windows(folder / SCORES, list(enumerate(both)), scores)

    questions = [log.parts[part].questions[row] for part, rows in enumerate(samples.test) for row in rows]
    found, which = distinct_questions(log, samples.test)
    number = len(found.lengths())
    assert number < len(questions) == len(which), "questions are shared"
    assert all(np.array_equal(found[place], of) for place, of in zip(which, questions, strict=True))
    alone = random.normal(size=(number, behaviors)).astype(np.float32)
    chunks = np.array_split(np.arange(number), min(3, number))

    def read(*folders: str, **config: str) -> StageOutput:
        names = [f"{one}/{name}" for one in folders for name in storage.list_files(folder / one)]
        files = {name: FileRecord(bytes=1, sha256="") for name in names}
        manifest = Manifest(
            stage="predict_untuned",
            version=1,
            fingerprint="",
            attempt="one",
            config=config,
            inputs={},
            files=files,
            rows={},
            metrics={},
            warnings=[],
            versions={},
            started="",
            duration_seconds=0.0,
            cost={},
        )
        return StageOutput(manifest, folder, False)

    assert arm_scores(read(SCORES), log, samples).without_history is None
    assert arm_scores(read(SCORES), log, samples).counts_tokens
    assert not arm_scores(read(SCORES, normalization="trie"), log, samples).counts_tokens
    write_windows(folder / WITHOUT_HISTORY, [(0, chunk) for chunk in chunks], alone)
    of_arm = arm_scores(read(SCORES, WITHOUT_HISTORY), log, samples)
    assert of_arm.without_history is not None
    places = random.permutation(len(questions))
    assert np.array_equal(of_arm.without_history(places), alone[which[places]])
    of_test = np.concatenate([np.isin(rows, chosen) for rows, chosen in zip(both, samples.test, strict=True)])
    whole = np.empty((len(questions), behaviors), np.float32)
    for batch in of_arm.test():
        whole[batch.places] = batch.label_scores
    assert np.array_equal(whole, scores[of_test])
