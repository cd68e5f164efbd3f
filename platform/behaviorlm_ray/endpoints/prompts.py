"""What a chat model behind an endpoint reads: the text of a sample's prompt, and the list of behaviors.

History lines, profile, question and instruction are those of the product's prompts (`prompts.rendering`); the list, the
examples and how to answer are put in words here (our choice).
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from behaviorlm.prompts.config import rendered_text
from behaviorlm.prompts.rendering import line_texts, profile_texts, question_texts
from behaviorlm.timelines.profiles import profile_of
from behaviorlm_ray.endpoints.settings import EndpointSettings
from behaviorlm_ray.preparation.prepared_log import (
    PreparedLog,
    SampleRows,
    count,
    rows_of_split,
    timelines_of,
)

Message = dict[str, str]
"""role, content."""

_SHOWN = ("behavior", "before.", "after.")
_RANKING = (
    "Answer with the {ranked} behaviors that are most likely next, the most likely first, each on a line of its own "
    "and written exactly as in the list, and with nothing else."
)
_ONE = "Answer with the one behavior that is most likely next, written exactly as in the list, and with nothing else."


class ChatPrompts:
    """Messages for the samples of a prepared log."""

    def __init__(self, log: PreparedLog, settings: EndpointSettings) -> None:
        self._log, self._settings = log, settings

    def of(self, part: int, row: int) -> list[Message]:
        """The chat of one sample: a row of a part."""
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": self._asked(part, row)},
        ]

    @cached_property
    def system(self) -> str:
        """The instruction, the list, examples, and how to answer; the same in every prompt."""
        settings = self._settings
        names = [listed_name(name) for name in self._log.vocabulary.names[: settings.listed]]
        ranked = min(settings.ranked, len(self._log.vocabulary))
        answer = _RANKING.format(ranked=ranked) if settings.answer == "ranking" else _ONE
        pieces = [self._log.prompt_config.instruction, "The behaviors are:\n" + "\n".join(names)]
        examples = list(self._examples())
        if examples:
            pieces.append("Examples, each with what came next:\n\n" + "\n\n".join(examples))
        return "\n\n".join([*pieces, answer])

    def _examples(self) -> Iterator[str]:
        """Drawn among the training samples that tuning may use, few shots or not."""
        rows = rows_of_split(self._log, "train")
        drawn = np.random.default_rng([self._settings.seed, 13]).permutation(count(rows))
        starts = np.cumsum([0, *map(len, rows)])
        for place in drawn[: self._settings.examples].tolist():
            part = int(np.searchsorted(starts, place, side="right")) - 1
            row = int(rows[part][place - starts[part]])
            name = self._log.vocabulary.names[self._log.parts[part].behavior[row]]
            yield f"{self._asked(part, row)}{self._log.prompt_config.name_prefix}{rendered_text(name)}"

    def _asked(self, number: int, row: int) -> str:
        """Profile, history and question of a sample."""
        part, prompt = self._log.parts[number], self._log.prompt_config
        start = int(part.window_start[row])
        columns = [name for name in part.table.column_names if name.startswith(_SHOWN)]
        events = part.table.select(columns).slice(start, row - start + 1)
        lines = zip(
            *(of.to_pylist() for of in line_texts(events.slice(0, row - start), prompt.name_prefix)),
            strict=True,
        )
        question = question_texts(events.slice(row - start)).to_pylist()[0]
        return self._profile(number, row) + "".join(map("".join, lines)) + question

    def _profile(self, number: int, row: int) -> str:
        part, prompt = self._log.parts[number], self._log.prompt_config
        if not prompt.profile:
            return ""
        table, shift = timelines_of(self._log, number)
        of_history = "session_position" if "session_position" in table.column_names else "position"
        begin = row - part.table[of_history][row].as_py()
        behaviors = table["behavior"].slice(begin + shift, int(part.profile_row[row]) - begin).to_pylist()
        return (
            "".join(profile_texts(found, prompt.name_prefix))
            if (found := profile_of(behaviors, prompt.profile))
            else ""
        )


def listed_name(name: str) -> str:
    """A behavior's name as the list has it, and as answers are read."""
    return rendered_text(name).strip()


def asked_samples(rows: SampleRows) -> list[tuple[int, int]]:
    """(part, row) of every chosen sample, parts one after another."""
    return [(number, row) for number, chosen in enumerate(rows) for row in chosen.tolist()]
