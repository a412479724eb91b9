"""How scorers are written in one line, such as `includes` or `polite=judge:rubric.md`. What they do: scorers.

    exact[:ignore-case]                     includes[:case,words,all]          regex[:PATTERN]
    numeric[:0.01 | 1%][,first|last|any]    json_valid                         json_schema:SCHEMA.json
    python:FILE.py:NAME                     judge:RUBRIC.md

`name=` before it names its scores; two scorers of one experiment need different names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, cast

import msgspec

from assay.errors import ConfigError
from assay.evals import scorers
from assay.evals.code import load
from assay.evals.judge import Judge
from assay.evals.score import Scorer
from assay.types import Handler


@dataclass(frozen=True)
class Bench:
    """What scorers may need: the folder that files are named from, and how a judge is reached."""

    base: Path = field(default_factory=Path.cwd)
    call: Handler | None = None
    judge_model: str | None = None


Factory: TypeAlias = Callable[[str, str, Bench], Scorer]
"""(name, what stands after the colon, bench) -> the scorer. Raises ConfigError."""


def scorer(line: str, bench: Bench | None = None) -> Scorer:
    """The scorer that a line describes. Raises ConfigError that says what is allowed.

    >>> scorer("numeric:0.01").name, scorer("year=numeric:1%,first").identity["relative"]
    ('numeric', 0.01)
    """
    named = re.match(r"([A-Za-z][\w-]*)=(.+)", line, re.DOTALL)
    name, rest = (named[1], named[2]) if named else ("", line)
    kind, _, argument = rest.partition(":")
    factory = SCORERS.get(kind)
    if factory is None:
        near = difflib.get_close_matches(kind, SCORERS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"There is no scorer {kind!r}; {hint}there are: {', '.join(SCORERS)}")
    return factory(name or kind, argument, bench or Bench())


def scorers_of(lines: Iterable[str], bench: Bench | None = None) -> tuple[Scorer, ...]:
    """The scorers of several lines, with different names. Raises ConfigError."""
    found = tuple(scorer(line, bench) for line in lines)
    check_names(found)
    return found


def check_names(found: Collection[Scorer]) -> None:
    """Raises ConfigError when there is no scorer, or two have one name."""
    if not found:
        raise ConfigError(f"At least one scorer is needed; there are: {', '.join(SCORERS)}")
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Two scorers are called {name!r}; name one of them, as in 'other={name}'")


def _exact(name: str, argument: str, bench: Bench) -> Scorer:
    chosen = _options("exact", argument, {"ignore-case"})
    return scorers.exact(name=name, ignore_case="ignore-case" in chosen)


def _includes(name: str, argument: str, bench: Bench) -> Scorer:
    chosen = _options("includes", argument, {"case", "words", "all"})
    return scorers.includes(
        name=name, ignore_case="case" not in chosen, words="words" in chosen, every="all" in chosen
    )


def _regex(name: str, argument: str, bench: Bench) -> Scorer:
    return scorers.regex(argument or None, name=name)


def _numeric(name: str, argument: str, bench: Bench) -> Scorer:
    absolute, relative, which = 0.0, 1e-9, "last"
    for part in filter(None, argument.split(",")):
        if part in ("first", "last", "any"):
            which = part
        elif number := re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(%?)", part):
            value = float(number[1])
            absolute, relative = (absolute, value / 100) if number[2] else (value, relative)
        else:
            raise ConfigError(
                f"numeric: {part!r} is not a tolerance (0.01, or 1%) and not one of first, last, any"
            )
    chosen = cast("Literal['last', 'first', 'any']", which)
    return scorers.numeric(name=name, absolute=absolute, relative=relative, which=chosen)


def _json_valid(name: str, argument: str, bench: Bench) -> Scorer:
    _options("json_valid", argument, set())
    return scorers.json_valid(name=name)


def _json_schema(name: str, argument: str, bench: Bench) -> Scorer:
    text = _file("json_schema", argument, "SCHEMA.json", bench)
    try:
        schema = msgspec.json.decode(text, type=dict)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{argument}: not a JSON object: {error}") from error
    return scorers.json_schema(schema, name=name)


def _python(name: str, argument: str, bench: Bench) -> Scorer:
    found = load(argument, base=bench.base)
    if isinstance(found, Scorer):
        return found
    if not callable(found):
        raise ConfigError(f"{argument} is a {type(found).__name__}; a scorer is a function (output, example)")
    return scorers.function_scorer(found, name=None if name == "python" else name)


def _judge(name: str, argument: str, bench: Bench) -> Scorer:
    rubric = _file("judge", argument, "RUBRIC.md", bench)
    if bench.call is None or bench.judge_model is None:
        raise ConfigError(f"judge:{argument} needs a model; name one with --judge-model")
    return Judge(rubric, bench.judge_model, bench.call, name)


SCORERS: dict[str, Factory] = {
    "exact": _exact,
    "includes": _includes,
    "regex": _regex,
    "numeric": _numeric,
    "json_valid": _json_valid,
    "json_schema": _json_schema,
    "python": _python,
    "judge": _judge,
}
"""Names and what makes the scorer; plugins add theirs."""


def _options(kind: str, argument: str, allowed: set[str]) -> set[str]:
    chosen = set(filter(None, argument.split(",")))
    if unknown := sorted(chosen - allowed):
        raise ConfigError(
            f"{kind} has no option {unknown[0]!r}; it has: {', '.join(sorted(allowed)) or 'none'}"
        )
    return chosen


def _file(kind: str, argument: str, example: str, bench: Bench) -> str:
    if not argument:
        raise ConfigError(f"{kind} needs a file: {kind}:{example}")
    try:
        return (bench.base / argument).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{kind}: the file {bench.base / argument} cannot be read: {reason}") from error
