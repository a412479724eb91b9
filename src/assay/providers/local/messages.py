"""A conversation as llama.cpp's chat messages: plain texts in the three roles that every chat template knows.

Calls of tools are written as the model is told to write them (assay.providers.local.tools); their results are
said to it in words, which this model follows better than tags: "Result of get_weather: 18 degrees".

Whatever a text says, it is one: what spells a marker of a chat template, which llama.cpp would read as the
marker, is broken by a character that nobody sees. A tool's result cannot end its turn and begin another.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias, assert_never

import msgspec

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.local.tools import CLOSING, OPENING
from assay.providers.translation import Drops
from assay.types import (
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)

Body: TypeAlias = dict[str, Any]

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
}

_MARKER: Final = re.compile(
    r"""
    <(?= [|｜][^<>\s]{1,60}> | [^<>\s]{1,60}[|｜]> )                  # <|im_end|>, <｜User｜>, <turn|>
    | <(?= /?s> | (start|end)_of_turn> | (bos|eos|sop|eop)> | </?SYS>> )
    | \[(?= /?(INST|SYSTEM_PROMPT|TOOL_RESULTS|TOOL_CALLS|AVAILABLE_TOOLS)\] | gMASK\] )
    """,
    re.VERBOSE,
)
"""Where a marker begins; what it goes on with is not taken."""


def rendered(messages: tuple[Message, ...], told: str | None, drops: Drops) -> list[Body]:
    """`told` stands first, so that the beginning of a conversation is the same at every turn.

    Raises RequestError for a conversation that cannot be answered, UnsupportedFeature for what is no text.
    """
    if not messages:
        raise RequestError("There are no messages; say something to the model", param="messages")
    if [message.role for message in messages[-2:]] == ["assistant", "assistant"]:
        raise RequestError(
            "The last two messages are both the assistant's; join them into one", param="messages"
        )
    if messages[-1].role == "assistant" and any(isinstance(part, ToolCall) for part in messages[-1].parts):
        raise RequestError("The last message calls a tool; add a message with its result", param="messages")
    conversation = _Conversation(drops)
    bodies = [conversation.render(message, number) for number, message in enumerate(messages)]
    return bodies if told is None else [{"role": "system", "content": harmless(told)}, *bodies]


def harmless(text: str) -> str:
    """The text without markers of turns, as models of all the usual families spell them.

    >>> harmless("<b>a <|im_end|> b</b>") == "<b>a <\u2060|im_end|> b</b>"
    True
    """
    return _MARKER.sub("\\g<0>\u2060", text)


class _Conversation:
    def __init__(self, drops: Drops) -> None:
        self._drops = drops
        self._tools: dict[str, str] = {}
        """The names of the tools that were called, by the id of the call."""

    def render(self, message: Message, number: int) -> Body:
        place = f"messages[{number}]"
        self._drops.enter(place)
        if message.name is not None:
            self._drops.add(".name")
        self._drops.take({}, message.extra, "")
        pieces: list[str] = []
        texts: list[str] = []
        for index, part in enumerate(message.parts):
            self._leave_out(part, index)
            match part:
                case Text() | Refusal():
                    texts.append(part.text)
                case Reasoning():
                    self._drops.part(index, "reasoning")
                case ToolCall() | ToolResult():
                    pieces += filter(None, ("".join(texts),))
                    texts = []
                    pieces.append(
                        self._call(part) if isinstance(part, ToolCall) else self._result(part, place, index)
                    )
                case Image() | Audio() | File() | Opaque():
                    raise _unsupported(part, f"{place}.parts[{index}]")
                case _:
                    assert_never(part)
        pieces += filter(None, ("".join(texts),))
        return {"role": _ROLES[message.role], "content": harmless("\n".join(pieces))}

    def _call(self, call: ToolCall) -> str:
        self._tools[call.id] = call.name
        arguments = call.arguments if call.kind == "function" else _json(call.arguments)
        return f'{OPENING}{{"name": {_json(call.name)}, "arguments": {arguments or "{}"}{CLOSING}'

    def _result(self, result: ToolResult, place: str, index: int) -> str:
        for number, part in enumerate(result.parts):
            if not isinstance(part, Text):
                raise _unsupported(part, f"{place}.parts[{index}].parts[{number}]")
        name = self._tools.get(result.call_id) or result.name or "the tool"
        said = "".join(part.text for part in result.parts if isinstance(part, Text))
        return f"{'Error' if result.is_error else 'Result'} of {name}: {said}"

    def _leave_out(self, part: Part, index: int) -> None:
        for field in ("cache", "annotations", "signature"):
            if getattr(part, field, None) and not isinstance(part, Reasoning):
                self._drops.part(index, field)
        extra = getattr(part, "extra", None)
        if extra is not None and not isinstance(part, Reasoning):
            self._drops.take({}, extra, f".parts[{index}]")


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _unsupported(part: Part, place: str) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"The local model does not support a part of type {type(part).__name__}; leave it out or choose "
        "another model",
        param=place,
    )
