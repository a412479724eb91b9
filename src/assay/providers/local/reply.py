"""llama.cpp's chunks as canonical events. They are chat-completion chunks, so one decoder serves both.

What is llama.cpp's alone is handled here: chunks that tell its progress while it reads the prompt, its error
for a full context, a path in place of the model's name, and the check of replies that must keep to a schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from assay.errors import ContextExceeded
from assay.providers.local.schema import Held
from assay.providers.openai_chat.stream import ChatStream
from assay.types import Event, Finished, Request, Started, TextDelta, replace


class _Full(msgspec.Struct):
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None


class _Complaint(msgspec.Struct):
    error: _Full


class Reply:
    """The decoder of one call."""

    def __init__(self, provider: str, request: Request, held: Held | None) -> None:
        self._provider = provider
        self._model = request.model
        self._held = held
        self._bare_logprobs = request.sampling.top_logprobs == 0
        self._whole = not request.sampling.stop  # a stop sequence may cut JSON anywhere
        self._stream = ChatStream()
        self._started: Started | None = None

    def feed(self, chunk: str) -> Iterator[Event]:
        """Raises ContextExceeded, llama.cpp's other complaints, or BadResponse for what is not a chunk."""
        try:
            events = self._stream.feed("", chunk)
        except ContextExceeded as error:
            raise _too_long(chunk, error) from error
        yield from self._translated(events)

    def end(self) -> Iterator[Event]:
        """The stream is over. Raises BadResponse when it was cut off, UnsupportedFeature (see Held.check)."""
        yield from self._translated(self._stream.end())

    def _translated(self, events: Sequence[Event]) -> Iterator[Event]:
        """Started waits for what follows it: an error at the first token comes before any event."""
        for event in events:
            if isinstance(event, Started):
                self._started = replace(event, model=self._model, provider=self._provider, extra=None)
                continue
            self._check(event)
            if self._started is not None:
                yield self._started
                self._started = None
            if self._bare_logprobs and isinstance(event, TextDelta):
                yield replace(event, logprobs=tuple(replace(item, top=()) for item in event.logprobs))
            else:
                yield event

    def _check(self, event: Event) -> None:
        if self._held is None:
            return
        if isinstance(event, TextDelta):
            self._held.add(event.text)
        elif isinstance(event, Finished):
            self._held.check(whole=self._whole and event.finish.reason == "stop")


def _too_long(chunk: str, error: ContextExceeded) -> ContextExceeded:
    full = msgspec.json.decode(chunk, type=_Complaint).error
    if full.n_ctx is None:
        return error
    return ContextExceeded(
        f"The request has {full.n_prompt_tokens} tokens and the local model takes {full.n_ctx} a call; "
        "shorten it, or raise context_tokens of its provider in assay.toml (it is shared by the slots)",
        param="messages",
    )
