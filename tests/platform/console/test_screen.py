"""What a person sees of a run: lines in a log, a live view on a terminal, and where what libraries print goes."""

import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm_ray.console import screen as screens
from behaviorlm_ray.console.live import in_view
from behaviorlm_ray.console.progress_lines import ProgressLines
from behaviorlm_ray.console.screen import Lines, screen, shown_on

SCRIPT = """
import os, sys, time
from pathlib import Path
from behaviorlm_ray.console.screen import screen
from behaviorlm_ray.console.shown import Look, fitted, looking, shown

def check():
    print("noise of a check")
    screen().progresses("hashing the log", "1/2 files")
    time.sleep(0.4)
    if end == "refuse":
        raise ValueError("a file is missing")

end, *flags = sys.argv[2:]
with looking(Look("plain" in flags, "quiet" in flags)):
    try:
        with shown(Path(sys.argv[1]), check):
            screen().expects(["prepare", "a_tune"])
            screen().starts("prepare")
            screen().ends("prepare", "/runs/prepare", True)
            screen().starts("a_tune")
            print("noise of a library")
            os.write(2, b"noise of native code\\n")
            print("(RayTrainWorker pid=7, ip=1.2.3.4) tuning: step 3/9, loss 2.5, 4 s left")
            print("(RayTrainWorker pid=7) tuning: continuing from step 2")
            print("\\x1b[36m(MapBatches(score_batch) pid=8)\\x1b[0m model: plain sequences are used")
            if "warned" in flags:
                for number in range(6):
                    screen().says(f"warning {number % 5}: " + "w" * 150)
            time.sleep(0.6)
            if end == "interrupt":
                raise KeyboardInterrupt
            if end == "fail":
                raise ValueError("no")
            screen().ends("a_tune", "/runs/a_tune", False)
    except (KeyboardInterrupt, ValueError) as error:
        print("notes:", "; ".join(error.__notes__))
print(fitted("the result"))
if "long" in flags:
    print(fitted("a-word " * 30 + "\\n  /" + "path/" * 30))
"""


def in_a_pipe(logs: Path, *arguments: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(logs), *arguments], capture_output=True, text=True, check=True
    )
    return run.stdout.splitlines()


def on_a_terminal(logs: Path, *arguments: str, **environment: str) -> str:
    """All that reaches a terminal of 100 columns."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", SCRIPT, str(logs), *arguments]
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI")}
    variables = kept | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"} | environment
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=variables) as process:
        os.close(theirs)
        seen = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and select.select([ours], [], [], 60)[0]:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            seen += chunk
        assert process.wait() == 0
    os.close(ours)
    return seen.decode()


def test_in_a_pipe_each_stage_has_a_line_at_its_start_and_end_and_noise_is_in_the_log(tmp_path: Path) -> None:
    told = in_a_pipe(tmp_path / "logs", "end")
    assert told == [
        "prepare: started",
        "prepare: reused from /runs/prepare",
        "a_tune: started",
        "tuning: continuing from step 2",
        "model: plain sequences are used",
        "a_tune: written to /runs/a_tune",
        "the result",
    ]
    [log] = (tmp_path / "logs").iterdir()
    noise = [line for line in log.read_text().splitlines() if line.startswith("noise")]
    assert noise[0] == "noise of a check" and {"noise of a library", "noise of native code"} == set(noise[1:])


def test_what_is_refused_leaves_no_folder_and_what_libraries_printed_is_told(tmp_path: Path) -> None:
    assert in_a_pipe(tmp_path / "logs", "refuse") == ["notes: noise of a check", "the result"]
    assert list(tmp_path.iterdir()) == []


def test_quiet_tells_only_what_is_worth_saying_and_the_result(tmp_path: Path) -> None:
    told = in_a_pipe(tmp_path, "end", "quiet")
    assert told == ["tuning: continuing from step 2", "model: plain sequences are used", "the result"]


def test_a_failure_and_an_interruption_say_what_is_kept_and_a_failure_where_the_log_is(
    tmp_path: Path,
) -> None:
    [failed] = [line for line in in_a_pipe(tmp_path / "a", "fail") if line.startswith("notes:")]
    [log] = (tmp_path / "a").iterdir()
    kept = "kept: prepare; cut off: a_tune (step 3/9); it goes on from what it has kept"
    assert failed == f"notes: {kept}; what libraries and workers printed is in {log}"
    [cut] = [line for line in in_a_pipe(tmp_path / "b", "interrupt") if line.startswith("notes:")]
    assert cut == f"notes: {kept}"


def test_a_terminal_shows_one_live_view_with_progress_and_no_noise(tmp_path: Path) -> None:
    seen = on_a_terminal(tmp_path, "end")
    assert "\x1b[?25l" in seen, "the cursor is hidden while the view is live"
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    assert "noise" not in plain and "step 3/9" in plain and "reused" in plain
    assert plain.rstrip().splitlines()[-1] == "the result"
    assert "\x1b[32m" in seen, "what is done is green"


def test_the_view_that_a_failure_leaves_says_what_was_cut_off(tmp_path: Path) -> None:
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", on_a_terminal(tmp_path, "fail"))
    marked = [line.split()[:2] for line in plain.splitlines() if line.startswith(("✓", "✗"))]
    assert marked[-2:] == [["✓", "prepare"], ["✗", "a_tune"]]


def test_what_was_said_is_whole_in_the_end_and_there_once(tmp_path: Path) -> None:
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", on_a_terminal(tmp_path, "end", "warned"))
    last = plain.rpartition("a_tune")[2].replace("\r", "").replace("\n", "")
    assert [last.count(f"warning {number}: " + "w" * 150) for number in range(5)] == [1] * 5


def test_long_lines_of_a_result_are_broken_between_words_on_a_terminal_only(tmp_path: Path) -> None:
    path = "  /" + "path/" * 30
    seen = on_a_terminal(tmp_path, "end", "long").rpartition("the result")[2].split()
    assert seen == ["a-word"] * 30 + [path.strip()]
    lines = on_a_terminal(tmp_path, "end", "long").rpartition("the result")[2].splitlines()
    assert max(len(line) for line in lines if "path" not in line) <= 100
    assert in_a_pipe(tmp_path, "end", "long")[-2:] == ["a-word " * 30, path]


def test_what_was_done_before_the_first_stage_leaves_nothing_on_a_terminal(tmp_path: Path) -> None:
    seen = on_a_terminal(tmp_path / "logs", "refuse")
    assert "hashing the log: 1/2 files" in seen
    last = seen.rpartition("\x1b[2K")[2]
    assert "hashing" not in last and "notes: noise of a check" in last and "the result" in last


def test_no_color_and_plain_are_heeded_on_a_terminal(tmp_path: Path) -> None:
    assert "\x1b[32m" not in on_a_terminal(tmp_path, "end", NO_COLOR="1")
    plain = on_a_terminal(tmp_path, "end", "plain")
    assert "\x1b" not in plain and "a_tune: started" in plain


def test_progress_goes_to_the_screen_at_most_every_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    lines = Lines(told.append)
    with shown_on(lines):
        assert screen() is lines
        progress = ProgressLines("scoring", 4, "samples")
        progress.add(1)
        assert told == []
        monkeypatch.setattr(screens, "PROGRESS_SECONDS", 0.0)
        progress.add(1)
    assert len(told) == 1 and told[0].startswith("scoring: 2/4 samples, ")
    assert screen() is not lines


@given(st.integers(1, 60), st.integers(0, 60), st.integers(3, 50))
def test_a_low_terminal_shows_what_runs_and_counts_what_it_leaves_out(
    stages: int, finished: int, lines: int
) -> None:
    labels = [f"stage {number}" for number in range(stages)]
    ended = labels[:finished]
    over, shown, waiting = in_view(labels, ended, lines)
    assert over + len(shown) + waiting == stages
    assert len(shown) + (over > 0) + (waiting > 0) <= lines
    assert shown == labels[over : stages - waiting]
    assert finished >= stages or labels[finished] in shown
    if stages <= lines:
        assert shown == labels
