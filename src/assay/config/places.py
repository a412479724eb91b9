"""Where in a file a mistake is, and the shape of its tables: keys and types. What values may be: .checks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import msgspec

from assay.errors import ConfigError
from assay.types import Value


class Places:
    """Finds the line of a key, for error messages only."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()

    def error(self, keys: tuple[str, ...], problem: str) -> ConfigError:
        line = self.line(keys)
        where = f"{self.path}:{line}" if line else f"{self.path}"
        return ConfigError(f"{where}: {'.'.join(keys) or 'the file'}: {problem}")

    def line(self, keys: tuple[str, ...]) -> int | None:
        table: tuple[str, ...] = ()
        best: int | None = None
        depth = 0
        for number, text in enumerate(self.lines, 1):
            stripped = text.strip()
            if stripped.startswith("["):
                table = _split_key(stripped.strip("[]").split("]")[0])
                current = table
            elif "=" in stripped and not stripped.startswith("#"):
                current = (*table, *_split_key(stripped.split("=", 1)[0]))
            else:
                continue
            shared = 0
            for ours, theirs in zip(keys, current, strict=False):
                if ours != theirs:
                    break
                shared += 1
            if shared in (len(current), len(keys)) and shared > depth:
                depth, best = shared, number
        return best


def _split_key(text: str) -> tuple[str, ...]:
    pieces = re.findall(r'"([^"]*)"|\'([^\']*)\'|([A-Za-z0-9_-]+)', text)
    return tuple(next(group for group in piece if group) if any(piece) else "" for piece in pieces)


def check_keys(raw: Mapping[str, Any], kind: type[Value], keys: tuple[str, ...], place: Places) -> None:
    """Unknown keys, wrong shapes and wrong values one by one, so that the message can name the full key."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name, value in raw.items():
        here = (*keys, name)
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise place.error(here, f"unknown key{hint} (allowed here: {', '.join(fields)})")
        wanted = fields[name].type
        table = _table_type(wanted)
        if table is None:
            _check_type(value, wanted, here, place)
            continue
        nested, many = table
        if not isinstance(value, Mapping):
            raise place.error(here, f"expected a table, got {_toml_type(value)}")
        if not many:
            check_keys(value, nested, here, place)
            _check_present(value, nested, here, place)
            continue
        for inner, item in value.items():
            if not isinstance(item, Mapping):
                raise place.error((*here, inner), f"expected a table, got {_toml_type(item)}")
            check_keys(item, nested, (*here, inner), place)
            _check_present(item, nested, (*here, inner), place)


def _check_present(raw: Mapping[str, Any], kind: type[Value], keys: tuple[str, ...], place: Places) -> None:
    required = [field.encode_name for field in msgspec.structs.fields(kind) if field.required]
    if missing := [field for field in required if field not in raw]:
        raise place.error(keys, f"the key {missing[0]} is missing")


def _table_type(wanted: Any) -> tuple[type[Value], bool] | None:
    if isinstance(wanted, type) and issubclass(wanted, Value):
        return wanted, False
    args = get_args(wanted)
    if len(args) == 2 and args[1] is NoneType:
        return _table_type(args[0])
    if len(args) == 2 and isinstance(args[1], type) and issubclass(args[1], Value):
        return args[1], True
    return None


def _check_type(value: Any, wanted: Any, keys: tuple[str, ...], place: Places) -> None:
    try:
        msgspec.convert(value, wanted, strict=True)
    except msgspec.ValidationError as error:
        choices = [str(choice) for choice in get_args(wanted) if isinstance(choice, str)]
        if choices:
            raise place.error(keys, f"{value!r} is not one of {', '.join(choices)}") from error
        message = str(error).split(" - at ")[0]
        raise place.error(keys, f"{message[0].lower()}{message[1:]}") from error


def _toml_type(value: object) -> str:
    names = {str: "a string", bool: "a boolean", int: "an integer", float: "a float", list: "an array"}
    return names.get(type(value), type(value).__name__)
