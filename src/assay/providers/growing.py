"""A JSON object that comes in pieces, as the arguments of a tool call do: where it ends, whether it is whole.

Every character is looked at once, however often one asks.
"""

from __future__ import annotations

import re

import msgspec

_OUTSIDE = re.compile(r'["{}\[\]]')
_INSIDE = re.compile(r'["\\]')


def is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (ValueError, RecursionError):
        return False


class ObjectEnd:
    """Finds the brace that closes a JSON object.

    >>> end = ObjectEnd()
    >>> [end.find(piece) for piece in ('{"a": ', '"}", "b": {', '}} and more')]
    [None, None, 2]
    """

    __slots__ = ("_depth", "_escaped", "_string")

    def __init__(self) -> None:
        self._depth = 0
        self._string = self._escaped = False

    def find(self, piece: str) -> int | None:
        """The length of `piece` that belongs to the object, where it ends in there."""
        at = 1 if self._escaped and piece else 0
        self._escaped = self._escaped and not piece
        while (found := (_INSIDE if self._string else _OUTSIDE).search(piece, at)) is not None:
            at = found.end()
            match found[0]:
                case '"':
                    self._string = not self._string
                case "\\":
                    self._escaped = at == len(piece)
                    at += 1
                case "{" | "[":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if self._depth <= 0:
                        return at
        return None


class GrowingObject:
    """The text of an object, as far as it has come."""

    __slots__ = ("_end", "_ended", "_pieces", "_whole")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._end = ObjectEnd()
        self._ended = False
        self._whole: bool | None = False

    def add(self, piece: str) -> None:
        self._pieces.append(piece)
        rest = piece
        if not self._ended and (length := self._end.find(piece)) is not None:
            self._ended, self._whole = True, None
            rest = piece[length:]
        if self._ended and rest.strip():
            self._whole = False

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def whole(self) -> bool:
        """Whether it is a JSON object, complete."""
        if self._whole is None:
            self._whole = is_object(self.text)
        return self._whole
