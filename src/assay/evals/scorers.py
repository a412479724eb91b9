r"""Scorers that compute: exact, includes, regex, JSON, numbers, Python functions. Models judge in .judge.

Each factory gives a `Scorer`. Those that look for what an example expects leave examples without `expected`
unscored. How the command line spells them is assay.evals.catalogue's.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import sys
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn, TypeAlias

import anyio.to_thread
import jsonschema_rs

from assay.errors import ConfigError
from assay.evals.code import code_identity, short_name
from assay.evals.dataset import Example
from assay.evals.score import Score, text_of
from assay.types import JSON, Context, replace

Finding: TypeAlias = tuple[bool | None, str]
"""Passed, failed or unscored (None), and why."""
Check: TypeAlias = Callable[[JSON, Example], Finding]
Judgement: TypeAlias = Score | bool | float | None
ScoreFunction: TypeAlias = Callable[[Any, Example], Judgement | Awaitable[Judgement]]

_UNEXPECTED: Final[Finding] = (None, "the example has no 'expected'")
_SHOWN: Final = 80


@dataclass(frozen=True)
class Rule:
    """A pass/fail scorer that is a pure function of output and example."""

    name: str
    identity: JSON
    check: Check = field(repr=False, compare=False)
    on_error: float | None = 0.0
    immediate: bool = True

    async def score(self, output: JSON, example: Example, context: Context) -> Score:
        found, reason = self.check(output, example)
        return Score(self.name, None if found is None else float(found), reason)


def exact(*, ignore_case: bool = False, name: str = "exact") -> Rule:
    """The output is what is expected, but for white space at its ends; where JSON is expected, equal JSON."""

    def check(output: JSON, example: Example) -> Finding:
        wanted = example.expected
        if wanted is None:
            return _UNEXPECTED
        if not isinstance(wanted, str):
            same = any(_same(value, wanted) for value in _json_of(output))
            return same, "" if same else f"expected {_shown(wanted)}"
        got, want = text_of(output).strip(), wanted.strip()
        if ignore_case:
            got, want = got.casefold(), want.casefold()
        return got == want, "" if got == want else f"expected {_shown(wanted)}"

    return Rule(name, {"scorer": "exact", "ignore_case": ignore_case}, check)


def includes(
    *, ignore_case: bool = True, words: bool = False, every: bool = False, name: str = "includes"
) -> Rule:
    """The output contains what is expected; of a list, any one (or `every`) of its texts.

    White space counts as one space, typographic quotes and dashes as plain ones. A number is not found
    inside a longer one: "5 days" is not in "15 days". `words` wants whole words on both sides.
    """

    def check(output: JSON, example: Example) -> Finding:
        wanted = example.expected
        if wanted is None:
            return _UNEXPECTED
        alternatives = wanted if isinstance(wanted, list) else [wanted]
        texts = [normalised(text_of(one), ignore_case) for one in alternatives]
        if not texts or not all(texts):
            return None, "the example's 'expected' is empty"
        heard = normalised(text_of(output), ignore_case)
        missing = [text for text in texts if not _contains(heard, text, words)]
        passed = not missing if every else len(missing) < len(texts)
        return passed, "" if passed else f"does not contain {' or '.join(_shown(text) for text in missing)}"

    options = {"ignore_case": ignore_case, "words": words, "every": every}
    return Rule(name, {"scorer": "includes", **options}, check)


def regex(pattern: str | None = None, *, name: str = "regex") -> Rule:
    """The pattern is found in the output; without one, `expected` is the pattern.

    Raises ConfigError for a pattern that does not compile.
    """
    given = None if pattern is None else _compiled(pattern)

    def check(output: JSON, example: Example) -> Finding:
        wanted = given
        if wanted is None:
            if not isinstance(example.expected, str):
                return None, "the example's 'expected' is not a pattern"
            wanted = _compiled(example.expected)
        passed = wanted.search(text_of(output)) is not None
        return passed, "" if passed else f"no match for {_shown(wanted.pattern)}"

    return Rule(name, {"scorer": "regex", "pattern": pattern}, check)


def json_valid(*, name: str = "json_valid") -> Rule:
    """The output is one JSON value and nothing else."""

    def check(output: JSON, example: Example) -> Finding:
        passed = bool(_json_of(output))
        return passed, "" if passed else "not JSON"

    return Rule(name, {"scorer": "json_valid"}, check)


def json_schema(schema: Mapping[str, JSON], *, name: str = "json_schema") -> Rule:
    """The output is JSON that keeps to a JSON Schema. Raises ConfigError when `schema` is none."""
    try:
        validator = jsonschema_rs.validator_for(dict(schema), retriever=_not_fetched)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise ConfigError(f"Not a valid JSON Schema: {str(error).splitlines()[0]}") from error

    def check(output: JSON, example: Example) -> Finding:
        found = _json_of(output)
        if not found:
            return False, "not JSON"
        for error in validator.iter_errors(found[0]):
            where = ".".join(str(part) for part in error.instance_path) or "the output"
            return False, f"{where}: {error.message[:300]}"
        return True, ""

    return Rule(name, {"scorer": "json_schema", "schema": dict(schema)}, check)


def numeric(
    *,
    absolute: float = 0.0,
    relative: float = 1e-9,
    which: Literal["last", "first", "any"] = "last",
    name: str = "numeric",
) -> Rule:
    """A number in the output is the expected one, within `absolute` or `relative` (0.01 is 1%) of it.

    `1,234.5`, `$30`, `-2`, `1e3` and `50%` (as 50) are numbers. Of several, the last is taken as the answer,
    unless `which` says otherwise. An `expected` without a number leaves the example unscored.
    """
    if not (absolute >= 0 and relative >= 0):
        raise ConfigError(f"A tolerance cannot be below 0 (absolute {absolute}, relative {relative})")

    def check(output: JSON, example: Example) -> Finding:
        wanted = numbers_in(example.expected)
        if len(wanted) != 1:
            return None, f"the example's 'expected' is not one number: {_shown(example.expected)}"
        found = numbers_in(output)
        if not found:
            return False, "no number in the output"
        tried = found if which == "any" else [found[-1 if which == "last" else 0]]
        passed = any(_near(one, wanted[0], absolute, relative) for one in tried)
        return passed, f"found {', '.join(f'{one:g}' for one in tried)}; expected {wanted[0]:g}"

    options = {"absolute": absolute, "relative": relative, "which": which}
    return Rule(name, {"scorer": "numeric", **options}, check)


@dataclass(frozen=True)
class Function:
    """A Python function as a scorer; see `function_scorer`."""

    name: str
    identity: JSON
    call: ScoreFunction = field(repr=False, compare=False)
    on_error: float | None = 0.0
    immediate: bool = False

    async def score(self, output: JSON, example: Example, context: Context) -> Score:
        if inspect.iscoroutinefunction(self.call):
            found: object = await self.call(output, example)
        else:
            # In a thread, since a slow function would hold up, and so lengthen, the calls that are timed.
            found = await anyio.to_thread.run_sync(self.call, output, example)
            if inspect.isawaitable(found):
                found = await found
        match found:
            case Score():
                return replace(found, name=self.name)
            case None:
                return Score(self.name, None, "the function gave None")
            case bool() | int() | float() if math.isfinite(found):
                return Score(self.name, float(found))
            case float():
                return Score(self.name, None, f"the function gave {found}")
            case _:
                raise TypeError(
                    f"the scorer {self.name} gave a {type(found).__name__}; "
                    "give True, False, a number, a Score or None"
                )


def function_scorer(
    call: ScoreFunction, *, name: str | None = None, on_error: float | None = 0.0
) -> Function:
    """Any function (output, example) as a scorer. It may be async; a plain one runs in a thread.

    It gives True, False, a number (higher is better), a Score, or None for unscored.
    """
    identity = {"scorer": "python", **code_identity(call)}
    return Function(name or short_name(call), identity, call, on_error)


# --- what outputs say ----------------------------------------------------------------------------

_TYPOGRAPHY: Final = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-", "‑": "-"}
)
_NUMBER: Final = re.compile(
    r"(?<![A-Za-z_\d])(?<!\d[.,])(?P<sign>[-+−](?=[\d.$€£]))?[$€£]?"
    r"(?P<digits>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?P<exponent>[eE][-+]?\d{1,3}(?!\d))?"
)


def normalised(text: str, ignore_case: bool) -> str:
    """Text for comparing: compatibility forms, quotes, dashes and white space made plain.

    >>> normalised("We  don’t\\nknow", True)
    "we don't know"
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).translate(_TYPOGRAPHY).split())
    return plain.casefold() if ignore_case else plain


def numbers_in(value: JSON) -> list[float]:
    """The finite numbers in a text, in order; of a number, itself.

    >>> numbers_in("From $1,234.50 down to -3 in 10-20 days, 2e3 in all.")
    [1234.5, -3.0, 10.0, 20.0, 2000.0]
    """
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return [float(value)] if abs(value) < 1e300 else []
    found = []
    for match in _NUMBER.finditer(text_of(value)):
        digits = match["digits"].replace(",", "") + (match["exponent"] or "")
        number = float(digits)
        if math.isfinite(number):
            found.append(-number if match["sign"] in ("-", "−") else number)
    return found


def _contains(heard: str, wanted: str, words: bool) -> bool:
    before = r"(?<!\w)" if words else r"(?<!\d)(?<!\d[.,])" if wanted[0].isdigit() else ""
    after = r"(?!\w)" if words else r"(?![.,]?\d)" if wanted[-1].isdigit() else ""
    return re.search(before + re.escape(wanted) + after, heard) is not None


def _json_of(output: JSON) -> list[JSON]:
    """The one JSON value that an output is or spells out; empty when it spells none."""
    if not isinstance(output, str):
        return [output]
    try:
        return [json.loads(output, parse_constant=_not_json)]
    except (ValueError, RecursionError):
        return []


def _same(one: JSON, other: JSON) -> bool:
    """Equal JSON: 1 and 1.0 are, 1 and true are not."""
    match one, other:
        case bool() | None, _:
            return one is other
        case dict(), dict():
            return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
        case list(), list():
            return len(one) == len(other) and all(map(_same, one, other))
        case _:
            return not isinstance(other, bool) and bool(one == other)


def _near(one: float, other: float, absolute: float, relative: float) -> bool:
    # 1.1 is within 0.1 of 1, though the difference of the two floats is a little more.
    rounding = 4 * sys.float_info.epsilon * max(abs(one), abs(other))
    return abs(one - other) <= max(absolute, relative * abs(other)) + rounding


def _not_json(name: str) -> NoReturn:
    raise ValueError(name)


def _not_fetched(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not fetched; put the schema under $defs and point to '#/$defs/...'")


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"The pattern {pattern!r} does not compile: {error}") from error


def _shown(value: JSON) -> str:
    text = text_of(value)
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
