"""What a run reads from outside: by what it is known again."""

from pathlib import Path

from behaviorlm_ray.pipeline.inputs import RunInputs
from tests.platform.small_runs import run_settings


def hash_of(folder: Path, *overrides: str) -> str:
    """The hash of the log in a folder."""
    columns = ("events.context_before=[]", "events.context_after=[]")
    settings = run_settings(folder / "runs", folder, folder, overrides=overrides or columns)
    return RunInputs(settings).log


def write(path: Path, content: str) -> None:
    """A file of a log."""
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")


def test_a_log_is_another_one_where_the_names_of_its_folders_say_something_else(tmp_path: Path) -> None:
    content = "user,time,behavior,place\nu,2024-01-01,a,home\n"
    for name in ("one/country=cz", "two/country=cz", "three/country=de"):
        write(tmp_path / name / "log.csv", content)
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    assert hash_of(one) == hash_of(two) == hash_of(three)
    asked = ("events.context_before=[]", "events.context_after=[country]")
    assert hash_of(one, *asked) == hash_of(two, *asked) != hash_of(three, *asked)
