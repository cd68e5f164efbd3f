"""What would end the first pass of a preparation, said of some rows before it runs."""

from collections.abc import Callable

from behaviorlm.errors import DataError
from behaviorlm.events.facts import LogFacts
from behaviorlm.events.normalization import check_quarantine
from behaviorlm.events.summary import check_quarantined_behaviors, worst_losses
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.timelines.config import SplitConfig
from behaviorlm.timelines.splits import check_labels


def problems_of_rows(facts: LogFacts, events: EventsConfig, split: SplitConfig) -> list[str]:
    """What would end the first pass of preparation, were these rows all."""
    table = "the quarantine table that `prepare` writes"
    checks: list[Callable[[], object]] = [
        lambda: check_quarantine(facts.quarantined, facts.usable, events, table, facts.examples),
        lambda: check_quarantined_behaviors(worst_losses(facts), events, table),
    ]
    if split.by == "column":
        checks.append(lambda: check_labels(facts.split_labels))
    problems = []
    for check in checks:
        try:
            check()
        except DataError as error:
            problems.append(str(error))
    return problems
