"""A reply as the server-sent events of the Responses API, written as it comes.

An item is announced, grows, and is told whole when it is done; the last event holds the whole response. A
text is done when something else begins. Calls go on side by side, so they are done when the reply is.
"""

from __future__ import annotations

import re
from typing import Any, Literal, TypeAlias, assert_never

import msgspec

from assay.errors import AssayError, RateLimited, RequestError, UnsupportedFeature
from assay.providers.openai_responses.vocabulary import citation, finish_to, tokens_to
from assay.server.dialect import ServerSentEvents
from assay.server.openai_chat.errors import encode_error
from assay.server.openai_responses.output import (
    Body,
    Ids,
    call_item,
    call_type,
    message_item,
    reasoning_item,
    seal,
    text_part,
    unsupported,
)
from assay.server.openai_responses.parse import Options
from assay.server.openai_responses.reply import ENCODE, Head
from assay.types import (
    AudioDelta,
    Completed,
    Ended,
    Event,
    Extra,
    Finish,
    Finished,
    OpaqueDelta,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    WireData,
    stream_of,
)

_NO_TOKENS = b',"logprobs":[],"sequence_number":'
_SEQUENCE = re.compile(rb'"sequence_number":\s*(\d+)')


class _Text:
    """One content part of a message, growing."""

    def __init__(self, index: int, kind: Literal["output_text", "refusal"]) -> None:
        self.index = index
        self.kind = kind
        self.pieces: list[str] = []
        self.annotations: list[Body] = []
        self.tokens: list[TokenLogprob] = []
        self.head = b""

    def body(self) -> Body:
        text = "".join(self.pieces)
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return text_part(text, self.annotations, self.tokens)


class _Message:
    """A message, growing: `texts` are its parts, the last of which is open."""

    def __init__(self, index: int, item_id: str) -> None:
        self.index = index
        self.id = item_id
        self.texts: list[_Text] = []
        self.part = -1
        self.closed = False

    def head(self, text: _Text) -> bytes:
        """What every delta of a text begins with, up to its words."""
        if not text.head:
            common = {"type": "response.output_text.delta", **_at(self, text)}
            text.head = b'event: response.output_text.delta\ndata: %b,"delta":' % ENCODE(common)[:-1]
        return text.head


class _Thought:
    def __init__(self, index: int, item_id: str) -> None:
        self.index = index
        self.id = item_id
        self.text: list[str] = []
        self.summary: list[str] = []
        self.signature: str | None = None
        self.encrypted: str | None = None
        self.closed = False


class _Call:
    def __init__(self, index: int, item_id: str, delta: ToolCallDelta) -> None:
        self.index = index
        self.id = item_id
        self.kind = delta.kind
        self.call_id = delta.id or ""
        self.name = delta.name or ""
        self.pieces: list[str] = []
        self.signature: str | None = None
        self.closed = False

    def item(self, arguments: str, status: str) -> Body:
        return call_item(self.id, self.kind, self.call_id, self.name, arguments, self.signature, status)


_Item: TypeAlias = _Message | _Thought | _Call


class StreamEncoder(ServerSentEvents):
    """Server-sent events for the events of one reply.

    >>> encoder = StreamEncoder()
    >>> for event in [Started("r1", "m"), TextDelta("Hi")]:
    ...     print(encoder.encode(event).decode().count("data:"))
    2
    3
    """

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self._head: Head | None = None
        self._ids = Ids("")
        self._sequence = 0
        self._output: list[Body] = []
        self._open: dict[int, _Item] = {}
        self._extra: Extra | None = None
        self._finish = Finish("other")
        self._refused = False
        self._wire = b""

    def encode(self, event: Event) -> bytes:
        """Raises UnsupportedFeature for a part that the API has no place for."""
        match event:
            case TextDelta():
                return self._say(event)
            case Started():
                return self._start(event)
            case RefusalDelta():
                self._refused = True
                return self._say(event)
            case ReasoningDelta():
                return self._think(event)
            case ToolCallDelta():
                return self._call(event)
            case OpaqueDelta():
                return self._opaque(event)
            case AudioDelta():
                raise UnsupportedFeature(
                    "The reply holds sound, for which the Responses API has no place; "
                    "call this model through its own API"
                )
            case Finished():
                return self._finished(event)
            case Ended():
                return self._end(event)
            case Completed():
                return b"".join(self.encode(one) for one in stream_of(event.response))
            case WireData():
                return self.wire(event.data)
            case _:
                assert_never(event)

    def wire(self, data: bytes) -> bytes:
        """As the upstream sent it."""
        self._wire = data
        return data

    def error(self, error: AssayError) -> bytes:
        """The last event: `response.failed` where the caller has seen a response begin, else `error`."""
        if self._head is not None:
            detail = {"code": _code(error), "message": error.message}
            cut_off = {item.index for item in self._open.values() if not item.closed}
            done = [item for index, item in enumerate(self._output) if index not in cut_off]
            return self._event("response.failed", response=self._head.body("failed", done, error=detail))
        if found := _SEQUENCE.findall(self._wire):
            self._sequence = int(found[-1]) + 1
        _, body = encode_error(error)
        detail = msgspec.json.decode(body)["error"]
        # OpenAI's SDKs raise on `error`; the fields beside it are those that its reference names.
        words = {name: detail[name] for name in ("code", "message", "param")}
        return self._event("error", **words, error=detail)

    # --- beginning and end -----------------------------------------------------------------------

    def _event(self, kind: str, **fields: Any) -> bytes:
        body = {"type": kind, **fields, "sequence_number": self._sequence}
        self._sequence += 1
        return b"event: " + kind.encode() + b"\ndata: " + ENCODE(body) + b"\n\n"

    def _start(self, started: Started) -> bytes:
        self._head = Head(started.id, started.model, started.created_s, self._options)
        self._ids = Ids(started.id)
        self._extra = started.extra
        response = self._head.body("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def _finished(self, event: Finished) -> bytes:
        self._finish = event.finish
        status, _ = finish_to(event.finish, refused=self._refused)
        last = len(self._output) - 1
        ends = [
            self._close(item, "incomplete" if item.index == last and status != "completed" else "completed")
            for item in sorted(self._open.values(), key=lambda item: item.index)
        ]
        return b"".join(ends)

    def _end(self, ended: Ended) -> bytes:
        assert self._head is not None  # the grammar has Started first
        extra = ended.extra or self._extra
        response = self._head.finished(self._finish, self._output, ended.usage, extra, refused=self._refused)
        return self._event(f"response.{response['status']}", response=response)

    # --- items -----------------------------------------------------------------------------------

    def _add(self, item: Body) -> bytes:
        self._output.append(item)
        return self._event("response.output_item.added", item=item, output_index=len(self._output) - 1)

    def _complete(self, index: int, item: Body) -> bytes:
        self._output[index] = item
        return self._event("response.output_item.done", item=item, output_index=index)

    def _others(self) -> bytes:
        """Texts and thoughts end when something else begins."""
        ends = [self._close(item, "completed") for item in self._open.values() if not isinstance(item, _Call)]
        return b"".join(ends)

    def _close(self, item: _Item, status: str) -> bytes:
        if item.closed:
            return b""
        item.closed = True
        match item:
            case _Message():
                return self._close_message(item, status)
            case _Thought():
                return self._close_thought(item)
            case _Call():
                return self._close_call(item, status)
            case _:
                assert_never(item)

    # --- messages --------------------------------------------------------------------------------

    def _say(self, delta: TextDelta | RefusalDelta) -> bytes:
        known = self._open.get(delta.part)
        if isinstance(known, _Message) and known.part == delta.part and not known.closed:
            return self._grow(known, known.texts[-1], delta)
        message = next(
            (one for one in self._open.values() if isinstance(one, _Message) and not one.closed), None
        )
        if message is None:
            opened = self._others()
            message = _Message(len(self._output), self._ids.of("message", len(self._output)))
            opened += self._add(message_item(message.id, [], "in_progress"))
        else:
            opened = self._close_text(message, message.texts[-1])
        message.part = delta.part
        self._open[delta.part] = message
        kind: Literal["refusal", "output_text"] = (
            "refusal" if isinstance(delta, RefusalDelta) else "output_text"
        )
        text = _Text(len(message.texts), kind)
        message.texts.append(text)
        opened += self._event("response.content_part.added", **_at(message, text), part=text.body())
        return opened + self._grow(message, text, delta)

    def _grow(self, message: _Message, text: _Text, delta: TextDelta | RefusalDelta) -> bytes:
        if isinstance(delta, RefusalDelta):
            if not delta.text:
                return b""
            text.pieces.append(delta.text)
            return self._event("response.refusal.delta", **_at(message, text), delta=delta.text)
        if not delta.logprobs and not delta.annotations:
            # Nearly all deltas are these: the way below would write the same.
            if not delta.text:
                return b""
            text.pieces.append(delta.text)
            number, self._sequence = self._sequence, self._sequence + 1
            return b"%b%b%b%d}\n\n" % (message.head(text), ENCODE(delta.text), _NO_TOKENS, number)
        data = b""
        if delta.text or delta.logprobs:
            text.pieces.append(delta.text)
            text.tokens.extend(delta.logprobs)
            tokens = tokens_to(delta.logprobs) if delta.logprobs else []
            data = self._event(
                "response.output_text.delta", **_at(message, text), delta=delta.text, logprobs=tokens
            )
        for one in delta.annotations:
            if (found := citation(one)) is not None:
                number = len(text.annotations)
                text.annotations.append(found)
                data += self._event(
                    "response.output_text.annotation.added",
                    **_at(message, text),
                    annotation=found,
                    annotation_index=number,
                )
        return data

    def _close_text(self, message: _Message, text: _Text) -> bytes:
        part = text.body()
        if text.kind == "refusal":
            done = self._event("response.refusal.done", **_at(message, text), refusal=part["refusal"])
        else:
            done = self._event(
                "response.output_text.done",
                **_at(message, text),
                text=part["text"],
                logprobs=part["logprobs"],
            )
        return done + self._event("response.content_part.done", **_at(message, text), part=part)

    def _close_message(self, message: _Message, status: str) -> bytes:
        ends = self._close_text(message, message.texts[-1])
        content = [text.body() for text in message.texts]
        return ends + self._complete(message.index, message_item(message.id, content, status))

    # --- reasoning -------------------------------------------------------------------------------

    def _think(self, delta: ReasoningDelta) -> bytes:
        thought = self._open.get(delta.part)
        data = b""
        if not isinstance(thought, _Thought) or thought.closed:
            data = self._others()
            index = len(self._output)
            thought = _Thought(index, delta.id or self._ids.of("reasoning", index))
            self._open[delta.part] = thought
            data += self._add(reasoning_item(thought.id, "", (), None))
        if delta.summary:
            at = {"item_id": thought.id, "output_index": thought.index, "summary_index": 0}
            if not thought.summary:
                part = {"type": "summary_text", "text": ""}
                data += self._event("response.reasoning_summary_part.added", **at, part=part)
            thought.summary.append(delta.summary)
            data += self._event("response.reasoning_summary_text.delta", **at, delta=delta.summary)
        if delta.text:
            at = {"item_id": thought.id, "output_index": thought.index, "content_index": 0}
            if not thought.text:
                part = {"type": "reasoning_text", "text": ""}
                data += self._event("response.content_part.added", **at, part=part)
            thought.text.append(delta.text)
            data += self._event("response.reasoning_text.delta", **at, delta=delta.text)
        thought.signature = delta.signature if delta.signature is not None else thought.signature
        thought.encrypted = delta.encrypted if delta.encrypted is not None else thought.encrypted
        return data

    def _close_thought(self, thought: _Thought) -> bytes:
        text, summary = "".join(thought.text), "".join(thought.summary)
        data = b""
        if summary:
            at = {"item_id": thought.id, "output_index": thought.index, "summary_index": 0}
            part = {"type": "summary_text", "text": summary}
            data += self._event("response.reasoning_summary_text.done", **at, text=summary)
            data += self._event("response.reasoning_summary_part.done", **at, part=part)
        if text:
            at = {"item_id": thought.id, "output_index": thought.index, "content_index": 0}
            part = {"type": "reasoning_text", "text": text}
            data += self._event("response.reasoning_text.done", **at, text=text)
            data += self._event("response.content_part.done", **at, part=part)
        sealed = seal(thought.signature, thought.encrypted)
        item = reasoning_item(thought.id, text, (summary,) if summary else (), sealed)
        return data + self._complete(thought.index, item)

    # --- calls and the rest ----------------------------------------------------------------------

    def _call(self, delta: ToolCallDelta) -> bytes:
        call = self._open.get(delta.part)
        data = b""
        if not isinstance(call, _Call):
            data = self._others()
            index = len(self._output)
            call = _Call(index, self._ids.of(call_type(delta.kind), index), delta)
            self._open[delta.part] = call
            data += self._add(call.item("", "in_progress"))
        if delta.signature is not None:
            call.signature = delta.signature
        if delta.arguments:
            call.pieces.append(delta.arguments)
            data += self._event(
                f"{_words(call)}.delta", item_id=call.id, output_index=call.index, delta=delta.arguments
            )
        return data

    def _close_call(self, call: _Call, status: str) -> bytes:
        arguments = "".join(call.pieces)
        said = {"arguments": arguments} if call.kind == "function" else {"input": arguments}
        done = self._event(f"{_words(call)}.done", item_id=call.id, output_index=call.index, **said)
        return done + self._complete(call.index, call.item(arguments, status))

    def _opaque(self, delta: OpaqueDelta) -> bytes:
        if delta.body.dialect != "openai-responses" or not isinstance(delta.body.body, dict):
            raise unsupported(delta.body)
        data = self._others()
        index = len(self._output)
        return data + self._add(delta.body.body) + self._complete(index, delta.body.body)


def _at(message: _Message, text: _Text) -> Body:
    return {"item_id": message.id, "output_index": message.index, "content_index": text.index}


def _words(call: _Call) -> str:
    """What the events of a call's arguments are called."""
    return f"response.{'function_call_arguments' if call.kind == 'function' else 'custom_tool_call_input'}"


def _code(error: AssayError) -> str:
    """One of the words that the API has for why a response failed."""
    if isinstance(error, RateLimited):
        return "rate_limit_exceeded"
    return "invalid_prompt" if isinstance(error, RequestError) else "server_error"
