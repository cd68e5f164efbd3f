"""Patterns of written times: strptime's language, compiled to what a reader needs. Light: no array library."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import combinations, product

MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

ZONE = r"(?P<zone>[zZ]|UTC|GMT|[+-]\d{2}(?::?\d{2})?)"
# Directive -> (what it tells, its regular expression, digits where its width is fixed).
DIRECTIVES = {
    "Y": ("year", r"\d{4}", 4),
    "y": ("short_year", r"\d{2}", 2),
    "m": ("month", r"\d{1,2}", 2),
    "b": ("month_name", "(?i:" + "|".join(f"{name[:3]}(?:{name[3:]})?" for name in MONTHS) + "|sept)", 3),
    "d": ("day", r"\d{1,2}", 2),
    "H": ("hour", r"\d{1,2}", 2),
    "I": ("hour_of_half", r"\d{1,2}", 2),
    "p": ("half", r"(?i:[ap]\.?m\.?)", 2),
    "M": ("minute", r"\d{1,2}", 2),
    "S": ("second", r"\d{1,2}", 2),
    "f": ("fraction", r"\d+", 0),
    "z": ("zone", "", 0),
    "Z": ("zone", "", 0),
    "a": ("weekday_name", "(?i:" + "|".join(f"{day[:3]}(?:{day[3:]})?" for day in WEEKDAYS) + ")", 0),
    "j": ("day_of_year", r"\d{1,3}", 3),
    "G": ("iso_year", r"\d{4}", 4),
    "V": ("iso_week", r"\d{1,2}", 2),
    "u": ("iso_weekday", r"[1-7]", 1),
}
SHORTHANDS = {
    "%F": "%Y-%m-%d", "%T": "%H:%M:%S", "%R": "%H:%M", "%D": "%m/%d/%y", "%e": "%d", "%h": "%b", "%B": "%b",
    "%A": "%a", "%n": " ", "%t": " ",
}  # fmt: skip
NUMBERS = frozenset("YymdHIMSjGVu")
MAY_BE_SHORT = frozenset(("month", "day", "hour", "hour_of_half"))


@dataclass(frozen=True)
class Piece:
    """A part of a written time. kind: digits, fraction (any number of digits), text (one byte of `allowed`), month
    (three letters), half (AM or PM), sign.
    """

    kind: str
    field: str = ""
    width: int = 1
    allowed: bytes = b""
    may_be_short: bool = False


@dataclass(frozen=True)
class Span:
    """Where a piece stands in a text of known width."""

    piece: Piece
    start: int
    width: int


@dataclass(frozen=True)
class TimePattern:
    """How times are written. regex: with a group for each field; forms: the same as pieces, for texts of fixed width.

    Texts that no form fits are read by the regular expression: forms are for speed.
    """

    regex: str
    forms: tuple[tuple[Piece, ...], ...]


@lru_cache(maxsize=1024)
def layouts(pattern: TimePattern, width: int) -> tuple[tuple[Span, ...], ...]:
    """The ways in which a text of `width` bytes can have one of the pattern's forms."""
    return tuple(_spans(form, widths) for form in pattern.forms for widths in _widths(form, width))


def normal_form(pattern: str) -> str:
    """The pattern with shorthands written out (%F, %T, %-d, %e …)."""
    plain = re.sub(r"%[-_0^#](?=[a-zA-Z])", "%", pattern.strip())
    return re.sub(r"%.", lambda found: SHORTHANDS.get(found[0], found[0]), plain)


def written_by(moment: datetime, pattern: str) -> str:
    """The moment as it is written by a pattern; one without a zone is in UTC where the pattern writes one."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.strftime(normal_form(pattern).replace("%Z", "UTC"))


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> TimePattern:
    """Raises ValueError for what is no pattern: an unknown directive, one that is there twice."""
    tokens = re.findall(r"%.|%$|\s+|[^%\s]", normal_form(pattern), re.DOTALL)
    directives = [token[1:] for token in tokens if token[0] == "%" and token != "%%"]
    unknown = sorted({f"%{name}" for name in directives if name not in DIRECTIVES})
    if unknown:
        known = " ".join(f"%{name}" for name in DIRECTIVES)
        raise ValueError(f"{', '.join(unknown)} is not read here; what is: {known} %F %T %R %D %%")
    fields = [DIRECTIVES[name][0] for name in directives]
    twice = sorted({field for field in fields if fields.count(field) > 1})
    if twice:
        raise ValueError(f"{twice[0].replace('_', ' ')} is there twice")
    if not directives:
        raise ValueError("without any directive it fixes no moment; write a strptime pattern: %d/%m/%Y %H:%M")
    regex = ""
    forms: list[list[Piece] | None] = [[]]
    for place, token in enumerate(tokens):
        has_fraction = token in (".", ",") and tokens[place + 1 : place + 2] == ["%f"]
        if has_fraction and regex.endswith("(?P<second>\\d{1,2})"):
            # A moment of whole seconds is often written without its zeros.
            regex += r"(?:[.,](?P<fraction>\d+))?"
            longer = [_extended(form, [Piece("text", allowed=b".,"), Piece("fraction")]) for form in forms]
            forms = [*forms, *longer]
        elif token == "%f" and tokens[place - 1 : place] in (["."], [","]) and "<fraction>" in regex:
            continue
        else:
            expression, alternatives = _token(tokens, place)
            regex += expression
            forms = [_extended(form, pieces) for form in forms for pieces in alternatives]
    found = tuple(tuple(form) for form in forms if form is not None)
    return TimePattern(f"^{regex}$", found)


def _token(tokens: Sequence[str], place: int) -> tuple[str, list[list[Piece] | None]]:
    """The regular expression of a token, and the ways in which it stands in a text of fixed width (None: in no way)."""
    token = tokens[place]
    if token.isspace():
        return r"\s+", [[Piece("text", allowed=b" ")]]
    if token[0] != "%" or token == "%%":
        character = token[-1]
        # A zero of ISO 8601's T and Z is written in either case; other text is as it is.
        fixed = [Piece("text", allowed=bytes([byte])) for byte in character.encode()]
        return re.escape(character), [[*fixed]]
    name = token[1:]
    field, expression, width = DIRECTIVES[name]
    if field == "zone":
        return ZONE, list(ZONE_FORMS)
    if name in NUMBERS:
        beside = [tokens[other] for other in (place - 1, place + 1) if 0 <= other < len(tokens)]
        # Where digits follow on digits, only fixed widths tell them apart.
        is_fixed = any(other[0] == "%" and other[1:] in NUMBERS | {"f"} for other in beside)
        if is_fixed:
            expression = rf"\d{{{width}}}"
        is_short = field in MAY_BE_SHORT and not is_fixed
        return f"(?P<{field}>{expression})", [[Piece("digits", field, width, may_be_short=is_short)]]
    group = f"(?P<{field}>{expression})"
    if field == "fraction":
        return group, [[Piece("fraction")]]
    if field == "month_name":
        return group, [[Piece("month", "month", 3)]]
    return group, [[Piece("half", "half", 2)] if field == "half" else None]


def _extended(form: list[Piece] | None, pieces: list[Piece] | None) -> list[Piece] | None:
    return None if form is None or pieces is None else [*form, *pieces]


def _widths(form: Sequence[Piece], width: int) -> Iterator[tuple[int, ...]]:
    spare = width - sum(piece.width for piece in form if piece.kind != "fraction")
    if any(piece.kind == "fraction" for piece in form):
        if spare > 0:
            yield tuple(spare if piece.kind == "fraction" else piece.width for piece in form)
        return
    places = [place for place, piece in enumerate(form) if piece.may_be_short]
    if -len(places) <= spare <= 0:
        for chosen in combinations(places, -spare):
            yield tuple(piece.width - (place in chosen) for place, piece in enumerate(form))


def _spans(form: Sequence[Piece], widths: Sequence[int]) -> tuple[Span, ...]:
    starts = [sum(widths[:place]) for place in range(len(widths))]
    return tuple(Span(*one) for one in zip(form, starts, widths, strict=True))


def _text(allowed: bytes) -> Piece:
    return Piece("text", allowed=allowed)


OFFSET = [Piece("sign", "sign"), Piece("digits", "zone_hour", 2)]
ZONE_FORMS: tuple[list[Piece], ...] = (
    [Piece("text", "utc", allowed=b"zZ")],
    [*OFFSET, Piece("digits", "zone_minute", 2)],
    [*OFFSET, _text(b":"), Piece("digits", "zone_minute", 2)],
)


def _iso() -> TimePattern:
    """ISO 8601, with what is often written for it: slashes, a blank for the T, single digits, a comma."""
    # A date that begins with its year can be read in one way only.
    regex = (
        r"^(?P<year>\d{4})[-/](?P<month>\d{1,2})[-/](?P<day>\d{1,2})"
        r"(?:(?:[Tt]|\s+)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?)?"
        rf" ?{ZONE}?$"
    )
    date = [
        Piece("digits", "year", 4),
        _text(b"-/"),
        Piece("digits", "month", 2, may_be_short=True),
        _text(b"-/"),
        Piece("digits", "day", 2, may_be_short=True),
    ]
    hour = [_text(b"Tt "), Piece("digits", "hour", 2, may_be_short=True)]
    minutes = [*date, *hour, _text(b":"), Piece("digits", "minute", 2)]
    seconds = [*minutes, _text(b":"), Piece("digits", "second", 2)]
    fractions = [*seconds, _text(b".,"), Piece("fraction")]
    zones: list[list[Piece]] = [[], *ZONE_FORMS]
    # A zone right after the digits of a fraction or of a date is told apart by its first byte.
    forms = product((seconds, fractions, minutes, date), zones)
    return TimePattern(regex, tuple((*form, *zone) for form, zone in forms))


ISO = _iso()
