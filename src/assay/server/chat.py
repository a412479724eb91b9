"""POST /v1/chat/completions: one call through the gateway, answered whole or as server-sent events."""

from __future__ import annotations

import re

from assay.app import App
from assay.errors import AssayError
from assay.server import openai_chat
from assay.server.asgi import (
    JSON_TYPE,
    SSE_HEADERS,
    ASGIApp,
    Headers,
    Receive,
    Scope,
    Send,
    header,
    read_body,
    respond,
    while_caller_listens,
)
from assay.trace import new_trace_id
from assay.types import Context, Request, Response, closing, replace

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}.*")


def endpoint(app: App) -> ASGIApp:
    """The endpoint over `app`. Errors before the first byte are raised; later ones end the stream, typed."""
    limit = app.config.server.max_body_bytes

    async def chat_completions(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, limit)
        request, options = openai_chat.parse(body)
        context = trace_context(scope)
        request = replace(request, context=context)
        named = (b"x-assay-trace-id", (context.trace_id or "").encode())
        async with while_caller_listens(receive):
            if request.stream:
                await _stream(app, request, openai_chat.StreamEncoder(options), [*SSE_HEADERS, named], send)
            else:
                response = await app.respond(request)
                headers = [JSON_TYPE, named, *_cost_header(response)]
                await respond(send, 200, openai_chat.encode_response(response), headers)

    return chat_completions


def trace_context(scope: Scope) -> Context:
    """The caller's trace, by the W3C traceparent header, or a new one."""
    found = _TRACEPARENT.fullmatch(header(scope, b"traceparent") or "")
    if found and int(found[1], 16) and int(found[2], 16):
        return Context(trace_id=found[1], parent_span_id=found[2])
    return Context(trace_id=new_trace_id())


def _cost_header(response: Response) -> Headers:
    if response.cost is None or response.cost.usd is None:
        return []
    return [(b"x-assay-cost-usd", f"{response.cost.usd:f}".encode())]


async def _stream(
    app: App, request: Request, encoder: openai_chat.StreamEncoder, headers: Headers, send: Send
) -> None:
    started = False
    try:
        async with closing(app.stream(request)) as events:
            async for event in events:
                data = encoder.encode(event)
                if not started:
                    # The status is sent with the first event: what fails before it has a status of its own.
                    started = True
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
    except AssayError as error:
        if not started:
            raise
        await send({"type": "http.response.body", "body": encoder.error(error), "more_body": True})
    await send({"type": "http.response.body", "body": b""})
