"""What was read, told back: ten lines in which a mistake shows at a glance, and what looks wrong, in sentences."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from behaviorlm.errors import DataError
from behaviorlm.events.facts import LogFacts, rules_named
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.identity import look_alikes, suspected_nulls

LARGE_USER = 0.2
"""Share of all events from which on a user is told of."""
FRACTION_OF_ZEROS = 4
"""The bit of `identity.RULES` for a whole number with .0."""
MOST_NAMED = 3
"""Examples in a sentence."""


GARBLED = re.compile("\ufffd|[\u00c2\u00c3][\u0080-\u00bf\u0152-\u0178\u2013-\u2122]|\u00e2\u20ac")
"""Letters that could not be read, and UTF-8 that was taken for Latin-1 or Windows-1252."""


def summary(facts: LogFacts, config: EventsConfig) -> dict[str, str]:
    """What was read, {what: in words}: at most ten lines."""
    lines = {"read": f"{facts.files:,} {_plural('file', facts.files)}, {facts.rows:,} rows"}
    if facts.span is not None:
        lines["time" if config.order.first_kind == "time" else "order"] = _span(facts.span, config)
    if facts.users:
        lines["users"] = f"{facts.users:,}{_largest(facts)}"
        lines["events"] = f"{facts.events:,}; {_sizes(facts)}"
        lines |= _order_and_repeats(facts, config)
    lines["quarantine"] = _quarantine(facts)
    lines["behaviors"] = _behaviors(facts)
    if facts.users:
        lines["splits"] = _splits(facts)
    return lines


def told(facts: LogFacts, config: EventsConfig) -> list[str]:
    """The summary as lines of text."""
    found = summary(facts, config)
    width = max(map(len, found))
    return [f"{what:<{width}}  {words}" for what, words in found.items()]


def doubts(facts: LogFacts) -> list[str]:
    """What of it looks wrong or was read in a way that should be known, in sentences."""
    return [
        *_doubts_of_users(facts),
        *_doubts_of_behaviors(facts),
        *_doubts_of_splits(facts),
    ]


def check_quarantined_behaviors(
    lost: Mapping[str, Sequence[int]], config: EventsConfig, table: object = "the quarantine table"
) -> None:
    """Raise DataError where a behavior loses more than `max_quarantine_share_of_behavior` of its rows, two or more.

    lost: {behavior: (rows in quarantine, all its rows)}. table: where each quarantined row is listed.
    """
    allowed = config.max_quarantine_share_of_behavior
    refused = {name: (bad, rows) for name, (bad, rows) in lost.items() if bad > 1 and bad > allowed * rows}
    if refused:
        who = "a behavior loses" if len(refused) == 1 else f"{len(refused)} behaviors lose"
        listed = _listed([f"{name!r}: {bad} of {rows} rows" for name, (bad, rows) in refused.items()], 5)
        raise DataError(
            f"{config.dataset}: {who} more of the own rows to the quarantine than "
            f"events.max_quarantine_share_of_behavior ({allowed:.0%}) allows: {listed}. Each is listed with file, row "
            f"and reason in {table}; correct the log or the mapping, or raise the share"
        )


def worst_losses(facts: LogFacts, most: int = 100) -> dict[str, tuple[int, int]]:
    """Behaviors that lost two rows or more, those first that lost the largest share."""
    found = {name: rows for name, rows in facts.lost_behaviors.items() if rows[0] > 1}
    return dict(list(found.items())[:most])


def _span(span: tuple[int, int], config: EventsConfig) -> str:
    if config.order.first_kind != "time":
        return f"{span[0]} to {span[1]}"
    begin, end = (np.datetime64(order, "us") for order in span)
    shown = " to ".join(str(moment.astype("M8[m]")).replace("T", " ") for moment in (begin, end))
    days = int((end - begin) // np.timedelta64(1, "D"))
    return f"{shown} UTC ({days:,} {_plural('day', days)})"


def _largest(facts: LogFacts) -> str:
    if not facts.largest or not facts.events:
        return ""
    user, events = facts.largest[0]
    return f"; the largest, {user!r}, has {events / facts.events:.1%} of the events"


def _sizes(facts: LogFacts) -> str:
    sizes = np.array(sorted(facts.sizes))
    users = np.array([facts.sizes[size] for size in sizes.tolist()])
    middle = sizes[np.searchsorted(np.cumsum(users), (users.sum() + 1) // 2)]
    return f"a user has {sizes[0]:,} to {sizes[-1]:,}, half of them {middle:,} or fewer"


def _order_and_repeats(facts: LogFacts, config: EventsConfig) -> dict[str, str]:
    counts = facts.counts
    read = max(counts["events_read"], 1)
    what = "time" if config.order.first_kind == "time" else "order"
    dropped = {name: "dropped" if counts[f"{name}_dropped"] else "kept" for name in ("duplicates", "repeats")}
    duplicates, repeats = counts["exact_duplicates"], counts["repeats"]
    return {
        "ties": f"{counts['tied_events']:,} ({counts['tied_events'] / read:.1%}) have the {what} of the user's event "
        "before; files and rows order them",
        "duplicates": f"{duplicates:,} ({duplicates / read:.1%}) exact"
        + (f", {dropped['duplicates']}" if duplicates else ""),
        "repeats": f"{repeats:,} ({repeats / read:.1%}) have the behavior of the user's event before"
        + (f", {dropped['repeats']}" if repeats else ""),
    }


def _quarantine(facts: LogFacts) -> str:
    quarantined = sum(facts.quarantined.values())
    if not quarantined:
        return "none"
    reasons = sorted(facts.quarantined.items(), key=lambda item: (-item[1], item[0]))
    listed = [f"{reason}: {rows:,} (such as {facts.examples[reason]})" for reason, rows in reasons]
    line = f"{quarantined:,} ({quarantined / facts.rows:.2%}) cannot be used: {'; '.join(listed)}"
    losses = [f"{name!r} {bad:,} of {rows:,}" for name, (bad, rows) in facts.lost_behaviors.items()]
    return f"{line}; by behavior {_listed(losses, MOST_NAMED)}" if losses else line


def _behaviors(facts: LogFacts) -> str:
    if not facts.behaviors:
        return "none"
    ordered = sorted(facts.behaviors.items(), key=lambda item: (-item[1], item[0]))
    (first, most), (last, least) = ordered[0], ordered[-1]
    cut = "" if facts.anchors is None else f", {facts.anchors:,} anchors and {facts.tail:,} tail"
    return (
        f"{len(ordered):,}{cut}; from {first!r} ({most / facts.usable:.1%} of the events) to {last!r} "
        f"({least:,} {_plural('event', least)})"
    )


def _splits(facts: LogFacts) -> str:
    parts = [
        f"{name} {facts.counts[f'{name}_events']:,} events ({facts.counts[f'{name}_targets']:,} targets)"
        for name in ("train", "validation", "test")
    ]
    return ", ".join(parts)


def _doubts_of_users(facts: LogFacts) -> list[str]:
    found = []
    if facts.users == 1:
        found.append(f"all events are of one user, {facts.largest[0][0]!r}: is events.user the right column?")
    elif facts.users:
        found += [
            f"the user {user!r} has {events / facts.events:.0%} of all events: one person, or a placeholder for many "
            "(events.null_values)?"
            for user, events in facts.largest
            # Of few users each has many events.
            if events > LARGE_USER * facts.events and events > 1.5 * facts.events / facts.users
        ]
    users = list(facts.missing_users.items())
    surely, _ = suspected_nulls(pa.array([user for user, _ in users], pa.string()))
    suspects = [
        f"{user!r} ({events:,} {_plural('event', events)})"
        for (user, events), is_sure in zip(users, surely, strict=True)
        if is_sure or events * max(facts.users - 1, 1) > 3 * (facts.events - events)
    ]
    if suspects:
        found.append(
            f"users that look like a missing value: {_listed(suspects, MOST_NAMED)}; if they are, name the texts in "
            "events.null_values"
        )
    if facts.respelled_users:
        found.append(
            f"{facts.respelled_users:,} {_plural('user', facts.respelled_users)} written in more than one way count as "
            f"one each: {_listed(facts.respelled_examples, MOST_NAMED, facts.respelled_users)}"
        )
    if facts.look_alike_users > 0.001 * facts.users:
        pairs = [" and ".join(map(repr, group)) for group in facts.look_alike_examples]
        found.append(
            f"{facts.look_alike_users:,} users differ only in case, blanks, leading zeros, signs or quotes and count "
            f"as different ones: {_listed(pairs, MOST_NAMED)}"
        )
    if facts.grouped_examples and any(bits & FRACTION_OF_ZEROS for bits in facts.respelled.get("user", {})):
        found.append(
            f"users such as {_listed([repr(user) for user in facts.grouped_examples], MOST_NAMED)} look like numbers "
            "with a point between thousands: if they are, 1.000 was read as 1, for a whole number with .0 is the same "
            "as without; write the column without such points where it is made"
        )
    if facts.short_users:
        found.append(
            f"{facts.short_users:,} {_plural('user', facts.short_users)} in the form of a number in short: "
            f"{_listed([repr(user) for user in facts.short_examples], MOST_NAMED, facts.short_users)}; they stay text, "
            "so that 1e+05 and 100000 are two users: write the column as text or as an integer where it is made"
        )
    for role in ("user", "group"):
        rows = sum(facts.respelled.get(role, {}).values())
        if rows and not (role == "user" and facts.respelled_users):
            rules = ", ".join(rules_named(facts.respelled[role]))
            found.append(f"{rows:,} rows name their {role} in another spelling, which was mended ({rules})")
    return found


def _doubts_of_behaviors(facts: LogFacts) -> list[str]:
    found = []
    if merged := [f"{name!r} ({', '.join(rules)})" for name, rules in facts.merged_behaviors.items()]:
        found.append(f"behaviors written in more than one way count as one: {_listed(merged, MOST_NAMED)}")
    if alike := look_alikes(facts.behaviors):
        groups = [" and ".join(map(repr, group)) for group in alike]
        found.append(
            "behaviors that differ only in case, blanks, zeros, quotes or normalization count as different ones: "
            f"{_listed(groups, MOST_NAMED)}; if they are one, make them one in the log"
        )
    if garbled := [repr(name) for name in facts.behaviors if GARBLED.search(name)]:
        found.append(
            f"behaviors that look as if a program had read their letters in another encoding: "
            f"{_listed(garbled, MOST_NAMED)}; write the log anew from its source"
        )
    names = list(facts.behaviors)
    surely, perhaps = suspected_nulls(pa.array(names, pa.string()))
    are_codes = sum(name.lstrip("-").isdigit() for name in names) > 1
    suspects = [
        f"{name!r} ({facts.behaviors[name]:,} {_plural('event', facts.behaviors[name])})"
        for name, is_sure, is_perhaps in zip(names, surely, perhaps, strict=True)
        if is_sure or (is_perhaps and not (are_codes and name.lstrip("-").isdigit()))
    ]
    if suspects:
        found.append(
            f"behaviors that look like a missing value: {_listed(suspects, MOST_NAMED)}; if they are, name the texts "
            "in events.null_values"
        )
    gone = [repr(name) for name, (bad, rows) in facts.lost_behaviors.items() if bad == rows]
    if gone:
        found.append(f"behaviors all of whose rows are in quarantine: {_listed(gone, MOST_NAMED)}")
    return found


def _doubts_of_splits(facts: LogFacts) -> list[str]:
    found = []
    if facts.events:
        empty = [name for name in ("train", "validation", "test") if not facts.counts[f"{name}_targets"]]
        if empty:
            found.append(f"no target is in the split {' or '.join(empty)}")
    if leaked := facts.counts.get("train_after_held_out", 0):
        found.append(
            f"{leaked:,} training events come after validation or test events of the same user: training sees what is "
            "to be predicted; label each user's last events, or whole users, as held out (or split.by: time)"
        )
    return found


def _listed(items: Sequence[str], most: int, of: int | None = None) -> str:
    """The first of them, and how many more there are; of: how many there are, where only some are here."""
    more = (len(items) if of is None else of) - most
    return "; ".join(items[:most]) + (f"; and {more:,} more" if more > 0 else "")


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"
