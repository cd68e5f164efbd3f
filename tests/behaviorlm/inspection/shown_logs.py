"""Logs that nobody described, and the sequences that are in them."""

import csv
import io
import json
import random
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Event = tuple[str, datetime, str]
Sequences = dict[str, list[str]]

ACTIONS = [
    "App öffnen",
    "Suchen",
    "Artikel ansehen",
    "In den Korb",
    "Bezahlen",
    "Abmelden",
    "Hilfe",
    "Retoure",
]
WEIGHTS = [30, 20, 25, 10, 5, 6, 3, 1]


def made_events(seed: int, users: int = 20, each: int = 40) -> list[Event]:
    """(user, moment, behavior) in the order of time over all users; no two moments of a user are equal."""
    rng = random.Random(seed)
    events = []
    for number in range(users):
        moment = datetime(2023, 11, 27, 8) + timedelta(minutes=rng.randrange(600))
        for _ in range(each):
            moment += timedelta(minutes=1 + rng.randrange(240))
            events.append((f"{40_000 + 7 * number}", moment, rng.choices(ACTIONS, WEIGHTS)[0]))
    return sorted(events, key=lambda event: (event[1], event[0]))


def sequences(events: list[Event]) -> Sequences:
    """The behaviors of each user in order."""
    found: Sequences = {}
    for user, _, behavior in sorted(events, key=lambda event: (event[0], event[1])):
        found.setdefault(user, []).append(behavior)
    return found


def write_export(path: Path, seed: int) -> Sequences:
    """A CSV of 50 columns with semicolons, German dates, a byte-order mark, mixed-case names and 3 % bad rows."""
    rng = random.Random(seed)
    events = made_events(seed)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\r\n")
    fillers = [f"Merkmal{number}" for number in range(40)]
    tail = ["BelegNr", "Betrag", "Kanal", "AngelegtAm", "Bemerkung", "Land"]
    writer.writerow(["Mandant", "KundenNr", *fillers, *tail, "Zeitpunkt", "Aktion"])
    sound = []
    for number, event in enumerate(events):
        user, moment, behavior = event
        values = [
            f"{rng.random():.3f}".replace(".", ",") if place % 3 else rng.choice("ABC") for place in range(40)
        ]
        more = [
            100_000 + number,
            f"{rng.randrange(9999) / 100:.2f}".replace(".", ","),
            rng.choice(["Web", "App", "Laden"]),
        ]
        row = ["10", user, *values, *more, "01.02.2015", f"Text {rng.randrange(10**6)}, frei", "DE"]
        row += [moment.strftime("%d.%m.%Y %H:%M"), behavior]
        bad = number % 100
        if bad == 7:
            row = row[:-3]  # torn
        elif bad == 34:
            row[-2] = "unbekannt"
        elif bad == 61:
            row[1] = ""
        else:
            sound.append(event)
        writer.writerow(row)
    path.write_bytes(b"\xef\xbb\xbf" + text.getvalue().encode())
    return sequences(sound)


def write_nested_json(path: Path, seed: int) -> Sequences:
    """Objects in objects, a line each; what matters lies two keys deep."""
    events = made_events(seed)
    lines = []
    for number, (user, moment, behavior) in enumerate(events):
        traits = {"plan": "free" if number % 3 else "paid", "id": user}
        event = {
            "uuid": f"{number:08x}-0000-4000-8000-{number:012x}",
            "event": {"name": behavior, "version": 2},
            "context": {"traits": traits, "ip": f"10.0.0.{number % 250}", "screen": {"width": 800}},
            "user": {"distinct_id": f"u-{user}"},
            "sent_at": (moment + timedelta(hours=number % 5)).isoformat() + "Z",
            "timestamp": int(moment.timestamp() * 1000),
        }
        lines.append(json.dumps(event, ensure_ascii=False))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {f"u-{user}": behaviors for user, behaviors in sequences(events).items()}


def write_days(folder: Path, seed: int) -> Sequences:
    """Parquet files in a folder for each day, as Spark and Hive write them."""
    events = made_events(seed)
    by_day: dict[str, list[Event]] = {}
    for event in events:
        by_day.setdefault(event[1].date().isoformat(), []).append(event)
    for day, rows in by_day.items():
        (folder / f"day={day}").mkdir(parents=True)
        table = pa.table(
            {
                "customer_id": pa.array([int(user) for user, _, _ in rows]),
                "event_type": [behavior for _, _, behavior in rows],
                "event_time": pa.array([moment for _, moment, _ in rows], pa.timestamp("us")),
                "amount": [1.5 * place for place in range(len(rows))],
            }
        )
        pq.write_table(table, folder / f"day={day}" / "part-00000.snappy.parquet")
    (folder / "_SUCCESS").touch()
    return sequences(events)
