"""What a provider is. The wire formats live beside this file; sockets live in assay.providers.transport.

Two protocols, one seam. An `Upstream` is a Handler with a name and an end: the gateway calls nothing else.
A `WireFormat` is pure translation between the canonical types and one HTTP API, without I/O; the Upstream of
assay.providers.http joins a WireFormat to the transport. Models in this process are Upstreams themselves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from assay.errors import AssayError
from assay.types import Event, Operation, Request, Response, WireCall


class Upstream(Protocol):
    """Where calls end. `name` is the provider's name in the configuration."""

    name: str

    @property
    def dialects(self) -> Collection[str]:
        """The dialects in which a caller's own bytes are taken as they are: see `Request.wire`."""
        ...

    @property
    def problem(self) -> AssayError | None:
        """Why every call would fail, as far as that can be told without calling; None if nothing is known."""
        ...

    def __call__(self, request: Request) -> AsyncIterator[Event]:
        """Answers with events in the grammar of assay.types.events; raises AssayError, nothing else.

        `request.model` is the upstream's name for the model. Closing the iterator cancels the call.
        """
        ...

    async def aclose(self) -> None: ...


class Encoded(NamedTuple):
    """An HTTP request: `path` below the base URL, with its query; headers beside those of every call.

    `dropped` names what the API has no place for and what the answer does not depend on, as paths into the
    canonical request: `messages[0].cache`, `metadata`.
    """

    path: str
    body: bytes
    dropped: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


class EventDecoder(Protocol):
    """The state machine of one streamed reply."""

    def feed(self, event: str, data: str) -> Sequence[Event]:
        """The canonical events of one server-sent event. Raises BadResponse, or the error it carries."""
        ...

    def end(self) -> Sequence[Event]:
        """What the end of the stream means: the last events, or BadResponse when it was cut off."""
        ...


class WireFormat(Protocol):
    """One HTTP API of one provider, as pure functions."""

    dialect: str
    """The dialect of the callers whose bytes `forward` takes."""
    operations: frozenset[Operation]
    """What the API can be asked for."""

    def encode(self, request: Request) -> Encoded:
        """Raises UnsupportedFeature for what it cannot carry, be it an operation or a part of a message."""
        ...

    def forward(self, request: Request, call: WireCall) -> Encoded:
        """The caller's own body, with `request.model` in it; else only what accounting needs is changed.

        `request` is what the body was parsed to.
        """
        ...

    def headers(self, api_key: str | None) -> tuple[tuple[str, str], ...]:
        """Those of every call."""
        ...

    def decode(self, request: Request, body: bytes) -> Response:
        """The reply to `request`. Raises BadResponse when the body is not what the dialect allows."""
        ...

    def events(self, request: Request) -> EventDecoder: ...

    def hidden(self, request: Request, event: str, data: str) -> bool:
        """Whether a server-sent event answers what `forward` asked beyond the caller's words."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> AssayError:
        """For a status that is not 200. A RequestError when the upstream blames the request."""
        ...
