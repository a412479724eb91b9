"""Words and patterns that a configuration forbids, held to what can be searched in bounded time.

Python's regular expressions backtrack, so a careless pattern can take forever on a text that was made for it.
A pattern is taken apart before it is used: every repetition has an upper bound, nothing is looked back at or
ahead to, and the number of ways in which it may match at one place, over which backtracking goes, is bounded.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import Any, Final

from assay.errors import ConfigError
from assay.gateway.guards.window import Rule

MAX_CHARS: Final = 256
"""The longest text that a pattern may match, which is what is held back of a stream."""
MAX_WAYS: Final = 1_000
"""In how many ways a pattern may match at one place."""

_NO_LOOKING: Final = "looks around or back, which cannot be bounded; use plain groups, and \\b for words"


def words(texts: Iterable[str]) -> tuple[Rule, ...]:
    """Whole words, or phrases, in any case. Raises ConfigError for one that is empty or too long."""
    longest_first = sorted(texts, key=len, reverse=True)
    for text in longest_first:
        if not text.strip() or len(text) > MAX_CHARS:
            raise ConfigError(f"{text[:40]!r} is not a word of 1 to {MAX_CHARS} characters")
    if not longest_first:
        return ()
    start = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)
    return (Rule("denied", start, len(longest_first[0]) + 1),)


def patterns(texts: Iterable[str]) -> tuple[Rule, ...]:
    """Regular expressions. Raises ConfigError for one that is wrong, or whose cost has no bound.

    >>> patterns([r"project-\\d{1,6}"])[0].reach
    15
    >>> patterns([r"(a+)+"])
    Traceback (most recent call last):
    assay.errors.ConfigError: '(a+)+' repeats without an upper bound; write {1,64} rather than +
    """
    return tuple(map(_pattern, texts))


def _pattern(text: str) -> Rule:
    try:
        with warnings.catch_warnings():
            # What Python may come to read in another way is no pattern to rely on.
            warnings.simplefilter("error")
            start = re.compile(text)
            # What Python itself made of it: private, but the only parser that agrees with its own matcher.
            parsed = re._parser.parse(text)  # type: ignore[attr-defined]
    except (re.error, RecursionError, OverflowError, Warning) as error:
        raise ConfigError(f"{text[:60]!r} is not a regular expression: {error}") from error
    shortest, longest = parsed.getwidth()
    ways = _ways(parsed, text)
    if not shortest:
        raise ConfigError(f"{text[:60]!r} matches the empty text; make it match at least one character")
    if longest > MAX_CHARS:
        raise ConfigError(f"{text[:60]!r} may match {longest} characters, more than {MAX_CHARS}; narrow it")
    if ways > MAX_WAYS:
        raise ConfigError(
            f"{text[:60]!r} may match in {ways} ways at one place, more than {MAX_WAYS}; "
            "use fewer repetitions, narrower ones, or two patterns"
        )
    return Rule("denied", start, longest + 1)


def _ways(parsed: Any, text: str) -> int:
    """An upper bound of the ways in which backtracking may match at one place."""
    ways = 1
    for op, argument in parsed:
        ways *= _ways_of(str(op), argument, text)
        if ways > MAX_WAYS:
            return ways
    return ways


def _ways_of(op: str, argument: Any, text: str) -> int:
    match op:
        case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN" | "AT":
            return 1
        case "BRANCH":
            return sum(_ways(branch, text) for branch in argument[1])
        case "SUBPATTERN":
            return _ways(argument[-1], text)
        case "MAX_REPEAT" | "MIN_REPEAT":
            least, most, inner = argument
            if int(most) > MAX_CHARS:
                raise ConfigError(
                    f"{text[:60]!r} repeats without an upper bound; write {{1,64}} rather than +"
                )
            each, total = _ways(inner, text), 0
            for times in range(int(least), int(most) + 1):
                total += each**times
                if total > MAX_WAYS:
                    break
            return total
        case _:
            raise ConfigError(f"{text[:60]!r} {_NO_LOOKING}")
