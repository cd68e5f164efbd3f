"""Behaviors that would vanish in the quarantine, and splits that a column gives: refused or told, by name."""

import io
from pathlib import Path

import pandas as pd
import pytest

from behaviorlm.errors import DataError
from behaviorlm.events.summary import check_quarantined_behaviors, doubts, summary, worst_losses
from behaviorlm.timelines.config import SplitConfig
from tests.behaviorlm.events.field.field_logs import mapping, read_facts, read_log, written

HEAD = "user,action,time\n"


def log(common: int, rare: list[str], bad: int, time: str = "31.05.2024") -> str:
    """`common` rows of one behavior, and a rare one of which the last `bad` rows cannot be read."""
    times = [
        f"2024-01-01T00:00:{index:02d}" if index < len(rare) - bad else time for index in range(len(rare))
    ]
    rows = [
        f"u{index % 9},open,2024-01-02T00:{index // 60:02d}:{index % 60:02d}\n" for index in range(common)
    ]
    return HEAD + "".join(rows) + "".join(f"u1,{name},{at}\n" for name, at in zip(rare, times, strict=True))


@pytest.mark.parametrize(
    ("rows", "bad", "is_refused"),
    [
        (3, 3, True),
        (2, 2, True),
        (4, 3, True),
        (4, 2, False),
        (3, 2, True),
        (1, 1, False),
        (40, 20, False),
        (40, 21, True),
    ],
)
def test_a_behavior_that_loses_more_than_half_of_its_own_rows_is_refused(
    tmp_path: Path, rows: int, bad: int, is_refused: bool
) -> None:
    text = log(3000, ["cancel order"] * rows, bad)
    config = mapping(written(tmp_path, {"log.csv": text}))
    facts = read_facts(config)
    read = pd.read_csv(io.StringIO(text))
    readable = pd.to_datetime(read["time"], format="%Y-%m-%dT%H:%M:%S", errors="coerce").notna()
    of_it = read["action"] == "cancel order"
    assert facts.lost_behaviors == {"cancel order": ((of_it & ~readable).sum(), of_it.sum())}
    if is_refused:
        with pytest.raises(
            DataError,
            match=rf"'cancel order': {bad} of {rows} rows\. Each is listed .*quarantine table.*raise the share",
        ):
            check_quarantined_behaviors(worst_losses(facts), config)
        allowed = mapping(tmp_path, max_quarantine_share_of_behavior=1)
        check_quarantined_behaviors(worst_losses(facts), allowed)
    else:
        check_quarantined_behaviors(worst_losses(facts), config)
    gone = any("all of whose rows are in quarantine: 'cancel order'" in doubt for doubt in doubts(facts))
    assert gone == (bad == rows)


def test_a_behavior_that_is_not_utf_8_is_lost_by_its_damaged_name(tmp_path: Path) -> None:
    folder = written(tmp_path, {"log.csv": log(900, ["caf\u00e9"] * 3, 0).encode("latin-1")})
    facts = read_facts(mapping(folder))
    assert facts.quarantined == {"not UTF-8": 3} and facts.quarantined_of == {"caf\ufffd": 3}
    with pytest.raises(DataError, match=r"a behavior loses more .*'caf\ufffd': 3 of 3 rows"):
        check_quarantined_behaviors(worst_losses(facts), mapping(folder))


def test_headers_between_files_laid_one_after_another_are_no_lost_behavior(tmp_path: Path) -> None:
    text = log(300, ["open"] * 3, 0)
    config = mapping(written(tmp_path, {"log.csv": text * 3}))
    facts = read_facts(config)
    assert facts.quarantined == {"repeated header": 2} and not facts.quarantined_of
    read = pd.read_csv(io.StringIO(text))
    assert facts.behaviors == {"open": 3 * len(read)}
    check_quarantined_behaviors(worst_losses(facts), config)


def test_an_over_long_behavior_is_lost_and_refused(tmp_path: Path) -> None:
    name = "write a review of " * 9
    facts = read_facts(mapping(written(tmp_path, {"log.csv": log(900, [name] * 4, 0)})))
    with pytest.raises(DataError, match=r"'write a review of .*': 4 of 4 rows"):
        check_quarantined_behaviors(worst_losses(facts), mapping(tmp_path))


def test_the_quarantine_is_told_by_reason_with_an_example_and_by_behavior(tmp_path: Path) -> None:
    text = log(900, ["cancel order"] * 3, 3) + ",open,2024-01-01\nu1,open,soon\nu1\n"
    config = mapping(written(tmp_path, {"log.csv": text}))
    told = summary(read_facts(config), config)["quarantine"]
    path = tmp_path / "log.csv"
    assert told == (
        f"6 (0.66%) cannot be used: unreadable time: 4 (such as '31.05.2024' in {path}, row 901); empty user: 1 (such "
        f"as nothing in {path}, row 904); malformed row: 1 (such as '1 columns, not 3: u1' in {path}, row 906); "
        "by behavior "
        "'cancel order' 3 of 3; 'open' 2 of 902"
    )
    listed = read_log(config)[2].to_pylist()
    assert {(row["row"], row["behavior"]) for row in listed} == {
        (901, "cancel order"), (902, "cancel order"), (903, "cancel order"), (904, "open"), (905, "open"), (906, None),
    }  # fmt: skip


@pytest.mark.parametrize("word", ["val", "valid", "dev", "Validation", " VAL ", "development"])
def test_any_word_for_validation_is_validation(tmp_path: Path, word: str) -> None:
    rows = [
        (f"u{user}", f"a{index % 3}", f"2024-01-{index + 1:02d}") for user in range(4) for index in range(9)
    ]
    table = pd.DataFrame(rows, columns=["user", "action", "time"])
    table["part"] = ["train"] * 6 + [word] * 2 + ["test"] + (["Training"] * 7 + ["TEST"] * 2) * 3
    folder = written(tmp_path, {"log.csv": table.to_csv(index=False)})
    counts = read_facts(mapping(folder, split_column="part"), SplitConfig(by="column")).counts
    labels = table["part"].str.strip().str.lower()
    assert counts["train_events"] == labels.isin(["train", "training"]).sum()
    assert (counts["validation_events"], counts["test_events"]) == (2, (labels == "test").sum())


def test_a_split_that_stays_empty_is_told(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"user": ["a", "b"] * 6, "action": ["x", "y", "z"] * 4, "time": range(12), "part": "train"}
    )
    folder = written(tmp_path, {"log.csv": table.to_csv(index=False)})
    config = mapping(folder, order={"column": "time", "kind": "integer"}, split_column="part")
    assert "no target is in the split validation or test" in doubts(
        read_facts(config, SplitConfig(by="column"))
    )


@pytest.mark.parametrize(
    ("parts", "leaked"),
    [
        (["train", "test", "train", "train", "train", "train", "val", "test"], 2),
        (["train", "train", "val", "test", *["test"] * 4], 0),
        (["test"] * 4 + ["train"] * 4, 0),
    ],
)
def test_training_events_after_held_out_ones_of_their_user_are_told(
    tmp_path: Path, parts: list[str], leaked: int
) -> None:
    table = pd.DataFrame(
        {"user": ["a"] * 4 + ["b"] * 4, "action": ["x", "y"] * 4, "time": range(8), "part": parts}
    )
    folder = written(tmp_path, {"log.csv": table.to_csv(index=False)})
    config = mapping(folder, order={"column": "time", "kind": "integer"}, split_column="part")
    facts = read_facts(config, SplitConfig(by="column"))
    assert facts.counts["train_after_held_out"] == leaked
    said = f"{leaked} training events come after validation or test events"
    assert any(said in doubt for doubt in doubts(facts)) == (leaked > 0)


def test_a_file_of_which_every_row_is_set_aside_is_told_with_the_others(tmp_path: Path) -> None:
    damaged = "".join(f"u{number},\udcff,2024-05-01T10:00:00\n" for number in range(3))
    folder = written(
        tmp_path,
        {
            "1.csv": (HEAD + damaged).encode("utf-8", "surrogateescape"),
            "2.csv": log(5, [], 0),
        },
    )
    _, timelines, quarantine = read_log(mapping(folder))
    assert len(timelines) == 5 and quarantine["reason"].to_pylist() == ["not UTF-8"] * 3
    assert quarantine["row"].to_pylist() == [1, 2, 3]
