"""What a large run asks of the parts that are not data: many workers, trials and stages, counted and timed here.

    python -m benchmarks.rehearsals [workers] [trials] [stages]

workers: 1,000 tuning workers are dealt the packs of a stored schedule, as `run_step` deals them, without processes;
each sample of the epoch must be dealt once. trials: a search with 5,000 trials is decided task by task, killed in the
middle, and summed up. stages: 200 finished stages below one root, found again and listed.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.gpu_shapes import drawn_log

WORKERS, TRIALS, STAGES = 1_000, 5_000, 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Run those that are named, or all. Returns the exit code."""
    for name in (sys.argv[1:] if arguments is None else arguments) or list(REHEARSALS):
        begin = time.process_time()
        told = REHEARSALS[name]()
        print(f"{name}: {told}; {time.process_time() - begin:.1f} s CPU", flush=True)
    return 0


def workers() -> str:
    """Deal one epoch."""
    from behaviorlm.training.packs import Batching, StepSchedule
    from behaviorlm.training.stored_schedule import StoredSchedule

    drawn = drawn_log(60_000, users=500, events=40)
    rows = [np.flatnonzero(drawn.part.is_target)]
    batching = Batching(4_096, 8, 512, 1.0, None, 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schedule.arrow"
        StepSchedule([drawn.part], rows, drawn.prompt, [], batching).store(path)
        schedule = StepSchedule([drawn.part], StoredSchedule(path), drawn.prompt, [], batching)
        dealt: Counter[bytes] = Counter()
        rounds, most = 0, 0
        for step in range(len(schedule)):
            packs = schedule.packs(step)
            samples = [len(np.unique(pack.item[pack.part == 0])) for pack in packs]
            of_worker = [sum(samples[rank::WORKERS]) for rank in range(WORKERS)]
            ids = schedule.sample_ids(step)
            assert sum(of_worker) == len(ids)
            dealt.update(ids)
            rounds += -(-len(packs) // WORKERS)
            most = max(most, max(of_worker))
    assert len(dealt) == len(rows[0]) and set(dealt.values()) == {1}
    return (
        f"{WORKERS} workers, {len(dealt):,} samples each once in {len(schedule)} steps, {rounds} rounds, at "
        f"most {most} samples of a step on one worker"
    )


def trials() -> str:
    """A search without its models: an outcome is a function of the task."""
    from behaviorlm_ray.search.cost import StageCosts
    from behaviorlm_ray.search.decisions import Outcome, Rules, Task
    from behaviorlm_ray.search.findings import trials_of
    from behaviorlm_ray.search.ledger import Ledger
    from behaviorlm_ray.search.settings import SearchSettings
    from behaviorlm_ray.search.sweep import TaskRow

    settings = SearchSettings.model_validate(SEARCH)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def row() -> TaskRow:
            return TaskRow(Rules(settings), Ledger(place))

        def ended(task: Task) -> Outcome:
            of = np.random.default_rng([task.trial, task.rung]).random(2).tolist()
            return Outcome(task=task, metrics={"anchor_accuracy": of[0], "tail_macro_recall": of[1]})

        tasks, decisions = row(), 0
        while isinstance(task := tasks.start(), Task):
            tasks.ledger.record(ended(task))
            decisions += 1
            if decisions == TRIALS // 2:
                tasks = row()  # killed, and read back from its files
        found = trials_of(tasks.tasks, tasks.ledger.outcomes, 1, StageCosts(place))
        assert len(found) == TRIALS == decisions
        return f"{len(found):,} trials in {len(list(place.iterdir())):,} files, read back once"


SEARCH = {
    "name": "rehearsal",
    "space": {"selection.balance": {"uniform": [0, 1]}},
    "algorithm": {"name": "random"},
    "budget": {"trials": TRIALS},
}


def stages() -> str:
    """Finished stages, each found again, and all of them listed."""
    from behaviorlm_ray.upkeep.stage_states import stages_under
    from tests.platform.upkeep.stored_stages import finished_stage

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(STAGES):
            finished_stage(root, "a_tune", str(number))
        again = [finished_stage(root, "a_tune", str(number)) for number in range(STAGES)]
        found = stages_under(folder)
        assert len(found) == STAGES == len({output.folder for output in again})
        assert {one.state for one in found} == {"finished"}
        return f"{len(found)} stages made, found again and listed"


REHEARSALS: dict[str, Callable[[], str]] = {"workers": workers, "trials": trials, "stages": stages}

if __name__ == "__main__":
    sys.exit(main())
