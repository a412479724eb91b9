"""What an inbound dialect is: how one API's callers are understood and answered. Pure translation.

A folder or file for each dialect beside this file makes a Dialect; assay.server.calls runs them all the same.
The upstream side of each is its inverse in assay.providers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from assay.errors import AssayError, NotFound
from assay.server.asgi import SSE_TYPE
from assay.types import JSON, Event, Operation, Request, Response

if TYPE_CHECKING:
    from assay.app import App


class Deleted(NotFound):
    """What the call refers to was deleted here: an upstream that still has it must not be asked."""


class Parsed(NamedTuple):
    """A call, and what its caller asked about the form of the reply: `options` is the dialect's."""

    request: Request
    options: Any = None


class Written(NamedTuple):
    """A reply's body. `dropped` names what the dialect has no place for and nobody is misled without."""

    body: bytes
    dropped: tuple[str, ...] = ()


class ReplyEncoder(Protocol):
    """The state machine that writes one streamed reply."""

    content_type: bytes

    def encode(self, event: Event) -> bytes:
        """Raises UnsupportedFeature for a part that the API has no place for. Never called with WireData."""
        ...

    def wire(self, data: bytes) -> bytes:
        """What an upstream of this dialect sent (whole server-sent events), framed for this caller."""
        ...

    def close(self) -> bytes:
        """What stands behind the last of `wire`, where the upstream's own bytes were a whole reply."""
        ...

    def error(self, error: AssayError) -> bytes:
        """The end of a stream that failed after it began: nobody can take it for whole."""
        ...


class ServerSentEvents:
    """The framing that all dialects share: what an upstream of the same dialect sent is right as it is."""

    __slots__ = ()
    content_type = SSE_TYPE

    def wire(self, data: bytes) -> bytes:
        return data

    def close(self) -> bytes:
        return b""


@dataclass(frozen=True)
class Dialect:
    """One operation of one API.

    `parse` gets the body and the model's name in the path ("" where the API has it in the body). It raises
    RequestError with `param` naming the field. `write` and `stream` get None for options where the body could
    not be parsed and was handed on all the same. `streamed` is None where the body says whether a stream is
    wanted. `forwarded` are the request headers (lower case) that an
    upstream of the same dialect shall see. `resolve` puts what the call refers to and the store knows into
    the request; it gives the same request back where there is nothing, and raises NotFound (Deleted where
    no upstream must be asked instead). `kept` says, of the options, what is stored with a reply that the
    caller may come back to, None where it may not. `new_id` makes the id of a reply that is written here,
    where callers name replies by their ids.
    """

    name: str
    parse: Callable[[bytes, str], Parsed]
    write: Callable[[Response, Any], Written]
    stream: Callable[[Any], ReplyEncoder]
    error: Callable[[AssayError], tuple[int, bytes]]
    forwarded: tuple[str, ...] = ()
    resolve: Callable[[App, Parsed], Awaitable[Request]] | None = None
    kept: Callable[[Any], dict[str, JSON] | None] | None = None
    new_id: Callable[[], str] | None = None
    operation: Operation = "chat"
    streamed: bool | None = None
