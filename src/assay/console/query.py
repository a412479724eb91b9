"""Reading the query of a page's address. What is wrong with it is a RequestError, shown as a page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request

from assay.errors import RequestError
from assay.types import Value

Item = TypeVar("Item")


class Piece(Value, Generic[Item]):
    """A part of a long list: `start` counts from 0 in the `total`; the addresses of the parts beside it."""

    items: tuple[Item, ...]
    start: int
    total: int
    newer: str | None
    older: str | None


def piece(items: Sequence[Item], start: int, size: int, link: Callable[[int], str]) -> Piece[Item]:
    """The `size` items from `start` on, else the first ones; `link` gives the address of a start.

    >>> part = piece("abcde", 2, 2, lambda start: f"/?start={start}")
    >>> part.items, part.newer, part.older
    (('c', 'd'), '/?start=0', '/?start=4')
    """
    start = start if start < len(items) else 0
    end = start + size
    return Piece(
        items=tuple(items[start:end]),
        start=start,
        total=len(items),
        newer=link(max(0, start - size)) if start else None,
        older=link(end) if end < len(items) else None,
    )


def text(request: Request, name: str) -> str | None:
    """A value, without white space at its ends; None when it is empty or not there."""
    return (request.query_params.get(name) or "").strip() or None


def number(request: Request, name: str) -> int | None:
    """A whole number from 0 on. Raises RequestError for anything else."""
    value = text(request, name)
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) < 19):
        raise RequestError(f"{name} is {value!r} in the address of this page; it must be a whole number")
    return int(value)


def choice(request: Request, name: str, allowed: Collection[str]) -> str | None:
    """One of a few values. Raises RequestError for any other."""
    value = text(request, name)
    if value is not None and value not in allowed:
        raise RequestError(f"{name} is {value!r} in the address of this page; it can be {', '.join(allowed)}")
    return value


def link(path: str, **values: object) -> str:
    """An address on this site, with those of `values` that are not None.

    >>> link("/traces", model="a b", status=None)
    '/traces?model=a+b'
    """
    given = {name: str(value) for name, value in values.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path
