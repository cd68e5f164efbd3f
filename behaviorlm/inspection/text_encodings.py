"""Which encoding the bytes of a text are in, where they do not say so themselves."""

import codecs
import re

from behaviorlm.events.encodings import MARKS
from behaviorlm.inspection.choices import Choice

WIDE = ("utf-16-le", "utf-16-be")
EAST_ASIAN = ("gb18030", "shift_jis", "euc_jp", "euc_kr", "big5")
MUCH = 0.15
"""Share of kana or hangul in a text of that language at least (our choice)."""
_HIGH = re.compile(rb"[\x80-\xff]+")
_HAN = re.compile("[\u4e00-\u9fff]")
_KANA, _HANGUL = re.compile("[\u3041-\u30ff]"), re.compile("[\uac00-\ud7a3]")
_OWN_SCRIPTS = {"shift_jis": _KANA, "euc_jp": _KANA, "euc_kr": _HANGUL}
_CYRILLIC = re.compile("[\u0410-\u044f\u0401\u0451]")


def decoded(raw: bytes) -> tuple[str, Choice | None]:
    """The text of the first bytes of a file, and the encoding to name; None where the bytes or UTF-8 say it.

    The bytes may end inside of a character.
    """
    for mark, name in MARKS:
        if raw.startswith(mark):
            return _text(raw[len(mark) :], name, errors="replace") or "", None
    nulls = [raw[start:4096:2].count(0) for start in (1, 0)]
    if max(nulls) > len(raw[:4096]) / 8:
        name = WIDE[nulls.index(max(nulls))]
        return _text(raw, name, errors="replace") or "", Choice(
            "encoding", name, "NUL bytes between the letters"
        )
    text = _text(raw, "utf-8")
    if text is not None:
        return text, None
    return _by_signs(raw)


def _by_signs(raw: bytes) -> tuple[str, Choice]:
    runs = [len(run) for run in _HIGH.findall(raw)]
    others = ["cp1250 (Central European)", "latin-1"]
    if sum(length for length in runs if length > 1) > 0.6 * sum(runs):
        asian = max(EAST_ASIAN, key=lambda name: _east_asian_share(raw, name))
        if _east_asian_share(raw, asian) > 0.9:
            rest = tuple(name for name in EAST_ASIAN if name != asian)
            return _chosen(raw, asian, "its bytes are characters of East Asia in it", rest)
        cyrillic = _text(raw, "cp1251", errors="replace") or ""
        if len(_CYRILLIC.findall(cyrillic)) > 0.9 * sum(runs):
            return _chosen(raw, "cp1251", "its bytes are Cyrillic words in it", ("koi8-r", "cp866"))
    name = "cp1252" if _text(raw, "cp1252") is not None else "latin-1"
    return _chosen(raw, name, "not UTF-8; single letters with accents are common in it", tuple(others))


def _chosen(raw: bytes, name: str, reason: str, others: tuple[str, ...]) -> tuple[str, Choice]:
    text = _text(raw, name, errors="replace") or ""
    accented = next(iter(re.findall(r"\w*[^\W\x00-\x7f]\w*", text)), "")
    shown = f" (such as {accented!r})" if accented else ""
    return text, Choice("encoding", name, f"{reason}{shown}", others)


def _text(raw: bytes, name: str, errors: str = "strict") -> str | None:
    try:
        return codecs.getincrementaldecoder(name)(errors).decode(raw)
    except UnicodeDecodeError:
        return None


def _east_asian_share(raw: bytes, name: str) -> float:
    """How much of what is not ASCII is common where the encoding is used; its own script counts double."""
    text = _text(raw, name)
    if text is None:
        return 0.0
    found = "".join(sign for sign in text if sign >= "\x80")
    own = _OWN_SCRIPTS.get(name)
    of_own = len(own.findall(found)) if own is not None else 0
    is_used = of_own > MUCH * len(found)  # a few come by chance
    return (len(_HAN.findall(found)) + 2 * of_own * is_used) / len(found) if found else 0.0
