"""The plots of a look at a log, drawn as those of the report."""

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from behaviorlm.events.facts import LogFacts
from behaviorlm.inspection.mapped import Mapped, events_over_time
from behaviorlm_ray.report.inline_svg import INKS, drawing, inline
from behaviorlm_ray.report.plots import shortened

WIDTH = 480
MOST_NAMED = 45
ANCHOR_SHARE = 0.01


def behaviors_plot(facts: LogFacts, threshold: float = ANCHOR_SHARE) -> Markup | None:
    """The share of each behavior, most frequent first, on a logarithmic axis with the cut into anchors and tail."""
    ordered = sorted(facts.behaviors.items(), key=lambda item: (-item[1], item[0]))
    if not ordered:
        return None
    shares = np.array([count for _, count in ordered]) / facts.usable
    inks = [INKS["anchor" if share > threshold else "tail"] for share in shares]
    is_named = len(ordered) <= MOST_NAMED
    with drawing(WIDTH, 70 + 17 * len(ordered) if is_named else 280) as figure:
        axes = figure.add_subplot()
        places = np.arange(len(ordered))
        if is_named:
            axes.barh(places, shares, 0.7, color=inks)
            axes.set_yticks(places, [shortened(name) for name, _ in ordered])
            axes.tick_params(axis="y", length=0, labelcolor=INKS["ink"])
            axes.set_ylim(len(ordered) - 0.4, -0.6)
            axes.set_xscale("log")
            axes.axvline(threshold, color=INKS["muted"], linewidth=1, linestyle=(0, (4, 3)))
            axes.set_xlabel("share of the events")
            axes.grid(visible=False, axis="y")
        else:
            axes.scatter(places + 1, shares, s=7, color=inks, linewidths=0)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.axhline(threshold, color=INKS["muted"], linewidth=1, linestyle=(0, (4, 3)))
            axes.set_xlabel("behaviors, most frequent first")
            axes.set_ylabel("share of the events")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.xaxis.set_tick_params(which="minor", length=0, labelsize=0)
        axis = axes.xaxis if is_named else axes.yaxis
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axis.set_tick_params(which="minor", length=0, labelsize=0)
        return inline(figure, "behaviors", "Share of each behavior, with the cut into anchors and tail")


def users_plot(facts: LogFacts) -> Markup | None:
    """How many users have how many events, in classes that double."""
    if not facts.sizes:
        return None
    sizes = np.array(sorted(facts.sizes))
    users = np.array([facts.sizes[size] for size in sizes.tolist()])
    classes = np.floor(np.log2(sizes)).astype(int)
    counts = np.bincount(classes, weights=users)
    with drawing(WIDTH, 220) as figure:
        axes = figure.add_subplot()
        axes.bar(np.arange(len(counts)), counts, 0.85, color=INKS["series-1"])
        axes.set_xticks(np.arange(len(counts)), [_class_name(number) for number in range(len(counts))])
        axes.tick_params(axis="x", labelrotation=45 if len(counts) > 8 else 0)
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("events of a user")
        axes.set_ylabel("users")
        return inline(figure, "users", "How many users have how many events")


def times_plot(mapped: Mapped, is_time: bool) -> Markup | None:
    """Events over the span of the log."""
    if (
        not mapped.timelines.num_rows
        or mapped.facts.span is None
        or mapped.facts.span[0] == mapped.facts.span[1]
    ):
        return None
    counts, edges = events_over_time(mapped)
    with drawing(WIDTH, 200) as figure:
        axes = figure.add_subplot()
        places = edges.astype(np.int64).astype("M8[us]") if is_time else edges
        axes.stairs(counts, places, fill=True, color=INKS["series-1"])
        axes.set_ylabel("events")
        axes.set_xlabel("time (UTC)" if is_time else "order")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        if is_time:
            figure.autofmt_xdate()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6))
        return inline(figure, "times", "Events over the span of the log")


def _class_name(number: int) -> str:
    first, last = 1 << number, (2 << number) - 1
    return f"{first:,}" if first == last else f"{first:,}–{last:,}" if last < 1000 else f"{first:,}+"
