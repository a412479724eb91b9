"""Numbers, times and texts as people read them. Pure functions; which page shows what lives elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from assay.types import JSON, Value

_FOLD_CHARACTERS = 700
_FOLD_LINES = 14
_LINE = 76
_AGES = ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (30 * 86_400, 86_400, "d"))


def duration(seconds: float) -> str:
    """A length of time in the unit that reads well.

    >>> [duration(value) for value in (0.00031, 0.0421, 2.345, 59.96, 135, 7290)]
    ['0.31 ms', '42 ms', '2.3 s', '1 min 0 s', '2 min 15 s', '2 h 1 min']
    """
    if seconds < 0.001:
        return f"{seconds * 1000:.2g} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def ago(at_ns: int, now_ns: int) -> str:
    """How long before now; after 30 days, the date.

    >>> day = 86_400 * 10**9
    >>> [ago(0, after) for after in (10**8, 5 * 10**9, 150 * 10**9, 3 * day, 90 * day)]
    ['just now', '5 s ago', '2 min ago', '3 d ago', '1970-01-01']
    """
    seconds = (now_ns - at_ns) / 1e9
    if seconds < 1:
        return "just now"
    for below, unit_s, unit in _AGES:
        if seconds < below:
            return f"{int(seconds // unit_s)} {unit} ago"
    return moment(at_ns)[:10]


def moment(at_ns: int) -> str:
    """A moment to the second, in UTC.

    >>> moment(0)
    '1970-01-01 00:00:00 UTC'
    """
    return datetime.fromtimestamp(at_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(at_ns: int) -> str:
    """A moment for `<time datetime>`, to the millisecond."""
    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat(timespec="milliseconds")


def figure(value: float, digits: int = 3) -> str:
    """A score or a mean: no more digits than say something, and a real minus sign.

    >>> [figure(value) for value in (1.0, 0.83333, -0.25, 12.5, 1e-9)]
    ['1', '0.833', '−0.25', '12.5', '0']
    """
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text.replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """A difference, with its sign.

    >>> signed(0.14), signed(-0.02), signed(0)
    ('+0.14', '−0.02', '0')
    """
    text = figure(value, digits)
    return f"+{text}" if value > 0 and text != "0" else text


def plural(count: int, noun: str, more: str | None = None) -> str:
    """A count with its noun.

    >>> plural(1, "span"), plural(1200, "span"), plural(2, "query", "queries")
    ('1 span', '1,200 spans', '2 queries')
    """
    return f"{count:,} {noun if count == 1 else more or noun + 's'}"


def readable(value: JSON) -> str:
    """Text as it is; any other JSON on a line if it is short, else laid out over lines.

    >>> readable("as it is"), readable({"a": [1, None]})
    ('as it is', '{"a": [1, null]}')
    """
    return value if isinstance(value, str) else _laid_out(msgspec.json.encode(value))


def tidy(text: str) -> str:
    """JSON in a text laid out; anything else as it is.

    >>> tidy("not json"), tidy('{"a":1}')
    ('not json', '{"a": 1}')
    """
    try:
        return _laid_out(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text


def _laid_out(encoded: bytes) -> str:
    line = msgspec.json.format(encoded, indent=0)
    return (line if len(line) <= _LINE else msgspec.json.format(encoded, indent=2)).decode()


class Folded(Value):
    """A text and, when it is long, the beginning that stands for it until somebody opens it."""

    text: str
    beginning: str | None = None


def fold(text: str, characters: int = _FOLD_CHARACTERS, lines: int = _FOLD_LINES) -> Folded:
    """Folds a text that is much longer than `characters` or `lines`.

    >>> fold("short").beginning is None, fold("word " * 1000, 12).beginning
    (True, 'word word')
    """
    start = "\n".join(text.split("\n", lines)[:lines])[:characters]
    if len(text) <= len(start) + characters // 4 and text.count("\n") < lines + 3:
        return Folded(text)
    if len(start) == characters and " " in start[characters // 2 :]:
        start = start.rpartition(" ")[0]
    return Folded(text, start.rstrip())
