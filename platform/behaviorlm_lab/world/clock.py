"""The clock of the synthetic worlds: slots of the day, and when the next event comes.

Our choice. Times follow from earlier times alone, by one law for everybody: a clock tells nothing about what is hidden
(who somebody is, what is going on), so that the truth needs no likelihood of times.
"""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

FIRST_MONDAY = datetime(2025, 1, 6)
SLOT_NAMES = ("in the morning", "around midday", "in the evening", "at night")
HOURS = 7 * 24
CELLS = 2 * len(SLOT_NAMES)
"""Clock cells: the four slots of a weekday, then those of a weekend day."""

QUICK_SHARE, QUICK_MINUTES, SLOW_MINUTES = 0.45, 6, 120
DAY_BEGINS, WAKING, BEDTIME = 5, 6.5, 24.5
"""Hours: until 5 it is still the day before; the first event comes some time after 6:30, the last before 0:30."""


def slot_of(hour: int) -> int:
    """Index into `SLOT_NAMES` of an hour 0..23."""
    if 5 <= hour < 11:
        return 0
    if 11 <= hour < 17:
        return 1
    return 2 if 17 <= hour < 22 else 3


def hour_of_week(time: datetime) -> int:
    """0 for the first hour of a Monday, 167 for the last of a Sunday."""
    return time.weekday() * 24 + time.hour


def hours_of_week(times: Sequence[datetime]) -> NDArray[np.int64]:
    """`hour_of_week` of each, int64[n]."""
    return np.array([hour_of_week(time) for time in times], np.int64)


CELL_OF_HOUR: NDArray[np.int64] = np.array(
    [len(SLOT_NAMES) * (hour // 24 >= 5) + slot_of(hour % 24) for hour in range(HOURS)]
)
"""Clock cell of each hour of the week, int64[168]."""
IS_WORKING_HOUR: NDArray[np.int64] = np.array(
    [int(hour // 24 < 5 and 9 <= hour % 24 < 17) for hour in range(HOURS)]
)
"""1 on weekdays from 9 to 17, int64[168]."""


def first_time(random: np.random.Generator) -> datetime:
    """When a timeline begins: on one of 28 days, at a time when people are awake."""
    day = FIRST_MONDAY + timedelta(days=int(random.random() * 28))
    return (day + timedelta(hours=WAKING + 16 * random.random())).replace(microsecond=0)


def next_time(time: datetime, random: np.random.Generator) -> datetime:
    """Some minutes or hours later the same day; past bedtime, the next morning."""
    mean = QUICK_MINUTES if random.random() < QUICK_SHARE else SLOW_MINUTES
    minutes = 1 - mean * math.log1p(-random.random())
    later = (time + timedelta(minutes=minutes)).replace(microsecond=0)
    date = (time - timedelta(hours=DAY_BEGINS)).date()
    day = datetime(date.year, date.month, date.day)
    if later <= day + timedelta(hours=BEDTIME):
        return later
    sleepy = -40 * math.log1p(-random.random())
    return (day + timedelta(days=1, hours=WAKING, minutes=sleepy)).replace(microsecond=0)
