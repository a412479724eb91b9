"""One call through the gateway for any dialect: understood, answered whole or streamed, its end told.

What a dialect says lives beside this file; which path leads to which is assay.server.app's.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any, Literal, TypeVar

import msgspec

from assay.app import App
from assay.errors import AssayError, RequestError
from assay.evals.calling import ask
from assay.providers.proofs import opened_event, opened_response, sealed_request
from assay.server.asgi import (
    JSON_TYPE,
    Headers,
    Receive,
    Scope,
    Send,
    header,
    header_list,
    read_body,
    respond,
    while_caller_listens,
)
from assay.server.dialect import Deleted, Dialect, Parsed, ReplyEncoder
from assay.trace import new_trace_id
from assay.types import (
    Cached,
    Completed,
    Context,
    Event,
    Message,
    Opaque,
    ReasoningDelta,
    Request,
    Response,
    Started,
    TextDelta,
    ToolCallDelta,
    WireCall,
    WireData,
    closing,
    replace,
)
from assay.types.timing import Timing, begin, timing

log = logging.getLogger("assay.server")

TRACE = "assay.trace_id"
"""Where a scope tells the trace of its call."""
UNFORESEEN = "Assay failed on this request. That is a defect of Assay; its log has the details."

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}.*")
_STREAM_HEADERS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
# What a body with signatures or encrypted reasoning has in it, in any dialect.
_PROOFS = (b"ignature", b"encrypted", b"redacted")
_SIGNED = frozenset({ReasoningDelta, ToolCallDelta, TextDelta, Completed})
# Fields that name what a provider keeps of earlier calls.
_KEPT_UPSTREAM = ("previous_response_id", "conversation")
_NOT_PLAIN = re.compile(r"[^\x20-\x7e]")
_MAX_SEEN_BYTES = 64 << 10
"""How large a body that was not understood may be for the trace to show it."""
_MAX_DROPPED_CHARS = 4_000


async def answer(
    app: App,
    dialect: Dialect,
    model: str,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    key_id: str | None = None,
) -> None:
    """Answers one call; `model` is the name in the path, or "", and `key_id` whose call it is.

    Errors before the first byte are raised; later ones end the stream, typed.
    """
    body = await read_body(scope, receive, app.config.server.max_body_bytes)
    times = begin()
    context = replace(
        trace_context(scope),
        sticky=header(scope, b"x-assay-sticky"),
        key_id=key_id,
        cache=_cache_wanted(scope),
    )
    scope[TRACE] = context.trace_id
    request, options = await _understand(app, dialect, model, body, scope, context)
    if dialect.kept is not None and options is not None:
        context = replace(context, keep=dialect.kept(options))
    if dialect.new_id is not None:
        context = replace(context, response_id=dialect.new_id())
    request = replace(request, context=context)
    times.understood = perf_counter()
    times.trace_id = context.trace_id
    named = (b"x-assay-trace-id", (context.trace_id or "").encode())
    async with while_caller_listens(receive):
        if request.stream:
            encoder = dialect.stream(options)
            headers = [(b"content-type", encoder.content_type), *_STREAM_HEADERS, named]
            await _stream(app, request, encoder, headers, send, dialect.name)
            return
        response, own = await _whole(app, request)
        if own is None:
            told = _named(response, context.response_id)
            own, dropped = dialect.write(opened_response(told, dialect.name), options)
        else:
            dropped = ()
        left_out = _dropped((*response.dropped, *dropped))
        await respond(
            send,
            200,
            own,
            [
                JSON_TYPE,
                named,
                *left_out,
                *_cost_header(response),
                *_cache_headers(response.cached),
                _timed(times),
            ],
        )


def trace_context(scope: Scope) -> Context:
    """The caller's trace, by the W3C traceparent header, or a new one."""
    found = _TRACEPARENT.fullmatch(header(scope, b"traceparent") or "")
    if found and int(found[1], 16) and int(found[2], 16):
        return Context(trace_id=found[1], parent_span_id=found[2])
    return Context(trace_id=new_trace_id())


def _cache_wanted(scope: Scope) -> Literal["on", "off", "refresh"]:
    match header(scope, b"x-assay-cache"):
        case None | "on":
            return "on"
        case "off" | "refresh" as wanted:
            return wanted
        case other:
            raise RequestError(
                f"x-assay-cache is on, off or refresh, not {other[:20]!r}",
                param="x-assay-cache",
            )


# --- understanding -------------------------------------------------------------------------------


async def _understand(
    app: App, dialect: Dialect, model: str, body: bytes, scope: Scope, context: Context
) -> Parsed:
    """The request, with the caller's bytes on it.

    What is wrong with the bytes is left to an upstream of the same dialect to judge: it may know more of it
    than Assay does.
    """
    problem: RequestError | None = None
    try:
        request, options = dialect.parse(body, model)
        # What the store may put in depends on who asks.
        request = replace(request, context=context)
        if any(word in body for word in _PROOFS):
            request = sealed_request(request, dialect.name)
        whole: Request | None = request
        if dialect.resolve is not None:
            resolved = await dialect.resolve(app, Parsed(request, options))
            # What the store has put in is not in the caller's bytes.
            whole = request if resolved is request else None
            request = resolved
    except Deleted:
        raise
    except RequestError as error:
        glanced = _glance(dialect, body, model, keyed=context.key_id is not None)
        if glanced is None:
            raise
        request, options, problem, whole = glanced, None, error, glanced
    headers = tuple(
        (name, value) for name in dialect.forwarded if (value := header_list(scope, name.encode()))
    )
    return Parsed(replace(request, wire=WireCall(dialect.name, body, headers, whole, problem)), options)


def _glance(dialect: Dialect, body: bytes, model: str, *, keyed: bool) -> Request | None:
    """The little that is needed to hand on a body that Assay cannot make sense of; None if not even that.

    With keys, one account upstream serves many callers: what it keeps is nobody's to name by himself.
    """
    try:
        fields: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or (keyed and _names_what_is_kept(fields)):
        return None
    name = model or fields.get("model")
    stream = fields.get("stream", False) if dialect.streamed is None else dialect.streamed
    if not isinstance(name, str) or not isinstance(stream, bool | None):
        return None
    seen = fields if len(body) <= _MAX_SEEN_BYTES else {"bytes": len(body)}
    said = Message("user", (Opaque(dialect.name, seen),))
    return Request(name, (said,), operation=dialect.operation, stream=bool(stream))


def _names_what_is_kept(fields: dict[str, Any]) -> bool:
    """Whether a body names what a provider keeps of earlier calls: a response, a conversation, an item."""
    items = fields.get("input")
    return any(fields.get(name) for name in _KEPT_UPSTREAM) or any(
        isinstance(item, dict) and item.get("type") in ("item_reference", None) and "role" not in item
        for item in (items if isinstance(items, list) else ())
    )


# --- answering -----------------------------------------------------------------------------------


async def _whole(app: App, request: Request) -> tuple[Response, bytes | None]:
    """The reply, and the body that an upstream of the caller's dialect gave it."""
    own: list[bytes] = []

    async def noting(request: Request) -> AsyncIterator[Event]:
        async with closing(app.stream(request)) as events:
            async for event in events:
                if type(event) is WireData:
                    own.append(event.data)
                yield event

    response = await ask(noting, request)
    return response, own[0] if own else None


async def _stream(
    app: App, request: Request, encoder: ReplyEncoder, headers: Headers, send: Send, dialect: str
) -> None:
    started = False
    try:
        async with closing(app.stream(request)) as events:
            async for event in events:
                try:
                    data = _said(event, request, encoder, dialect)
                except Exception as error:
                    # The trace, too, shall know that it was not the caller who ended this.
                    await events.athrow(error)
                    raise
                if not started:
                    # The status is sent with the first event: what fails before it has a status of its own.
                    started = True
                    head = [
                        *headers,
                        *_dropped(_dropped_of(event)),
                        *_cache_headers(_cached_of(event)),
                        _timed(timing()),
                    ]
                    await send({"type": "http.response.start", "status": 200, "headers": head})
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        if rest := encoder.close():
            await send({"type": "http.response.body", "body": rest, "more_body": True})
    except AssayError as error:
        if not started:
            raise
        await send({"type": "http.response.body", "body": encoder.error(error), "more_body": True})
    except Exception:
        if not started:
            raise
        log.exception("a stream of %s failed in a way that nobody foresaw", request.model)
        told = encoder.error(AssayError(UNFORESEEN))
        await send({"type": "http.response.body", "body": told, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _said(event: Event, request: Request, encoder: ReplyEncoder, dialect: str) -> bytes:
    if type(event) is WireData:
        return encoder.wire(event.data)
    if type(event) is Started:
        event = _named(event, request.context.response_id)
    elif type(event) is Completed:
        event = Completed(_named(event.response, request.context.response_id))
    return encoder.encode(opened_event(event, dialect) if type(event) in _SIGNED else event)


_Reply = TypeVar("_Reply", Started, Response)


def _named(reply: _Reply, own_id: str | None) -> _Reply:
    """Upstreams may use an id again, or have none: what is written here has an id from here."""
    return reply if own_id is None else replace(reply, id=own_id)


def _dropped_of(event: Event) -> tuple[str, ...]:
    match event:
        case Started():
            return event.dropped
        case Completed(response):
            return response.dropped
        case _:
            return ()


def _cached_of(event: Event) -> Cached | None:
    match event:
        case Started():
            return event.cached
        case Completed(response):
            return response.cached
        case WireData(_, events) if events:
            return _cached_of(events[0])
        case _:
            return None


def _cache_headers(cached: Cached | None) -> Headers:
    """What a cache did; how old its reply is, as HTTP's own caches say it."""
    if cached is None:
        return []
    told = [(b"x-assay-cache", cached.state.encode())]
    return [*told, (b"age", str(int(cached.age_s)).encode())] if cached.state == "hit" else told


def _dropped(paths: tuple[str, ...]) -> Headers:
    """What was left out of the call or of the reply, because the other side has no place for it."""
    if not paths:
        return []
    told = ", ".join(dict.fromkeys(paths))[:_MAX_DROPPED_CHARS]
    return [(b"x-assay-dropped", _NOT_PLAIN.sub("?", told).encode())]


def _timed(times: Timing | None) -> tuple[bytes, bytes]:
    """Where the time went until now, in milliseconds, as browsers and proxies know to show it."""
    phases = {} if times is None else times.phases(perf_counter())
    told = ", ".join(f"{name};dur={seconds * 1000:.2f}" for name, seconds in phases.items())
    return (b"server-timing", told.encode())


def _cost_header(response: Response) -> Headers:
    if response.cost is None or response.cost.usd is None:
        return []
    return [(b"x-assay-cost-usd", f"{response.cost.usd:f}".encode())]
