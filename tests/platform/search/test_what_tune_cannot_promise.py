"""Why decisions of a search are our own: promises that Tune's scheduler, searcher and restoring do not keep.

Each test holds how Ray behaves, with its own classes. One that starts to fail says that a later Ray keeps the promise:
then look again at what of `behaviorlm_ray.search` can go (docs/decisions.md, "Search").
"""

import inspect
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.trial import TrialState
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

SCORES = {"a": 0.3, "b": 0.6, "c": 0.9}
"""At the first rung, of three trials of which one may go on."""


@pytest.fixture(autouse=True)
def registered() -> None:
    tune.register_trainable("toy", lambda config: None)


def going_on(order: Iterable[str]) -> set[str]:
    """Which trials Tune's ASHA tunes further if they come to the first rung in this order; it keeps a third."""
    scheduler = ASHAScheduler(
        time_attr="rung", metric="score", mode="max", max_t=3, grace_period=1, reduction_factor=3
    )
    controller: Any = None  # it decides without one
    on = set()
    for name in order:
        trial = Trial("toy", stub=True)
        scheduler.on_trial_add(controller, trial)
        if (
            scheduler.on_trial_result(controller, trial, {"rung": 1, "score": SCORES[name]})
            == TrialScheduler.CONTINUE
        ):
            on.add(name)
    return on


def test_who_goes_on_depends_on_who_comes_first() -> None:
    found = {frozenset(going_on(order)) for order in itertools.permutations(SCORES)}
    assert found == {frozenset("c"), frozenset("ac"), frozenset("bc"), frozenset("abc")}


def test_more_than_the_share_goes_on_where_later_trials_are_better() -> None:
    assert going_on(sorted(SCORES)) == {"a", "b", "c"}  # of three, one should
    assert going_on(["a"]) == {"a"}  # whoever comes first goes on, with nothing to compare it to


def optuna_search() -> OptunaSearch:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=3)
    return OptunaSearch(
        {"x": optuna.distributions.FloatDistribution(0, 1)}, metric="score", mode="max", sampler=sampler
    )


def proposals(ends: str) -> list[float]:
    """What OptunaSearch proposes on three places, whose trials end in this order, each followed by another."""
    search = optuna_search()
    running: dict[str, tuple[str, float]] = {}
    found = []
    for number, place in enumerate("abc" + ends):
        if place in running:
            trial, value = running.pop(place)
            search.on_trial_complete(trial, {"score": -((value - 0.6) ** 2), "training_iteration": 1})
        suggested: Any = search.suggest(str(number))
        running[place] = (str(number), suggested["x"])
        found.append(suggested["x"])
    return found


def test_what_optuna_proposes_depends_on_what_ends_first() -> None:
    """Whether all trials are as fast, or that on place c is slow."""
    alike = proposals("abc" * 4)
    assert proposals("abc" * 4) == alike
    assert proposals("ab" * 6) != alike


def test_a_trial_that_failed_once_stays_failed_for_the_searcher_also_when_it_is_resumed() -> None:
    """So trouble with storage would count against a trial."""
    search = optuna_search()
    search.suggest("a")
    search.on_trial_complete("a", error=True)
    search.on_trial_complete(
        "a", {"score": 1.0, "training_iteration": 1}
    )  # as after restore(resume_errored=True)
    study: Any = search._ot_study
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]


def test_a_point_may_be_tried_twice() -> None:
    search = OptunaSearch(
        {"x": optuna.distributions.CategoricalDistribution(["a", "b", "c"])},
        metric="score",
        mode="max",
        seed=0,
    )
    tried: list[Any] = []
    for number in range(3):
        found: Any = search.suggest(str(number))
        tried.append(found["x"])
        search.on_trial_complete(str(number), {"score": float(number), "training_iteration": 1})
    assert len(set(tried)) < 3


def test_a_search_that_is_gone_on_with_keeps_its_budget_and_number_of_trials_at_a_time() -> None:
    """A killed or spent search could not go on with a higher budget, or with more trials at a time."""
    asked = inspect.signature(tune.Tuner.restore).parameters
    assert not {"tune_config", "num_samples", "max_concurrent_trials", "time_budget_s"} & asked.keys()


TOY = """
import sys, time
from pathlib import Path
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

folder, call = Path(sys.argv[1]), sys.argv[2]

def wait(ready, seconds=120):
    until = time.monotonic() + seconds
    while time.monotonic() < until and not ready():
        time.sleep(0.05)

def toy(config):
    log, began = folder / "log", time.time()
    again = (folder / "killed").exists()
    if config["name"] == "good" and not again:  # it comes first, just after Tune has saved its state
        wait(lambda: any(state.stat().st_mtime > began + 2 for state in folder.glob("search/experiment_state-*")))
    elif config["name"] == "good":
        wait(lambda: log.exists() and "bad 2" in log.read_text(), 20)
    elif not again:
        wait(lambda: False)
    for rung in (1, 2, 3):
        tune.report({"score": {"good": 0.9, "bad": 0.3}[config["name"]], "rung": rung})
        with log.open("a") as lines:
            lines.write(f"{config['name']} {rung}\\n")
        if not again:
            wait(lambda: False)

if __name__ == "__main__":
    ray.init(include_dashboard=True, num_cpus=2, log_to_driver=False)
    toy = tune.with_resources(toy, {"cpu": 1})
    if call == "restore":
        tuner = tune.Tuner.restore(str(folder / "search"), trainable=toy)
    else:
        asha = ASHAScheduler(time_attr="rung", metric="score", mode="max", max_t=3, grace_period=1, reduction_factor=3)
        tuner = tune.Tuner(
            toy,
            param_space={"name": tune.grid_search(["good", "bad"])},
            tune_config=tune.TuneConfig(scheduler=asha),
            run_config=tune.RunConfig(name="search", storage_path=str(folder)),
        )
    tuner.fit()
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_search_forgets_results_that_it_had_and_decides_otherwise(tmp_path: Path) -> None:
    """Tune saves its state every ten seconds at most. What came since does not count when it is restored."""
    script, log = tmp_path / "toy.py", tmp_path / "log"
    script.write_text(TOY, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    first = subprocess.Popen([sys.executable, str(script), str(tmp_path), "begin"], env=environment)
    while first.poll() is None and not log.exists():
        time.sleep(0.05)
    assert (
        log.read_text() == "good 1\n"
    )  # so a trial with less than 0.9 stops at the first rung, unless it is killed
    family = [psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGKILL)
    first.wait()
    psutil.wait_procs(family, timeout=30)
    (tmp_path / "killed").touch()
    subprocess.run([sys.executable, str(script), str(tmp_path), "restore"], env=environment, check=True)
    assert (
        "bad 2" in log.read_text().splitlines()
    )  # past the first rung: what was told before the kill is forgotten
    assert log.read_text().splitlines().count("good 1") == 2  # and it begins again, and is reported again
