"""A conversation as the API wants it: a system prompt, user and assistant by turns. Blocks live in .blocks.

The API takes one user turn between two assistant turns, with all tool results first in it. A system message
in the midst of a conversation stays where it is said, so that the prefix before it is still found in the
cache: models that take one get it right behind the user turn it stands with, others as a text in that turn.
"""

from __future__ import annotations

from collections.abc import Sequence

from assay.errors import RequestError
from assay.providers.anthropic.blocks import (
    Body,
    assistant_block,
    content,
    text_block,
    tool_result,
    unsupported,
    user_block,
)
from assay.providers.anthropic.vocabulary import DIALECT, takes_system_turns
from assay.providers.translation import Drops
from assay.types import Extra, Message, Opaque, Reasoning, Text, ToolCall, ToolResult

_THOUGHTS = ("thinking", "redacted_thinking")


class Turns:
    """Collects the turns of one conversation. `system` and `messages` are the request's fields."""

    def __init__(self, messages: Sequence[Message], model: str, drops: Drops) -> None:
        self._drops = drops
        self._in_place = takes_system_turns(model)
        self._turns: list[Body] = []
        # What was said since the last assistant turn.
        self._results: list[Body] = []
        self._said: list[Body] = []
        self._orders: list[Body] = []
        self._fields: Body = {}
        self._order_fields: Body = {}
        leading = 0
        while leading < len(messages) and messages[leading].role in {"system", "developer"}:
            leading += 1
        first: list[Body] = []
        for number, turn in enumerate(messages):
            drops.enter(f"messages[{number}]")
            if turn.name is not None:
                drops.add(".name")
            if number < leading:
                self._leave(turn.extra)
                first.extend(self._system(turn))
            elif turn.role == "assistant":
                self._assistant(turn)
            else:
                self._user(turn)
        self._flush()
        drops.enter("")
        if not self._turns:
            raise RequestError(
                "Anthropic needs a message beside the system prompt; add a user message", param="messages"
            )
        self.system = content(first) if first else None

    @property
    def messages(self) -> list[Body]:
        return [{**turn, "content": content(turn["content"])} for turn in self._turns]

    @property
    def unthought(self) -> bool:
        """Whether the conversation stands amid tool calls of a turn without a thought that this API may read.

        Models that think by a budget refuse to go on with such a turn while they shall think.
        """
        calling = False
        for turn in reversed(self._turns):
            kinds = [str(block.get("type")) for block in turn["content"]]
            if turn["role"] == "assistant":
                if any(kind in _THOUGHTS for kind in kinds):
                    return False
                if "tool_use" not in kinds:
                    break
                calling = True
            elif turn["role"] == "user" and "tool_result" not in kinds:
                break
        return calling

    def _system(self, turn: Message) -> list[Body]:
        blocks = []
        for number, part in enumerate(turn.parts):
            match part:
                case Text():
                    block = text_block(part, f".parts[{number}]", self._drops)
                case Opaque(dialect="anthropic", body=dict() as fields):
                    block = fields
                case _:
                    raise unsupported(part, f"a {turn.role} message")
            if block is not None:
                blocks.append(block)
        return blocks

    def _leave(self, extra: Extra | None) -> None:
        """Fields of a system message that is none on the wire."""
        if extra is not None and extra.dialect == DIALECT:
            for name in extra.fields:
                self._drops.add(f".{name}")
        else:
            self._drops.take({}, extra, "")

    def _user(self, turn: Message) -> None:
        if turn.role in {"system", "developer"}:
            if self._in_place:
                self._orders.extend(self._system(turn))
                self._drops.take(self._order_fields, turn.extra, "")
            else:
                self._said.extend(self._system(turn))
                self._leave(turn.extra)
            return
        for number, part in enumerate(turn.parts):
            where = f".parts[{number}]"
            if isinstance(part, ToolResult):
                self._results.append(tool_result(part, where, self._drops))
            elif (block := user_block(part, where, self._drops)) is not None:
                self._said.append(block)
        self._drops.take(self._fields, turn.extra, "")

    def _assistant(self, turn: Message) -> None:
        parts = list(enumerate(turn.parts))
        calls = [place for place, (_, part) in enumerate(parts) if isinstance(part, ToolCall)]
        if calls:
            # The API thinks before it calls; thoughts behind the last call are out of their place.
            late = [item for item in parts[calls[-1] :] if isinstance(item[1], Reasoning)]
            parts = late + [item for item in parts if item not in late]
        blocks = [
            block
            for number, part in parts
            if (block := assistant_block(part, f".parts[{number}]", self._drops)) is not None
        ]
        fields: Body = {}
        self._drops.take(fields, turn.extra, "")
        if not blocks:
            return
        self._flush()
        if self._turns and self._turns[-1]["role"] == "assistant":
            self._turns[-1]["content"].extend(blocks)
        else:
            self._turns.append({"role": "assistant", "content": blocks, **fields})

    def _flush(self) -> None:
        """The user turn that was being collected, and behind it what the system said meanwhile."""
        said = self._results + self._said
        after_user = bool(said) or self._ends_in_server_tool()
        if self._orders and not after_user:
            said = self._orders
        if said:
            self._turns.append({"role": "user", "content": said, **self._fields})
        if self._orders and after_user:
            self._turns.append({"role": "system", "content": self._orders, **self._order_fields})
        self._results, self._said, self._orders = [], [], []
        self._fields, self._order_fields = {}, {}

    def _ends_in_server_tool(self) -> bool:
        """The one assistant turn behind which a system message may stand."""
        if not self._turns or self._turns[-1]["role"] != "assistant":
            return False
        kind = str(self._turns[-1]["content"][-1].get("type"))
        return kind == "server_tool_use" or (kind.endswith("_tool_result") and kind != "tool_result")
