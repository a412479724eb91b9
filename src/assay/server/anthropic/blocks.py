"""The blocks of a streamed reply, each as it grows. Which block's turn it is, .stream decides.

A block is made by the first delta of its part. `whole` says whether it may end where it is, `kinds` which
deltas may go on with it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from assay.providers.anthropic.vocabulary import made_up_id
from assay.providers.growing import GrowingObject
from assay.server.anthropic.reply import (
    ENCODE,
    Body,
    call_block,
    citations,
    opaque_block,
    require_function,
    text_block,
)
from assay.types import OpaqueDelta, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta


def sse(name: str, body: Body) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + ENCODE({"type": name, **body}) + b"\n\n"


class Writer:
    """Numbers the blocks of one reply."""

    __slots__ = ("index",)

    def __init__(self) -> None:
        self.index = -1

    def start(self, block: Body) -> bytes:
        self.index += 1
        return sse("content_block_start", {"index": self.index, "content_block": block})

    def delta(self, kind: str, **fields: Any) -> bytes:
        return sse("content_block_delta", {"index": self.index, "delta": {"type": kind, **fields}})

    def stop(self) -> bytes:
        return sse("content_block_stop", {"index": self.index})


class TextBlock:
    __slots__ = ("_head", "_writer", "part")
    kinds = (TextDelta, RefusalDelta)
    whole = True

    def __init__(self, writer: Writer, event: TextDelta | RefusalDelta) -> None:
        self.part = event.part
        self._writer = writer
        self._head = b""

    def say(self, event: Any) -> bytes:
        said = (b"" if self._head else self._begin()) + self.text(event.text)
        for note in citations(event.annotations) if isinstance(event, TextDelta) else ():
            said += self._writer.delta("citations_delta", citation=note)
        return said

    def _begin(self) -> bytes:
        said = self._writer.start(text_block("", []))
        index = str(self._writer.index).encode()
        self._head = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":'
            + index
            + b',"delta":{"type":"text_delta","text":'
        )
        return said

    def text(self, text: str) -> bytes:
        return self._head + ENCODE(text) + b"}}\n\n" if text else b""

    def close(self) -> bytes:
        return self._writer.stop()


class ThoughtBlock:
    """Begins with the first readable word or signature; what is encrypted is a block of its own, behind."""

    __slots__ = ("_begun", "_encrypted", "_writer", "part")
    kinds = (ReasoningDelta,)
    whole = True

    def __init__(self, writer: Writer, event: ReasoningDelta) -> None:
        self.part = event.part
        self._writer = writer
        self._begun = False
        self._encrypted: str | None = None

    def say(self, event: Any) -> bytes:
        self._encrypted = event.encrypted or self._encrypted
        text = event.text or event.summary
        if not text and not event.signature:
            return b""
        said = b""
        if not self._begun:
            self._begun = True
            said = self._writer.start({"type": "thinking", "thinking": "", "signature": ""})
        if text:
            said += self._writer.delta("thinking_delta", thinking=text)
        if event.signature:
            said += self._writer.delta("signature_delta", signature=event.signature)
        return said

    def close(self) -> bytes:
        said = self._writer.stop() if self._begun else b""
        if self._encrypted:
            said += self._writer.start({"type": "redacted_thinking", "data": self._encrypted})
            said += self._writer.stop()
        return said


class CallBlock:
    """A call is whole once its arguments are a JSON object."""

    __slots__ = ("_arguments", "_begin", "_writer", "part")
    kinds = (ToolCallDelta,)

    def __init__(self, writer: Writer, event: ToolCallDelta, reply_id: str) -> None:
        require_function(event.kind, event.name or "")
        self.part = event.part
        self._writer = writer
        self._arguments = GrowingObject()
        id_ = event.id or made_up_id(reply_id, event.part)
        self._begin = writer.start(call_block(id_, event.name or "", event.signature))

    @property
    def whole(self) -> bool:
        return self._arguments.whole

    def say(self, event: Any) -> bytes:
        said, self._begin = self._begin, b""
        if event.arguments:
            self._arguments.add(event.arguments)
            said += self._writer.delta("input_json_delta", partial_json=event.arguments)
        return said

    def close(self) -> bytes:
        return self._writer.stop()


class OpaqueBlock:
    """The input of a server's tool comes as that of a caller's tool does; anything else comes at once."""

    __slots__ = ("_writer", "part")
    kinds = (OpaqueDelta,)
    whole = True

    def __init__(self, writer: Writer, event: OpaqueDelta) -> None:
        self.part = event.part
        self._writer = writer

    def say(self, event: Any) -> bytes:
        body = opaque_block(event.body)
        given = body.get("input")
        if not isinstance(given, dict):
            return self._writer.start(body)
        said = self._writer.start({**body, "input": {}})
        return said + self._writer.delta("input_json_delta", partial_json=ENCODE(given).decode())

    def close(self) -> bytes:
        return self._writer.stop()


Block: TypeAlias = TextBlock | ThoughtBlock | CallBlock | OpaqueBlock
