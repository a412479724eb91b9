"""Replies as chat completions, whole or as server-sent events. Errors in place of a reply live in .errors.

What OpenAI requires and may be null is null (`content`, `refusal`, `logprobs`); what it may leave out is left
out.
Reasoning goes out as `reasoning_content`, as other servers of this API send it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, assert_never

import msgspec

from assay.errors import AssayError, UnsupportedFeature
from assay.providers.openai_chat.vocabulary import DIALECT, DONE, finish_to, logprobs_to, usage_to
from assay.server.dialect import ServerSentEvents
from assay.server.openai_chat.errors import encode_error
from assay.server.openai_chat.parse import Options
from assay.types import (
    Audio,
    AudioDelta,
    Choice,
    Completed,
    Ended,
    Event,
    Extra,
    Finished,
    Inline,
    Message,
    OpaqueDelta,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Response,
    Started,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    WireData,
    stream_of,
)

Body: TypeAlias = dict[str, Any]

_ENCODE = msgspec.json.Encoder().encode
_END = b"data: " + DONE.encode() + b"\n\n"

# --- whole ---------------------------------------------------------------------------------------


def encode_response(response: Response) -> bytes:
    """A `chat.completion`. Raises UnsupportedFeature for a part that the API has no place for."""
    body: Body = {
        "id": response.id,
        "object": "chat.completion",
        "created": response.created_s,
        "model": response.model,
        "choices": [_choice(choice, number) for number, choice in enumerate(response.choices)],
    }
    if response.usage is not None:
        body["usage"] = usage_to(response.usage)
    body.update(_own(response.extra))
    return _ENCODE(body)


def dropped(response: Response) -> tuple[str, ...]:
    """What a chat completion has no place for, and what nobody is misled without: signatures."""
    return tuple(
        f"choices[{number}].message.parts[{index}].signature"
        for number, choice in enumerate(response.choices)
        for index, part in enumerate(choice.message.parts)
        if (isinstance(part, Text) and part.signature is not None)
        or (isinstance(part, Reasoning) and (part.signature is not None or part.encrypted is not None))
    )


def _own(extra: Extra | None) -> Body:
    """What an OpenAI upstream said beyond the canonical types; other dialects' fields have no name here."""
    return dict(extra.fields) if extra is not None and extra.dialect == DIALECT else {}


def _choice(choice: Choice, number: int) -> Body:
    return {
        "index": number,
        "message": _message(choice.message),
        "logprobs": _logprobs(choice.logprobs, choice.message),
        "finish_reason": finish_to(choice.finish),
    }


def _logprobs(logprobs: tuple[TokenLogprob, ...], message: Message) -> Body | None:
    if not logprobs:
        return None
    tokens = logprobs_to(logprobs)
    if any(isinstance(part, Refusal) for part in message.parts) and not message.text:
        return {"content": None, "refusal": tokens}
    return {"content": tokens, "refusal": None}


def _message(message: Message) -> Body:
    texts: list[str] = []
    refusals: list[str] = []
    thoughts: list[str] = []
    annotations: list[Any] = []
    calls: list[Body] = []
    audio: Body | None = None
    for part in message.parts:
        match part:
            case Text():
                texts.append(part.text)
                annotations.extend(part.annotations)
            case Refusal():
                refusals.append(part.text)
            case Reasoning():
                thoughts.append(part.text or "\n\n".join(part.summary))
            case ToolCall():
                calls.append(_whole_call(part))
            case Audio():
                audio = _whole_audio(part)
            case _:
                raise _unsupported(type(part).__name__)
    silent = bool(calls or refusals or audio)
    body: Body = {
        "role": "assistant",
        "content": "".join(texts) if texts or not silent else None,
        "refusal": "".join(refusals) if refusals else None,
        "annotations": annotations,
    }
    if reasoning := "".join(thoughts):
        body["reasoning_content"] = reasoning
    if audio is not None:
        body["audio"] = audio
    if calls:
        body["tool_calls"] = calls
    return body


def _whole_call(call: ToolCall) -> Body:
    words = _call_words(call.kind, call.name, call.arguments)
    return {"id": call.id, "type": call.kind, call.kind: words, **_signature(call.signature)}


def _call_words(kind: Literal["function", "custom"], name: str | None, arguments: str) -> Body:
    written = {"arguments" if kind == "function" else "input": arguments}
    return written if name is None else {"name": name, **written}


def _signature(signature: str | None) -> Body:
    return {} if signature is None else {"extra_content": {"google": {"thought_signature": signature}}}


def _whole_audio(audio: Audio) -> Body:
    data = audio.source.data if isinstance(audio.source, Inline) else b""
    return {
        "id": audio.id or "",
        "data": b64encode(data).decode(),
        "expires_at": audio.expires_at_s or 0,
        "transcript": audio.transcript or "",
    }


def _unsupported(kind: str) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"The reply holds a part of type {kind}, for which chat completions have no place; "
        "call this model through its own API"
    )


# --- streamed ------------------------------------------------------------------------------------


class StreamEncoder(ServerSentEvents):
    """Server-sent events for the events of one reply. `encode` gives b"" for what has nothing to say.

    >>> encoder = StreamEncoder()
    >>> for event in [Started("c1", "m"), TextDelta("Hi")]:
    ...     print(encoder.encode(event).decode().count("data:"))
    0
    2
    """

    __slots__ = ("_calls", "_choices", "_common", "_head", "_include_usage", "_tail")

    def __init__(self, options: Options = Options()) -> None:  # noqa: B008  (a frozen value)
        self._include_usage = options.include_usage
        self._common: Body = {}
        self._head = self._tail = b""
        self._choices: set[int] = set()
        self._calls: dict[tuple[int, int], tuple[int, Literal["function", "custom"]]] = {}

    def encode(self, event: Event) -> bytes:
        """Raises UnsupportedFeature for a part that the API has no place for."""
        match event:
            case TextDelta():
                return self._delta(event.choice, _text_delta(event), event.logprobs)
            case Started():
                self._start(event)
                return b""
            case ToolCallDelta():
                return self._delta(event.choice, {"tool_calls": [self._call(event)]})
            case ReasoningDelta():
                return self._reasoning(event)
            case RefusalDelta():
                return self._delta(event.choice, {"refusal": event.text}, event.logprobs)
            case AudioDelta():
                return self._delta(event.choice, {"audio": _audio_delta(event)})
            case OpaqueDelta():
                raise _unsupported(f"{event.body.dialect} {type(event.body).__name__}")
            case Finished():
                opening = self._role(event.choice, "")
                return opening + self._chunk(event.choice, {}, None, finish_to(event.finish))
            case Ended():
                return self._usage(event) + _END
            case WireData(data):
                return self.wire(data)
            case Completed():
                return self._whole(stream_of(event.response))
            case _:
                assert_never(event)

    def error(self, error: AssayError) -> bytes:
        """The last event of a stream that failed: no [DONE] follows, so that nobody takes it for whole."""
        _, body = encode_error(error)
        return b"data: " + body + b"\n\n"

    def _whole(self, events: Iterable[Event]) -> bytes:
        return b"".join(self.encode(event) for event in events)

    def _start(self, started: Started) -> None:
        """Every chunk begins and ends alike: only the choice in the middle is written anew."""
        self._common = {
            "id": started.id,
            "object": "chat.completion.chunk",
            "created": started.created_s,
            "model": started.model,
            **_own(started.extra),
        }
        self._head = _head(self._common)
        self._tail = b'],"usage":null}\n\n' if self._include_usage else b"]}\n\n"

    def _chunk(
        self, choice: int, delta: Body, logprobs: tuple[TokenLogprob, ...] | None, finish_reason: str | None
    ) -> bytes:
        told = None
        if logprobs:
            refused = "refusal" in delta
            tokens = logprobs_to(logprobs)
            told = {"content": None if refused else tokens, "refusal": tokens if refused else None}
        body = {"index": choice, "delta": delta, "logprobs": told, "finish_reason": finish_reason}
        return self._head + _ENCODE(body) + self._tail

    def _delta(self, choice: int, delta: Body, logprobs: tuple[TokenLogprob, ...] = ()) -> bytes:
        chunk = self._chunk(choice, delta, logprobs, None)
        if choice in self._choices:
            return chunk
        return self._role(choice, "" if "content" in delta else None) + chunk

    def _role(self, choice: int, content: str | None) -> bytes:
        """The chunk that opens a choice, once."""
        if choice in self._choices:
            return b""
        self._choices.add(choice)
        opening = {"role": "assistant", "content": content, "refusal": None}
        return self._chunk(choice, opening, None, None)

    def _reasoning(self, event: ReasoningDelta) -> bytes:
        text = event.text or event.summary or ""
        return self._delta(event.choice, {"reasoning_content": text}) if text else b""

    def _call(self, event: ToolCallDelta) -> Body:
        key = (event.choice, event.part)
        known = self._calls.get(key)
        if known is not None:
            number, kind = known
            return {
                "index": number,
                kind: _call_words(kind, None, event.arguments),
                **_signature(event.signature),
            }
        number = sum(1 for choice, _ in self._calls if choice == event.choice)
        self._calls[key] = (number, event.kind)
        return {
            "index": number,
            "id": event.id or "",
            "type": event.kind,
            event.kind: _call_words(event.kind, event.name or "", event.arguments),
            **_signature(event.signature),
        }

    def _usage(self, ended: Ended) -> bytes:
        """The chunk without choices; none when the caller did not ask, or nobody knows."""
        if not self._include_usage or ended.usage is None:
            return b""
        head = _head({**self._common, **_own(ended.extra)})
        return head + b'],"usage":' + _ENCODE(usage_to(ended.usage)) + b"}\n\n"


def _head(common: Body) -> bytes:
    return b"data: " + _ENCODE(common)[:-1] + b',"choices":['


def _text_delta(event: TextDelta) -> Body:
    if not event.annotations:
        return {"content": event.text}
    return {"content": event.text, "annotations": event.annotations}


def _audio_delta(event: AudioDelta) -> Body:
    body: Body = {}
    if event.id is not None:
        body["id"] = event.id
    if event.data:
        body["data"] = b64encode(event.data).decode()
    if event.transcript:
        body["transcript"] = event.transcript
    if event.expires_at_s is not None:
        body["expires_at"] = event.expires_at_s
    return body
