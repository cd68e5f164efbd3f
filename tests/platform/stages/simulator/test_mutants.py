"""Without any one of its safeguards the protocol breaks in a simulated world, and with all of them it holds there."""

import pytest

from tests.platform.stages.simulator.mutants import MUTANTS, Mutant, living
from tests.platform.stages.simulator.search import Case, Search
from tests.platform.stages.simulator.watch import Violation
from tests.platform.stages.simulator.weather import play

MOST = 3000


def _takes_long(mutant: Mutant) -> bool:
    return isinstance(mutant.shown_by, Case) and bool({"pause", "loss"} & set(mutant.shown_by.faults))


@pytest.mark.xdist_group("mutants")
@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, marks=[pytest.mark.slow] * _takes_long(mutant), id=mutant.safeguard)
        for mutant in MUTANTS
    ],
)
def test_a_safeguard_that_is_missing_is_found(mutant: Mutant) -> None:
    with living(mutant), pytest.raises(Violation):
        shown(mutant.shown_by)
    if isinstance(mutant.shown_by, int):
        play(mutant.shown_by)  # cases are held against the whole protocol in test_worlds


def shown(by: int | Case) -> None:
    """Play what shows it."""
    if isinstance(by, Case):
        Search(by).run(MOST)
    else:
        play(by)
