"""The stage `ask`: what a chat model behind an endpoint says of validation and test samples, as label scores."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from behaviorlm_ray import storage
from behaviorlm_ray.endpoints.answers import Heard, Names, ranked_scores, ranking_of, token_scores
from behaviorlm_ray.endpoints.asking import Asked, ask_all
from behaviorlm_ray.endpoints.prompts import ChatPrompts, asked_samples
from behaviorlm_ray.endpoints.requests import Answered, Endpoint
from behaviorlm_ray.endpoints.settings import EndpointSettings
from behaviorlm_ray.evaluation.samples import EvaluatedSamples
from behaviorlm_ray.pipeline.predict import SCORES, evaluated_samples
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, count, drawn_order, limit_rows
from behaviorlm_ray.scoring.kept_scores import write_scores
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.stage import Made, Stage

VERSION = 1

HEARD = "heard.json"
"""What the answers were like and what they cost."""
WINDOW = 256
"""Samples of a row of a file of scores at most (our choice)."""


def ask(run: Run, name: str) -> Stage:
    """Asks every sample once; label scores in files as `predict` writes them."""
    settings, evaluation = run.settings, run.settings.evaluation
    return Stage(
        name="ask",
        version=VERSION,
        identity={
            "endpoint": evaluation.endpoints[name].asked,
            "max_samples": evaluation.max_samples,
            "max_validation_samples": evaluation.max_validation_samples,
            "seed": evaluation.seed,
            **run.few_shot_identity,
        },
        inputs={"prepared": prepare(run)},
        body=lambda folder, made: _ask(folder, made, settings, name),
        arm=name,
    )


def asked_of(log: PreparedLog, settings: RunSettings, name: str) -> EvaluatedSamples:
    """The samples that an endpoint is asked about, of those that models are measured on."""
    of, seed, every = (
        settings.evaluation.endpoints[name],
        settings.evaluation.seed,
        evaluated_samples(log, settings),
    )
    return EvaluatedSamples(
        limit_rows(log, every.validation, of.max_validation_samples, seed),
        limit_rows(log, every.test, of.max_samples, seed),
    )


def _ask(folder: StageFolder, made: Made, settings: RunSettings, name: str) -> StageResult:
    log, of = open_log(made["prepared"], settings), settings.evaluation.endpoints[name]
    samples = asked_of(log, settings, name)
    prompts = ChatPrompts(log, of)
    places, groups = [], []
    for group, rows in (("validation", samples.validation), ("test", samples.test)):
        every = asked_samples(rows)
        # in the order in which fewer samples would be drawn: where a cap ends it, what is answered is of use
        places += [every[place] for place in drawn_order(log, rows, settings.evaluation.seed)]
        groups += [group] * len(every)
    chats = [prompts.of(part, row) for part, row in places]
    asked = ask_all(name, Endpoint(of), chats, settings.storage.place, groups)
    scores, heard = read_answers(asked.answers, of, log.vocabulary.names)
    _write(folder, log, places, scores)
    told = {"heard": asdict(heard), **_told(asked, of, samples)}
    storage.write_replacing(folder.output / HEARD, json.dumps(told, indent=1).encode())
    rows_told = {"test": count(samples.test), "validation": count(samples.validation)}
    cost = {"tokens": asked.spent.tokens, "requests": asked.requests, "money": asked.spent.money}
    return StageResult(
        rows=rows_told, metrics=told, warnings=_warnings(name, heard, of, len(log.vocabulary)), cost=cost
    )


def read_answers(
    answers: Sequence[Answered], settings: EndpointSettings, vocabulary: Sequence[str]
) -> tuple[np.ndarray, Heard]:
    """Label scores float32[n, K] of answers, and what they were like."""
    names, heard = Names(vocabulary), Heard()
    scores = np.empty((len(answers), len(names)), np.float32)
    for place, answered in enumerate(answers):
        if settings.answer == "logprobs":
            scores[place], one = token_scores(answered.steps or [], names)
        else:
            ranking, one = ranking_of(answered.text, names)
            scores[place] = ranked_scores(ranking, len(names))
        heard += one + Heard(cut=int(answered.is_cut))
    return scores, heard


def _told(asked: Asked, settings: EndpointSettings, samples: EvaluatedSamples) -> dict[str, object]:
    money = {} if settings.prices is None else {"cost": asked.spent.money, "cost_lost": asked.lost.money}
    return {
        "model": settings.model,
        "answer": settings.answer,
        "examples": settings.examples,
        "samples": {"validation": count(samples.validation), "test": count(samples.test)},
        "questions": asked.questions,
        "kept_from_before": asked.kept,
        "requests": asked.requests,
        "tokens": {"prompts": asked.spent.prompt, "answers": asked.spent.answer, "lost": asked.lost.tokens},
        **money,
    }


def _warnings(name: str, heard: Heard, settings: EndpointSettings, behaviors: int) -> list[str]:
    found = []
    if heard.without or heard.outside:
        found.append(
            f"{name}: {heard.without} of {heard.answers} answers name no behavior of the vocabulary, and "
            f"{heard.outside} of {heard.named + heard.repeated + heard.outside} named things are none"
        )
    if heard.cut:
        found.append(f"{name}: {heard.cut} answers were cut off; raise the limit on them in parameters")
    if settings.listed < behaviors:
        found.append(f"{name}: its prompt lists {settings.listed} of {behaviors} behaviors (listed)")
    return found


def _write(
    folder: StageFolder, log: PreparedLog, places: Sequence[tuple[int, int]], scores: np.ndarray
) -> None:
    """One file for each part: rows ascending, cut into windows."""
    part, row = np.array(places, np.int64).reshape(-1, 2).T
    for number in np.unique(part).tolist():
        members = np.flatnonzero(part == number)
        members = members[np.argsort(row[members])]
        windows = np.split(members, np.arange(WINDOW, len(members), WINDOW))
        table = pa.table(
            {
                "part": pa.array([number] * len(windows), pa.int64()),
                "rows": pa.array([row[of] for of in windows], pa.list_(pa.int64())),
                "label_scores": pa.array([scores[of].ravel() for of in windows], pa.list_(pa.float32())),
            }
        )
        with storage.writing_file(folder.output / SCORES / f"windows-{number:05d}.parquet") as path:
            write_scores(path, table, f"ask, {folder.stage}", 0)
