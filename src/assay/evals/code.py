"""Python code as part of an experiment: finding it by reference, and telling one state of it from another."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from assay.errors import ConfigError, DatasetError
from assay.evals.dataset import plain
from assay.types import JSON

_MAX_DEPTH: Final = 4


def load(reference: str, *, base: Path | None = None) -> Any:
    """What `path/to/file.py:name` or `package.module:name` refers to; paths start at `base`.

    Raises ConfigError that says what is missing, or what the file itself raised.
    """
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not name:
        raise ConfigError(f"{reference!r} is not of the form file.py:name or package.module:name")
    module = _from_file((base or Path.cwd()) / place) if place.endswith(".py") else _imported(place)
    try:
        return getattr(module, name)
    except AttributeError as error:
        names = [
            other for other, value in vars(module).items() if callable(value) and not other.startswith("_")
        ]
        raise ConfigError(
            f"{place} has no {name!r} (it has: {', '.join(names[:20]) or 'nothing'})"
        ) from error


def code_name(code: Callable[..., Any]) -> str:
    """`module:name` of a function, or of the class of a callable object."""
    named = code if hasattr(code, "__qualname__") else type(code)
    return f"{getattr(named, '__module__', 'builtins')}:{named.__qualname__}"


def short_name(code: Callable[..., Any]) -> str:
    """The last part of its name, for people."""
    while isinstance(code, partial):
        code = code.func
    return code_name(code).rpartition(":")[2].rpartition(".")[2]


def code_identity(code: Callable[..., Any]) -> dict[str, JSON]:
    """What tells this state of the code from others: name, digest of the source, the values it carries along.

    Carried along are defaults, closed-over values, bound arguments and the attributes of an object. Not seen
    are module-level values and what other functions do: begin an experiment `fresh` after changing those.
    """
    return _identity(code, _MAX_DEPTH)


def _identity(code: Any, depth: int) -> dict[str, JSON]:
    if isinstance(code, partial):
        bound = {**{str(place): value for place, value in enumerate(code.args)}, **code.keywords}
        return {**_identity(code.func, depth - 1), "bound": _values(bound, depth)}
    if inspect.ismethod(code):
        return {**_identity(code.__func__, depth - 1), "object": _values(_attributes(code.__self__), depth)}
    if inspect.isfunction(code):
        inner: Any = inspect.unwrap(code)
        return {"code": code_name(code), "source": _source(inner), "carries": _values(_carried(inner), depth)}
    if hasattr(code, "__qualname__"):
        return {"code": code_name(code), "source": _source(code)}
    return {
        "code": code_name(code),
        "source": _source(type(code)),
        "object": _values(_attributes(code), depth),
    }


def _carried(function: FunctionType) -> dict[str, Any]:
    """Closed-over values by name, defaults by place or name."""
    values: dict[str, Any] = {str(place): value for place, value in enumerate(function.__defaults__ or ())}
    values |= function.__kwdefaults__ or {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        # A cell is empty while the function around it has not assigned to it yet.
        with suppress(ValueError):
            values[name] = cell.cell_contents
    return values


def _values(values: Mapping[str, Any], depth: int) -> JSON:
    return {name: _value(value, depth - 1) for name, value in sorted(values.items())}


def _value(value: Any, depth: int) -> JSON:
    """JSON as it is, code by its identity, anything else by its type alone."""
    with suppress(DatasetError):
        return plain(value, "value")
    if depth > 0 and (inspect.isroutine(value) or isinstance(value, partial)):
        return _identity(value, depth)
    if isinstance(value, type):
        return code_name(value)
    return f"a {type(value).__module__}.{type(value).__qualname__}"


def _attributes(found: Any) -> dict[str, Any]:
    return dict(getattr(found, "__dict__", {}))


def _source(code: Any) -> str:
    """A digest of the source and of what it was compiled to: two lambdas in one line share their source."""
    try:
        source = inspect.getsource(code)
    except (OSError, TypeError):
        source = ""
    compiled = _compiled(getattr(code, "__code__", None))
    return blake2b(f"{source}\n{compiled}".encode(), digest_size=16).hexdigest()


def _compiled(value: object) -> object:
    """Instructions, names and constants, without what differs between processes (addresses, set order)."""
    match value:
        case CodeType():
            return value.co_code, value.co_names, _compiled(value.co_consts)
        case tuple():
            return tuple(_compiled(one) for one in value)
        case frozenset():
            return sorted(repr(one) for one in value)
        case _:
            return value


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"The module {name} cannot be imported: {error}") from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"There is no file {path}")
    name = "assay_file_" + blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickling look a module up by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"{path} failed while it was read: {type(error).__name__}: {error}") from error
    return module
