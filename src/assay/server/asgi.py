"""The few pieces of ASGI that the hot path needs: bodies with a limit, replies, and callers who go away.

Dialects live beside this file; which path leads where is assay.server.app's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from assay.errors import RequestError

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

JSON_TYPE = (b"content-type", b"application/json")
SSE_TYPE = b"text/event-stream; charset=utf-8"


class BodyTooLarge(RequestError):
    """The request body is larger than `max_body_bytes`."""

    status = 413
    code = "request_too_large"


class CallerGone(Exception):
    """The client closed its connection: nobody is left to answer."""


def header(scope: Scope, name: bytes) -> str | None:
    """The first of that name."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


def header_list(scope: Scope, name: bytes) -> str | None:
    """All of that name, as one list: what HTTP takes for the same."""
    found = [str(value.decode("latin-1")) for key, value in scope["headers"] if key == name]
    return ", ".join(found) or None


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body. Raises BodyTooLarge before more than that is held, CallerGone when it breaks off."""
    declared = header(scope, b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        return body
    chunks, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise CallerGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The request body is larger than {limit_bytes} bytes; send less, "
        f"or raise max_body_bytes under [server] in assay.toml"
    )


async def respond(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    """A whole reply; JSON unless `headers` say otherwise."""
    length = (b"content-length", str(len(body)).encode())
    await send(
        {"type": "http.response.start", "status": status, "headers": [*(headers or [JSON_TYPE]), length]}
    )
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def while_caller_listens(receive: Receive) -> AsyncIterator[None]:
    """Runs the block, and cancels it when the client goes away: then CallerGone is raised.

    The body must have been read before.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone:
            task.uncancel()
            raise CallerGone from None
        raise
    finally:
        watcher.cancel()
