"""llama.cpp's chunks as canonical events. They are chat-completion chunks, so one decoder serves both.

What is llama.cpp's alone is handled here: chunks that tell its progress while it reads the prompt, its error
for a full context, a path in place of the model's name, which stop sequence it met, and the check of replies
that must keep to a schema or call a tool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from assay.errors import ContextExceeded
from assay.providers.local.calls import CallReader
from assay.providers.local.form import Form
from assay.providers.openai_chat.stream import ChatStream
from assay.types import Delta, Event, Finish, Finished, Request, Started, TextDelta, replace


class _Full(msgspec.Struct):
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None


class _Progress(msgspec.Struct):
    total: int | None = None


class _Stopped(msgspec.Struct):
    stop_type: str = ""
    stopping_word: str = ""


class _Chunk(msgspec.Struct):
    """What the decoder of chat completions does not know."""

    error: _Full | None = None
    prompt_progress: _Progress | None = None
    verbose: _Stopped | None = msgspec.field(name="__verbose", default=None)


_DECODE = msgspec.json.Decoder(_Chunk).decode


class Reply:
    """The decoder of one call."""

    def __init__(self, provider: str, request: Request, form: Form, dropped: tuple[str, ...] = ()) -> None:
        self._provider = provider
        self._model = request.model
        self._dropped = dropped
        self._held = form.held
        self._calls = CallReader(form.calling) if form.calling else None
        self._bare_logprobs = request.sampling.top_logprobs == 0
        self._stops = bool(request.sampling.stop)
        self._stopped: str | None = None
        self._stream = ChatStream()
        self._started: Started | None = None
        self._id = ""

    def feed(self, chunk: str) -> Iterator[Event]:
        """Raises ContextExceeded, llama.cpp's other complaints, or BadResponse for what is not a chunk."""
        try:
            events = self._stream.feed("", chunk)
        except ContextExceeded as error:
            raise _too_long(chunk, error) from error
        if self._stops and '"stopping_word"' in chunk:
            told = _DECODE(chunk).verbose
            self._stopped = told.stopping_word if told and told.stop_type == "word" else None
        yield from self._translated(events)

    def end(self) -> Iterator[Event]:
        """The stream is over. Raises BadResponse when it was cut off, UnsupportedFeature (see Held.check)."""
        yield from self._translated(self._stream.end())

    def _translated(self, events: Sequence[Event]) -> Iterator[Event]:
        """Started waits for what follows it: an error at the first token comes before any event."""
        for event in events:
            if isinstance(event, Started):
                self._id = event.id
                self._started = replace(
                    event, model=self._model, provider=self._provider, extra=None, dropped=self._dropped
                )
                continue
            for said in self._said(event):
                if self._started is not None:
                    yield self._started
                    self._started = None
                yield said

    def _said(self, event: Event) -> Iterator[Event]:
        match event:
            case TextDelta():
                yield from map(self._checked, self._calls.feed(event, self._id) if self._calls else [event])
            case Finished():
                finish = event.finish
                if self._stopped is not None:
                    finish = Finish("stop_sequence", finish.raw, self._stopped)
                if self._calls is not None:
                    deltas, finish = self._calls.finish(finish)
                    yield from map(self._checked, deltas)
                if self._held is not None:
                    self._held.check(whole=finish.reason == "stop")
                yield replace(event, finish=finish)
            case _:
                yield event

    def _checked(self, delta: Delta) -> Delta:
        if not isinstance(delta, TextDelta):
            return delta
        if self._held is not None:
            self._held.add(delta.text)
        if not self._bare_logprobs:
            return delta
        return replace(delta, logprobs=tuple(replace(item, top=()) for item in delta.logprobs))


def prompt_tokens(chunk: str) -> int | None:
    """The length of the prompt, where a chunk tells it: as progress, or because it is too long."""
    try:
        told = _DECODE(chunk)
    except ValueError:
        return None
    if told.prompt_progress is not None:
        return told.prompt_progress.total
    return told.error.n_prompt_tokens if told.error else None


def _too_long(chunk: str, error: ContextExceeded) -> ContextExceeded:
    full = _DECODE(chunk).error
    if full is None or full.n_ctx is None:
        return error
    return ContextExceeded(
        f"The request has {full.n_prompt_tokens} tokens and the local model takes {full.n_ctx} a call; "
        "shorten it, or raise context_tokens of its provider in assay.toml (it is shared by the slots)",
        param="messages",
    )
