"""What the controller of a tuning says when workers end."""

import pytest
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from behaviorlm_ray.console.library_output import OURS
from behaviorlm_ray.tuning.failed_workers import TellOfFailures, WorkerOutOfMemory


def test_that_workers_ended_is_told_in_a_line_that_reaches_the_screen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed = WorkerHealthCheckFailedError("no answer", ActorDiedError())
    raised = RuntimeError("Traceback (most recent call last):\n  File x\nKeyError: 'a'")
    TellOfFailures().after_exception(None, {1: killed})
    TellOfFailures().after_exception(None, {0: raised, 1: killed})
    lost = RuntimeError("[/built/elsewhere/pair.cc:553] Connection closed by peer")
    TellOfFailures().after_exception(None, {0: lost})
    TellOfFailures().after_exception(None, {})
    first, second, third = capsys.readouterr().out.splitlines()
    assert OURS.fullmatch(first) and OURS.fullmatch(second)
    assert first.startswith(
        "tuning: worker 1 has ended; tried again from the newest checkpoint, as often as "
    )
    assert first.endswith("allows (The actor died unexpectedly before finishing this task.)")
    assert second.startswith("tuning: worker 0 and 1 more have ended; ") and second.endswith(
        "(KeyError: 'a')"
    )
    assert third.endswith(" allows (Connection closed by peer)")


def test_full_memory_is_raised_and_so_ends_it() -> None:
    with pytest.raises(WorkerOutOfMemory, match=r"on worker 2 .*CUDA out of memory"):
        TellOfFailures().after_exception(None, {0: KeyError("a"), 2: RuntimeError("CUDA out of memory")})
