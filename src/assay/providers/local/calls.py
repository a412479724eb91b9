"""A reply that is text or a call of a tool, told apart while it comes. No I/O.

What a call looks like is said in assay.providers.local.tools.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from assay.errors import UnsupportedFeature
from assay.providers.growing import ObjectEnd
from assay.providers.local.tools import CLOSING, OPENING, Callee, Calling
from assay.types import Delta, Finish, TextDelta, ToolCallDelta


class CallReader:
    """The reply of one call, fed as it comes."""

    def __init__(self, calling: Calling) -> None:
        self._calling = calling
        self._state: Literal["open", "text", "head", "arguments", "tail"] = "open"
        self._held_back: list[TextDelta] = []
        self._pending = ""
        self._callee: Callee | None = None
        self._arguments: list[str] = []
        self._end = ObjectEnd()
        self._part = 0

    def feed(self, delta: TextDelta, reply_id: str) -> list[Delta]:
        """Raises UnsupportedFeature when the reply is neither: then the grammar was not in force."""
        if self._state == "text":
            return [delta]
        self._pending += delta.text
        if self._state == "open":
            self._held_back.append(delta)
            if len(self._pending) < len(OPENING) and OPENING.startswith(self._pending):
                return []
            if not self._pending.startswith(OPENING):
                return self._as_text()
            self._state, self._part = "head", delta.part
        deltas: list[Delta] = []
        if self._state == "head":
            deltas = self._head(reply_id)
        if self._state == "arguments" and self._pending:
            length = self._end.find(self._pending)
            piece = self._pending if length is None else self._pending[:length]
            self._arguments.append(piece)
            deltas.append(ToolCallDelta(self._part, delta.choice, arguments=piece))
            self._pending = self._pending[len(piece) :]
            if length is not None:
                self._state = "tail"
        if self._state == "tail" and not CLOSING.startswith(self._pending):
            raise not_callable(self._calling)
        return deltas

    def finish(self, finish: Finish) -> tuple[list[Delta], Finish]:
        """What was held back, and why the reply ended: `tool_calls` for one that keeps to its schema.

        A call that was cut short by the limit of tokens ends for its length, as text does; any other that is
        not whole is malformed.
        """
        if self._state == "open":
            cut = finish.reason == "length" and bool(self._pending)
            return ([] if cut else self._as_text()), finish
        if self._state == "text":
            return [], finish
        if self._state == "tail" and self._valid():
            return [], Finish("tool_calls", finish.raw)
        if finish.reason == "length":
            return [], finish
        return [], Finish("malformed_tool_call", finish.raw)

    def _as_text(self) -> list[Delta]:
        if self._calling.required and self._pending:
            raise not_callable(self._calling)
        self._state = "text"
        return list(self._held_back)

    def _head(self, reply_id: str) -> list[Delta]:
        for callee in self._calling.callees:
            if self._pending.startswith(callee.head):
                self._callee = callee
                self._pending = self._pending[len(callee.head) :]
                self._state = "arguments"
                return [ToolCallDelta(self._part, id=call_id(reply_id), name=callee.name)]
        if not any(callee.head.startswith(self._pending) for callee in self._calling.callees):
            raise not_callable(self._calling)
        return []

    def _valid(self) -> bool:
        assert self._callee is not None
        try:
            value = msgspec.json.decode("".join(self._arguments))
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and self._callee.arguments.is_valid(value)


def call_id(reply_id: str) -> str:
    """The id of the one tool call of a reply: the same for the same reply, and no other's."""
    return f"call_{reply_id.removeprefix('chatcmpl-') or 0}"


def not_callable(calling: Calling, callees: tuple[Callee, ...] = ()) -> UnsupportedFeature:
    """That the reply could not be held to a call, because of the parameters of these tools (any of them)."""
    names = ", ".join(f"'{callee.name}'" for callee in callees or calling.callees)
    return UnsupportedFeature(
        f"The local model could not be held to the parameters of {names}; simplify their schemas (patterns "
        "without lookaround, alternatives that exclude each other, limits that can be met)",
        param="tools",
    )
