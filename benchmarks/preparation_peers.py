"""What a data frame library would have to write to be of the same use as a prepared log: programs in polars and pandas.

Both read the log of `growth_log`, leave out rows that lack a value, put the events of each user in order, cut them into
training, validation and test by time, number them, give each its sample id and the tokens of its line and of its
question, and count the training targets of each behavior. Each distinct line is tokenized once, a table of its tokens
is looked up. Columns are those of our parts, in files of about `ROWS_A_PART` events, Arrow IPC, not compressed; a
sample id is two numbers of 64 bits. Left out is what has no bearing on such a log: spelling, zones, doubts, ties told,
halos.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ROWS_A_PART = 1_000_000
SHARE, ANCHOR = 0.1, 0.01
"""Of validation and of test; of the training targets that make an anchor."""
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
DATASET = b"growth"


def of_polars(log: Path, folder: Path, base: Path) -> str:
    """The program in polars: the streaming engine puts the log in order, expressions make parts of it."""
    import polars as pl

    events = pl.scan_parquet(log / "*.parquet").drop_nulls().filter(pl.col("user") != "")
    names = (
        events.select(pl.col("behavior").unique()).collect(engine="streaming")["behavior"].sort().to_list()
    )
    events = events.with_columns(pl.col("behavior").cast(pl.Enum(names)))
    whole = events.sort("user", "time", maintain_order=True).collect(engine="streaming")
    lines, questions = tokens(names, base)
    line_table, question_table = pl.Series(pl.from_arrow(lines)), pl.Series(pl.from_arrow(questions))
    user = pl.col("user")
    starts = whole.select((user != user.shift()).fill_null(True).arg_true())["user"].cast(pl.Int64)
    sizes = starts.append(pl.Series([len(whole)])).diff().drop_nulls()
    starts = starts.head(len(sizes))
    keys = np.frombuffer(b"".join(_digests(whole["user"].gather(starts).to_list())), "<u8").reshape(-1, 2)
    users = pl.DataFrame({"start": starts, "size": sizes, "low": keys[:, 0], "high": keys[:, 1]})
    users = users.with_columns(part=pl.col("start") // ROWS_A_PART)
    counts: pl.DataFrame | None = None
    for number, of_part in enumerate(users.partition_by("part", maintain_order=True)):
        first, rows = of_part["start"][0], int(of_part["size"].sum())
        part = _part_of_polars(whole.slice(first, rows), of_part, line_table, question_table)
        part.write_ipc(folder / f"{number:05d}.arrow", compression="uncompressed")
        found = part.filter(pl.col("is_target") & (pl.col("split") == 0)).group_by("behavior").len()
        counts = found if counts is None else pl.concat([counts, found])
    assert counts is not None
    counted = counts.group_by("behavior").agg(pl.col("len").sum())
    _write_vocabulary(dict(counted.iter_rows()), folder)
    return f"{number + 1} parts, {len(users):,} users"


def _part_of_polars(events: Any, users: Any, lines: Any, questions: Any) -> Any:
    import polars as pl

    of_user = users.select(pl.col("start", "size", "low", "high").repeat_by("size").explode())
    clock = pl.col("time").dt.weekday().cast(pl.UInt32) - 1
    code = pl.col("behavior").to_physical().cast(pl.UInt32)
    left = pl.col("size") - pl.col("position")
    kept = (pl.col("size") * SHARE + 1e-9).floor().cast(pl.Int64)
    is_test, is_held_out = left <= kept, left <= 2 * kept

    def mixed(words: Any) -> Any:
        words = (words ^ (words // 2**30)) * pl.lit(FIRST, pl.UInt64)
        words = (words ^ (words // 2**27)) * pl.lit(SECOND, pl.UInt64)
        return words ^ (words // 2**31)

    part = pl.concat([events, of_user], how="horizontal").with_row_index("place")
    part = part.with_columns(
        position=pl.col("place").cast(pl.Int64) + users["start"][0] - pl.col("start"),
        is_repeat=(pl.col("behavior") == pl.col("behavior").shift()).fill_null(False),
        line=clock * (len(lines) // len(WEEKDAYS)) + code,
        weekday=clock,
    )
    part = part.with_columns(
        id_low=mixed(pl.col("low") + pl.col("position").cast(pl.UInt64) * pl.lit(GOLDEN, pl.UInt64))
    )
    return part.select(
        "user",
        pl.col("user").alias("group"),
        pl.col("position").cast(pl.Int32),
        pl.col("time").dt.epoch("us").alias("order"),
        pl.col("behavior").cast(pl.String),
        pl.lit(pl.Series(WEEKDAYS)).gather(pl.col("weekday")).alias("before.weekday"),
        pl.when(is_test).then(2).when(is_held_out).then(1).otherwise(0).cast(pl.Int8).alias("split"),
        (pl.col("position") >= 1).alias("is_target"),
        pl.col("is_repeat") & (pl.col("position") > 0),
        "id_low",
        mixed(pl.col("high") ^ pl.col("id_low")).alias("id_high"),
        pl.lit(lines).gather(pl.col("line")).alias("line_ids"),
        pl.lit(questions).gather(pl.col("weekday")).alias("question_ids"),
    )


def of_pandas(log: Path, folder: Path, base: Path) -> str:
    """The program in pandas, strings and lists held as Arrow's."""
    import pandas as pd

    events = pd.read_parquet(log).dropna()
    events = events[events["user"] != ""].sort_values(["user", "time"], kind="stable", ignore_index=True)
    codes, names = pd.factorize(events["behavior"])
    lines, questions = tokens(list(names), base)
    user, users = pd.factorize(events["user"])
    sizes = np.bincount(user)
    starts = np.cumsum(sizes) - sizes
    keys = np.frombuffer(b"".join(_digests(list(users))), "<u8").reshape(-1, 2)
    counts = np.zeros(len(names), np.int64)
    begins = starts[np.flatnonzero(np.diff(starts // ROWS_A_PART, prepend=-1))]
    for number, (begin, end) in enumerate(zip(begins, [*begins[1:], len(events)], strict=True)):
        rows = slice(begin, end)
        part = events.iloc[rows].reset_index(drop=True)
        position = np.arange(begin, end) - starts[user[rows]]
        size = sizes[user[rows]]
        kept = np.floor(size * SHARE + 1e-9).astype(np.int64)
        left = size - position
        weekday = part["time"].dt.weekday.to_numpy()
        repeats = np.diff(codes[rows], prepend=-1) == 0
        low, high = _ids(keys[user[rows]], position)
        split = ((left <= kept).astype(np.int8) + (left <= 2 * kept)).astype(np.int8)
        made = pd.DataFrame(
            {
                "user": part["user"],
                "group": part["user"],
                "position": position.astype(np.int32),
                "order": part["time"].dt.as_unit("us").astype(np.int64),
                "behavior": part["behavior"],
                "before.weekday": pd.Series(WEEKDAYS).take(weekday).array,
                "split": split,
                "is_target": position >= 1,
                "is_repeat": repeats & (position > 0),
                "id_low": low,
                "id_high": high,
                "line_ids": _looked_up(lines, weekday * len(names) + codes[rows]),
                "question_ids": _looked_up(questions, weekday),
            }
        )
        made.to_feather(folder / f"{number:05d}.arrow", compression="uncompressed")
        counts += np.bincount(codes[rows][(position >= 1) & (split == 0)], minlength=len(names))
    _write_vocabulary(dict(zip(names, counts.tolist(), strict=True)), folder)
    return f"{number + 1} parts, {len(users):,} users"


def _looked_up(lists: pa.Array, places: NDArray[np.int64]) -> Any:
    import pandas as pd

    return pd.Series(pd.arrays.ArrowExtensionArray(lists)).take(places).array


def _ids(
    keys: NDArray[np.uint64], position: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    def mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        words = (words ^ (words >> np.uint64(30))) * np.uint64(FIRST)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(SECOND)
        return words ^ (words >> np.uint64(31))

    low = mixed(keys[:, 0] + position.astype(np.uint64) * np.uint64(GOLDEN))
    return low, mixed(keys[:, 1] ^ low)


def _digests(users: list[str]) -> list[bytes]:
    begun = hashlib.blake2b(len(DATASET).to_bytes(8, "big") + DATASET, digest_size=16, person=b"sample id")
    found = []
    for user in users:
        one = begun.copy()
        one.update(user.encode())
        found.append(one.digest())
    return found


def tokens(names: list[str], base: Path) -> tuple[pa.Array, pa.Array]:
    """Tokens of each weekday's line of each behavior, in this order, and of each weekday's question; list<int32>."""
    from behaviorlm.model.base_model import load_tokenizer
    from behaviorlm.model.config import ModelConfig
    from behaviorlm.prompts.config import PromptConfig
    from behaviorlm.prompts.encoder import PromptEncoder

    encoder = PromptEncoder(load_tokenizer(ModelConfig(base=str(base))), PromptConfig())
    days = [day for day in WEEKDAYS for _ in names]
    lines = encoder.encode_lines(pa.table({"behavior": names * len(WEEKDAYS), "before.weekday": days}))
    return lines, encoder.encode_questions(pa.table({"before.weekday": list(WEEKDAYS)}))


def _write_vocabulary(counts: dict[str, int], folder: Path) -> None:
    total = sum(counts.values())
    names = sorted((name for name in counts if counts[name]), key=lambda name: (-counts[name], name))
    found = {
        "names": names,
        "counts": [counts[name] for name in names],
        "is_anchor": [counts[name] > ANCHOR * total for name in names],
    }
    (folder / "vocabulary.json").write_text(json.dumps(found))


def table_of(folder: Path) -> pa.Table:
    """What a program wrote, by user and position; sample ids in two columns, as peers have them."""
    paths = sorted(folder.rglob("*.arrow"))
    tables = []
    for path in paths:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().replace_schema_metadata(None)
        if "sample_id" in table.column_names:
            octets = table["sample_id"].combine_chunks()
            words = np.frombuffer(octets.buffers()[1], "<u8").reshape(-1, 2)[octets.offset :][: len(octets)]
            table = table.drop_columns("sample_id")
            table = table.append_column("id_low", pa.array(words[:, 0])).append_column(
                "id_high", pa.array(words[:, 1])
            )
        tables.append(
            pa.table([_plain(table[name]) for name in sorted(table.column_names)], sorted(table.column_names))
        )
    return (
        pa.concat_tables(tables).sort_by([("user", "ascending"), ("position", "ascending")]).combine_chunks()
    )


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """In the type that our parts have."""
    kind = column.type
    if pa.types.is_large_string(kind) or kind == pa.string_view() or pa.types.is_dictionary(kind):
        return column.cast(pa.string())
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return column.cast(pa.list_(pa.int32()))
    return column


PEERS = {"polars": of_polars, "pandas": of_pandas}
