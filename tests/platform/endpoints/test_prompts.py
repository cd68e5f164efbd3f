"""What an endpoint reads is what the product's prompts say, token by token decoded again; examples; the list."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behaviorlm.model.base_model import load_tokenizer
from behaviorlm_ray.endpoints.prompts import ChatPrompts
from behaviorlm_ray.endpoints.settings import EndpointSettings
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import open_run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.prepared_log import PreparedLog, rows_of_split
from tests.platform.small_runs import log_rows, run_settings, write_log


def prepared(folder: Path, base: Path, *overrides: str) -> tuple[PreparedLog, RunSettings]:
    """A small log, in this process."""
    path = write_log(folder / "log.csv", log_rows(5))
    settings = run_settings(folder / "runs", base, path, overrides=overrides)
    run = open_run(settings)
    return open_log(run.runner().run(prepare(run)), settings), settings


@pytest.mark.parametrize("overrides", [(), ("prompt.profile=2",)])
def test_the_user_turn_is_the_products_own_prompt_decoded(
    overrides: tuple[str, ...], small_base: Path, tmp_path: Path
) -> None:
    log, settings = prepared(tmp_path, small_base, *overrides)
    tokenizer = load_tokenizer(settings.model)
    prompts = ChatPrompts(log, EndpointSettings(url="http://host", model="small"))
    profiles = 0
    for number, part in enumerate(log.parts):
        for row in part.targets("test").tolist():
            lines = part.lines.values[part.lines.offsets[part.window_start[row]] : part.lines.offsets[row]]
            profile = part.profiles[int(part.profile_row[row])]
            profiles += len(profile) > 0
            ids = [*profile, *lines, *part.questions[row]]
            told = str(tokenizer.decode([int(token) for token in ids])).partition("<|im_end|>")[0]
            system, user = prompts.of(number, row)
            assert (user["role"], user["content"]) == ("user", told)
            assert system == {"role": "system", "content": prompts.system}
    assert (profiles > 0) == bool(overrides)


def test_the_list_holds_the_most_frequent_behaviors_and_examples_are_training_samples(
    small_base: Path, tmp_path: Path
) -> None:
    log, _ = prepared(tmp_path, small_base, "few_shot.tail_samples=1")
    names = list(log.vocabulary.names)

    def system(**keys: Any) -> str:
        return ChatPrompts(log, EndpointSettings(url="http://host", model="small", **keys)).system

    assert "\n".join(names) + "\n\nAnswer with the 8 behaviors" in system()
    assert "\n".join(names[:3]) + "\n\n" in system(listed=3, ranked=2) and "the 2 behaviors" in system(
        ranked=2
    )
    with_examples = system(examples=1000)
    used = sum(map(len, rows_of_split(log, "train")))
    shown = with_examples.partition("what came next:\n\n")[2].rpartition("\n\n")[0].split("\n\n")
    assert len(shown) == used < sum(int((part.split == 0).sum()) for part in log.parts)
    came = [example.splitlines()[-1].partition(": ")[2] for example in shown]
    trained = [
        log.vocabulary.names[part.behavior[row]]
        for part, rows in zip(log.parts, rows_of_split(log, "train"), strict=True)
        for row in rows
    ]
    assert sorted(came) == sorted(trained)
    assert with_examples == system(examples=1000) != system(examples=1000, seed=1)
    assert shown[:3] == system(examples=3).partition("what came next:\n\n")[2].split("\n\n")[:3]
    assert np.unique(shown).size > 1
