"""Questions with right and wrong continuations, and the file that holds them: written and checked without torch."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from behaviorlm.errors import DataError
from behaviorlm.files.input_files import open_bytes


@dataclass(frozen=True)
class ClozeQuestion:
    """A prefix and continuations, each with its leading space. Right if the right one scores highest.

    kind: accuracies are reported for each kind too.
    """

    kind: str
    prefix: str
    right: str
    wrong: tuple[str, ...]


def read_cloze(path: str | Path) -> list[ClozeQuestion]:
    """Questions from JSON lines: {"prefix", "right", "wrong": [...]} and optionally "kind".

    Raises DataError naming file, line and what is wrong.
    """
    try:
        with open_bytes(str(path)) as stream:
            lines = stream.read().decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from None
    questions = [
        _question(f"{path}, line {number}", line) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not questions:
        raise DataError(f"{path}: there is no question in it")
    return questions


def write_cloze(path: str | Path, questions: Sequence[ClozeQuestion]) -> int:
    """Write what `read_cloze` reads. Returns the number of questions."""
    text = "".join(json.dumps(asdict(question), ensure_ascii=False) + "\n" for question in questions)
    Path(path).write_text(text, encoding="utf-8")
    return len(questions)


def _question(where: str, line: str) -> ClozeQuestion:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error})") from None
    texts = [found.get("prefix"), found.get("right")] if isinstance(found, dict) else [None]
    wrong = found.get("wrong") if isinstance(found, dict) else None
    if not all(isinstance(text, str) and text for text in texts) or not isinstance(wrong, list) or not wrong:
        raise DataError(
            f'{where}: a question is {{"prefix": text, "right": text, "wrong": [text, ...]}}, got {line[:80]}'
        )
    if not all(isinstance(text, str) and text for text in wrong) or found["right"] in wrong:
        raise DataError(
            f"{where}: wrong continuations must be texts other than the right one, got {wrong!r:.80}"
        )
    return ClozeQuestion(str(found.get("kind", "question")), found["prefix"], found["right"], tuple(wrong))
