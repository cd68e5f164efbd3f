"""The look at a log as one HTML file that needs nothing else; text of the log is escaped."""

from collections.abc import Sequence

from behaviorlm.baselines import BASELINES
from behaviorlm.events.identity import look_alikes
from behaviorlm.inspection.mapped import GROUPS
from behaviorlm.inspection.written import as_yaml
from behaviorlm_ray.inspection import plots
from behaviorlm_ray.inspection.overview import Overview
from behaviorlm_ray.report.document import filled

MOST_BEHAVIORS = 200
MOST_COLUMNS = 500


def rendered(overview: Overview, cost: Sequence[str]) -> str:
    """The document. cost: what the log would take with a base, in sentences."""
    mapped = overview.mapped
    facts = mapped.facts
    behaviors = sorted(facts.behaviors.items(), key=lambda item: (-item[1], item[0]))
    quarantined = sorted(facts.quarantined.items(), key=lambda item: -item[1])
    return filled(
        "behaviorlm_ray.inspection",
        "look.html",
        overview=overview,
        facts=facts,
        files=[(file.path, file.size, file.format) for file in overview.sample.files[:100]],
        columns=overview.columns[:MOST_COLUMNS],
        choices=[choice for choice in overview.choices if choice.key != "paths"],
        lines=overview.lines,
        cost=cost,
        as_yaml=as_yaml,
        behaviors=behaviors[:MOST_BEHAVIORS],
        more_behaviors=max(0, len(behaviors) - MOST_BEHAVIORS),
        alike=look_alikes(facts.behaviors),
        quarantined=[(reason, rows, facts.examples[reason]) for reason, rows in quarantined],
        lost=list(facts.lost_behaviors.items())[:50],
        groups=[(group, mapped.targets[group]) for group in GROUPS if mapped.targets.get(group)],
        accuracy=[(BASELINES[name].description, shares) for name, shares in mapped.accuracy.items()],
        behaviors_plot=plots.behaviors_plot(facts),
        users_plot=plots.users_plot(facts),
        times_plot=plots.times_plot(mapped, overview.log.events.order.first_kind == "time"),
    )
