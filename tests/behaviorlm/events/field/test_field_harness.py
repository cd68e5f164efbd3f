"""The reading of field logs itself: a plain log comes out as it was written."""

from pathlib import Path

from tests.behaviorlm.events.field.field_logs import mapping, read_log, sequences, written


def test_a_plain_log_is_read_as_written(tmp_path: Path) -> None:
    folder = written(
        tmp_path, {"log.csv": "user,action,time\na,x,2024-01-02\nb,z,2024-01-01\na,y,2024-01-01\n"}
    )
    _, timelines, quarantined = read_log(mapping(folder))
    assert sequences(timelines) == {"a": ["y", "x"], "b": ["z"]}
    assert not quarantined.num_rows
