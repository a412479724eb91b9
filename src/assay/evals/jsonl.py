"""Datasets as files: one JSON object a line. What an example is, assay.evals.dataset says.

Keys: `input` (any JSON, required), `expected` (any JSON), `metadata` (an object), `cluster` (a text). Blank
lines, a byte order mark and Windows line ends are fine. Nothing else is: a mistake is an error with file and
line, since a case that is dropped in silence changes the result.
"""

from __future__ import annotations

import difflib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from assay.errors import DatasetError
from assay.evals.dataset import Dataset, Example, kind_of
from assay.types import JSON

SUFFIX: Final = ".jsonl"
KEYS: Final = ("input", "expected", "metadata", "cluster")
_BOM: Final = b"\xef\xbb\xbf"
_encode = msgspec.json.Encoder().encode


def read_dataset(path: Path, name: str | None = None) -> Dataset:
    """The dataset in a file, by default named like it. Raises DatasetError with file and line."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise DatasetError(f"There is no dataset file {path}{_siblings(path)}") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); check what it is") from error
    return parse_dataset(raw, name or path.name.removesuffix(SUFFIX), str(path))


def parse_dataset(raw: bytes, name: str, file: str) -> Dataset:
    """The dataset in the bytes of a file; `file` is what errors call it.

    >>> len(parse_dataset(b'{"input": "1+1", "expected": "2"}', "sums", "sums.jsonl"))
    1
    """
    lines: dict[str, int] = {}
    examples = []
    for number, line in _lines(raw, file):
        where = f"{file}:{number}"
        example = _example(line, where)
        if (earlier := lines.setdefault(example.id, number)) != number:
            raise DatasetError(f"{where}: the same example as in line {earlier}; remove one of them")
        examples.append(example)
    if not examples:
        raise DatasetError(
            f'{file}: no examples; write one a line, such as {{"input": "...", "expected": "..."}}'
        )
    return Dataset(name, tuple(examples))


def write_dataset(path: Path, examples: Iterable[Example]) -> None:
    """Writes a file that `read_dataset` gives back; at every moment it is the old one or the new one, whole.

    Raises DatasetError when it cannot be written.
    """
    text = b"".join(_encode(example) + b"\n" for example in examples)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be written ({error.strerror}); check the folder and the disk"
        ) from error


def _lines(raw: bytes, file: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(raw.removeprefix(_BOM).split(b"\n"), 1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DatasetError(
                f"{file}:{number}: byte {error.start + 1} (0x{line[error.start]:02x}) is not UTF-8; "
                "save the file as UTF-8"
            ) from error
        if text.strip():
            yield number, text


def _example(line: str, where: str) -> Example:
    fields = _json(line, where)
    if not isinstance(fields, dict):
        hint = "; write one object a line, without [ ] around them" if isinstance(fields, list) else ""
        raise DatasetError(f"{where}: expected an object with {_allowed()}, got {kind_of(fields)}{hint}")
    for key in fields:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            hint = f"did you mean {near[0]!r}?" if near else "put what is your own into 'metadata'"
            raise DatasetError(f"{where}: unknown key {key!r}; {hint} (allowed: {_allowed()})")
    if "input" not in fields:
        raise DatasetError(f"{where}: 'input' is missing (allowed: {_allowed()})")
    for optional in ("metadata", "cluster"):
        if optional in fields and fields[optional] is None:
            del fields[optional]
    try:
        return Example(**fields)
    except DatasetError as error:
        raise DatasetError(f"{where}: {error.message}") from error


def _json(line: str, where: str) -> JSON:
    # Not msgspec: a key that is given twice must not win over the other in silence.
    try:
        return json.loads(line, object_pairs_hook=_object, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        hint = ""
        if line.strip() == "[":
            hint = "; write one object a line, without [ ] around them"
        raise DatasetError(f"{where}: not valid JSON: {error.msg} at column {error.colno}{hint}") from error
    except RecursionError as error:
        raise DatasetError(f"{where}: nests too deep; flatten it") from error
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is given twice; remove one")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; give a finite number or null")


def _allowed() -> str:
    return ", ".join(KEYS)


def _siblings(path: Path) -> str:
    names = sorted(str(file) for file in path.parent.glob(f"*{SUFFIX}")) if path.parent.is_dir() else []
    if not names:
        return f"; write one example a line, with the keys {_allowed()}"
    near = difflib.get_close_matches(str(path), names, 1)
    return f"; did you mean {near[0]}?" if near else f" (there: {', '.join(names[:10])})"
