"""Second pass of preparation: each part is put in order, split, and its lines and questions tokenized once."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.events.facts import facts_of_users
from behaviorlm.model.base_model import load_tokenizer
from behaviorlm.prompts.encoder import PromptConfig, PromptEncoder
from behaviorlm.timelines.parts import PROFILES, history_starts, history_tokens
from behaviorlm.timelines.profiles import profiles
from behaviorlm.timelines.samples import build_timelines, training_target_counts
from behaviorlm_ray import storage
from behaviorlm_ray.preparation.plan import PreparationPlan
from behaviorlm_ray.preparation.reading import read_part


def build_part(number: int, plan: PreparationPlan) -> dict[str, Any]:
    """Order, split and tokenize the timelines of one part."""
    events = read_part(number, plan)
    report: dict[str, Any] = {"behaviors": {}, "facts": {}, "longest_question": 0, "longest_profile": 0}
    report["history_tokens"] = []
    if events is None:
        return report
    timelines, counts = build_timelines(
        events,
        plan.log.events,
        plan.split,
        plan.prompt.min_history,
        plan.log.events.dataset,
    )
    report["facts"] = facts_of_users(events, timelines, counts).model_dump(mode="json")
    encoder = PromptEncoder(load_tokenizer(plan.model), plan.prompt)
    questions = encoder.encode_questions(timelines)
    timelines = timelines.append_column("line_ids", encoder.encode_lines(timelines))
    timelines = timelines.append_column("question_ids", questions)
    if plan.prompt.profile:
        timelines = timelines.append_column(PROFILES, _profiles(timelines, encoder))
        longest = pc.max(pc.list_value_length(timelines[PROFILES])).as_py()
        report["longest_profile"] = int(longest or 0)
    timelines = timelines.combine_chunks()
    with (
        storage.writing_file(plan.folder / "parts" / f"timelines-{number:05d}.arrow") as path,
        pa.ipc.new_file(str(path), timelines.schema) as writer,
    ):
        writer.write_table(timelines)
    report["behaviors"] = training_target_counts(timelines)
    report["longest_question"] = int(pc.max(pc.list_value_length(questions)).as_py() or 0)
    report["history_tokens"] = _history_tokens(timelines, plan.prompt)
    return report


def _profiles(timelines: pa.Table, encoder: PromptEncoder) -> pa.Array:
    """The profile before each row at which windows may begin, encoded: list<int32>."""
    config, names = encoder.config, timelines["behavior"].to_pylist()
    found = profiles(names, history_starts(timelines), config.stride, config.profile)
    return pa.array(encoder.encode_profiles(found), pa.list_(pa.int32()))


def _history_tokens(timelines: pa.Table, prompt: PromptConfig) -> list[list[int]]:
    """[tokens, samples] for each length of history that samples have before the model's room is known."""
    lengths = pc.list_value_length(timelines["line_ids"]).to_numpy().astype(np.int64)
    tokens = history_tokens(history_starts(timelines), lengths, prompt.max_events, prompt.stride)
    found, counts = np.unique(tokens[timelines["is_target"].to_numpy()], return_counts=True)
    return np.stack([found, counts], axis=1).tolist()
