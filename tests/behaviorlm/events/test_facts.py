"""What is counted of a log: as pandas counts it, the same from any pieces, and whole after JSON."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from behaviorlm.events.facts import LogFacts, facts_of_rows, facts_of_users
from behaviorlm.events.normalization import normalize
from behaviorlm.events.summary import doubts, summary
from behaviorlm.log_files.config import EventsConfig, source_columns
from behaviorlm.log_files.source_files import QUARANTINE_SCHEMA
from behaviorlm.log_files.text import table_schema
from behaviorlm.timelines.config import SplitConfig
from behaviorlm.timelines.samples import build_timelines

CONFIG = EventsConfig.model_validate(
    {
        "dataset": "d",
        "paths": ["p"],
        "user": "user",
        "behavior": "behavior",
        "order": {"column": "order", "kind": "integer"},
        "split_column": "part",
    }
)


def raw_log(seed: int, rows: int = 2000) -> pd.DataFrame:
    """A log as it is written: missing users, users as floats, padded behaviors, ties, one large user."""
    random = np.random.default_rng(seed)
    users = np.where(random.random(rows) < 0.25, 0, random.integers(0, 60, rows)).astype(str).astype(object)
    users[random.random(rows) < 0.1] += ".0"
    users[random.random(rows) < 0.02] = ""
    behaviors = random.choice(["open", "pay", "look", "rare"], rows, p=[0.5, 0.3, 0.19, 0.01]).astype(object)
    behaviors[random.random(rows) < 0.05] += " "
    orders = random.integers(0, 300, rows).astype(str).astype(object)
    orders[random.random(rows) < 0.03] = "soon"
    labels = random.choice(["train", "val", "test"], rows)
    columns = {"user": users, "order": orders, "behavior": behaviors, "split_label": labels}
    return pd.DataFrame(columns, dtype=object).assign(row=range(1, rows + 1))


def normalized(frame: pd.DataFrame) -> tuple[pa.Table, pa.Table]:
    columns = [frame[role].tolist() for role in [*source_columns(CONFIG), "row"]]
    raw = pa.table(columns, schema=table_schema(CONFIG))
    return normalize(raw, QUARANTINE_SCHEMA.empty_table(), 0, "log.csv", CONFIG)


def whole_facts(events: pa.Table, quarantine: pa.Table) -> LogFacts:
    timelines, counts = build_timelines(events, CONFIG, SplitConfig(), 1, "d")
    return facts_of_rows(events, quarantine, 1) + facts_of_users(events, timelines, counts)


@pytest.mark.parametrize("seed", range(4))
def test_facts_are_what_pandas_counts(seed: int) -> None:
    frame = raw_log(seed)
    facts = whole_facts(*normalized(frame))
    is_bad = (frame["user"] == "") | (frame["order"] == "soon")
    clean = frame.assign(behavior=frame["behavior"].str.strip())
    written, bad = frame[~is_bad], clean[is_bad]
    usable = clean[~is_bad].assign(user=written["user"].str.removesuffix(".0"))

    assert facts.rows == len(frame) and facts.usable == facts.events == len(usable)
    no_user = int((bad["user"] == "").sum())
    assert facts.quarantined == {"empty user": no_user, "unreadable order": len(bad) - no_user}
    assert facts.quarantined_of == bad["behavior"].value_counts().to_dict()
    assert facts.behaviors == usable["behavior"].value_counts().to_dict()
    assert facts.split_labels == usable["split_label"].value_counts().to_dict()
    orders = usable["order"].astype("int64")
    assert facts.span == (orders.min(), orders.max())
    sizes = usable.groupby("user").size()
    assert facts.users == len(sizes)
    assert facts.sizes == sizes.value_counts().to_dict()
    largest = sizes.reset_index(name="events").sort_values(["events", "user"], ascending=[False, True])
    assert facts.largest == list(largest.head(5).itertuples(index=False, name=None))
    assert facts.missing_users == {"0": sizes["0"]}

    spellings = written.groupby(usable["user"])["user"].nunique()
    assert facts.respelled_users == (spellings > 1).sum() > 0
    assert facts.respelled["user"] == {4: written["user"].str.endswith(".0").sum()}
    padded = written["behavior"].str.endswith(" ")
    expected = usable["behavior"][padded].value_counts().to_dict()
    assert facts.behavior_spellings == {name: {1: rows} for name, rows in expected.items()}
    both = set(written["behavior"])
    assert set(facts.merged_behaviors) == {name for name in expected if {name, f"{name} "} <= both}


@pytest.mark.parametrize("seed", range(3))
def test_facts_of_pieces_add_up_to_those_of_the_whole(seed: int) -> None:
    events, quarantine = normalized(raw_log(seed))
    whole = whole_facts(events, quarantine)
    found = LogFacts(files=1)
    for start in range(0, 2000, 310):
        batch = (table.filter(rows_between(table, start, start + 310)) for table in (events, quarantine))
        found += facts_of_rows(*batch)
    part_of_user = np.array([hash(user) % 3 for user in events["user"].to_pylist()])
    for part in range(3):
        of_part = events.filter(pa.array(part_of_user == part))
        timelines, counts = build_timelines(of_part, CONFIG, SplitConfig(), 1, "d")
        found += facts_of_users(of_part, timelines, counts)
    differing = {"look_alike_users", "look_alike_examples", "respelled_examples", "short_examples"}
    assert found.model_dump(exclude=differing) == whole.model_dump(exclude=differing)
    assert LogFacts.model_validate_json(whole.model_dump_json()) == whole
    assert whole + LogFacts() == LogFacts() + whole == whole


def rows_between(table: pa.Table, low: int, high: int) -> pa.Array:
    rows = table["row"].to_numpy()
    return pa.array((rows > low) & (rows <= high))


def test_users_that_look_alike_are_counted_where_they_are_together() -> None:
    frame = raw_log(0, 60).assign(user=["ann", "Ann", "a-nn", "bob", "7", "007"] * 10, order="1")
    facts = whole_facts(*normalized(frame))
    assert facts.look_alike_users == 5
    assert facts.look_alike_examples == [["007", "7"], ["Ann", "a-nn", "ann"]]


def test_nobody_is_named_in_facts_that_are_handed_on() -> None:
    users = ["zoe"] * 30 + ["Quentin", "quentin", "77", "77.0", "1.234", "1e+05"] * 5
    facts = whole_facts(*normalized(raw_log(0, 60).assign(user=users, order="1")))

    def told(of: LogFacts) -> list[str]:
        return [*summary(of, CONFIG).values(), *doubts(of)]

    assert all(any(user in line for line in told(facts)) for user in {*users} - {"77.0"})
    unnamed = told(facts.naming_nobody())
    assert len(unnamed) == len(told(facts))
    assert not [line for line in unnamed for user in users if f"'{user}'" in line]


def test_an_empty_log_has_no_facts() -> None:
    events, quarantine = normalized(raw_log(0, 1)[:0])
    facts = whole_facts(events, quarantine)
    assert (facts.rows, facts.users, facts.span, facts.largest, facts.sizes) == (0, 0, None, [], {})
