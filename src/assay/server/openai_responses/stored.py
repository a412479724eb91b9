"""Responses that were given before: going on from one, reading it again, deleting it. Paths are the server's.

A response is the span of its call: the trace keeps what was said and answered, and under the attribute ECHO
what its caller asked (`Options.kept`), without which a reply cannot be written as it was. A call with
`store: false` leaves no `response_id` on its span, so nobody finds it. A deleted response is neither found
nor gone on from, here or at an upstream that still has it; its trace stays, as that of every other call.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread

from assay.errors import NotFound, RequestError
from assay.providers.openai_responses.items import API, encode_items
from assay.providers.openai_responses.vocabulary import DIALECT
from assay.providers.proofs import opened_response
from assay.providers.translation import Drops
from assay.server.dialect import Deleted, Parsed
from assay.server.openai_responses.output import (
    ITEM_PREFIXES,
    Body,
    Ids,
    items_of,
)
from assay.server.openai_responses.parse import NOTHING_ASKED, Options
from assay.server.openai_responses.reply import ENCODE, response_body
from assay.trace import Span, conversation_of
from assay.types import Choice, Finish, Message, Request, Response, Text, replace

if TYPE_CHECKING:
    from assay.app import App

ECHO: Final = "assay.response.echo"
"""The span's attribute that holds `Options.kept`."""

PAGE: Final = 20
MAX_PAGE: Final = 100

# --- going on ------------------------------------------------------------------------------------


async def continue_(app: App, parsed: Parsed) -> Request:
    """The request with the conversation that `previous_response_id` names before its own input.

    The instructions of the earlier calls are not carried over; its own stand first. Raises NotFound when
    nobody stored such a response, and Deleted when it was deleted here.
    """
    request, options = parsed.request, parsed.options
    previous = options.previous_response_id
    if previous is None:
        return request
    span = await _find(app, previous, request.context.key_id)
    if span is None:
        deleted = partial(app.stores.traces.forgotten_response, previous, key_id=request.context.key_id)
        unknown: type[NotFound] = Deleted if await to_thread.run_sync(deleted) else NotFound
        raise unknown(
            f"Previous response with id '{previous}' not found; it was not stored (store: false), was "
            "deleted, or is not known here. Send the whole conversation as 'input'",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    conversation_of(span)
    return replace(request, messages=_joined((*_input(span), *span.output), request, options))


def _joined(earlier: Sequence[Message], request: Request, options: Options) -> tuple[Message, ...]:
    """This call's instructions, what was said before, this call's input."""
    own = request.messages
    count = 0 if options.echo.get("instructions") is None else 1
    return (*own[:count], *earlier, *own[count:])


def _input(span: Span) -> tuple[Message, ...]:
    """What the call was given, without its instructions."""
    said = span.input
    instructions = _echo(span).get("instructions")
    if instructions is not None and said and said[0] == Message("system", (Text(instructions),)):
        return said[1:]
    return said


def _echo(span: Span) -> dict[str, Any]:
    echo = span.attributes.get(ECHO)
    return echo if isinstance(echo, dict) else {}


async def _find(app: App, response_id: str, key_id: str | None) -> Span | None:
    """The call; what was recorded a moment ago is waited for."""
    await to_thread.run_sync(app.flush)
    return await to_thread.run_sync(partial(app.stores.traces.response, response_id, key_id=key_id))


# --- reading again -------------------------------------------------------------------------------


async def retrieve(app: App, response_id: str, *, key_id: str | None = None) -> bytes:
    """GET /v1/responses/{id}: the Response object again. Raises NotFound."""
    span = await _known(app, response_id, key_id)
    reply = opened_response(response_of(span), DIALECT)
    body, _ = response_body(reply, Options({**NOTHING_ASKED, **_echo(span)}))
    return ENCODE(body)


async def delete(app: App, response_id: str, *, key_id: str | None = None) -> bytes:
    """DELETE /v1/responses/{id}: it is not found again, nor gone on from. Raises NotFound.

    What was said stays in the trace, and an upstream that answered in its own words keeps its copy.
    """
    await _known(app, response_id, key_id)
    await to_thread.run_sync(partial(app.stores.traces.forget_response, response_id, key_id=key_id))
    return ENCODE({"id": response_id, "object": "response", "deleted": True})


async def input_items(
    app: App,
    response_id: str,
    *,
    order: str = "desc",
    after: str | None = None,
    limit: int = PAGE,
    key_id: str | None = None,
) -> bytes:
    """GET /v1/responses/{id}/input_items: a page of what the call was given; the newest first, or the oldest.

    Raises NotFound, and RequestError for an order, limit or `after` that is none.
    """
    if order not in {"asc", "desc"}:
        raise RequestError(f"'order' is asc or desc, not {order[:20]!r}", param="order")
    if not 1 <= limit <= MAX_PAGE:
        raise RequestError(f"'limit' is from 1 to {MAX_PAGE}, not {limit}", param="limit")
    span = await _known(app, response_id, key_id)
    items = items_given(span)
    if order == "desc":
        items.reverse()
    if after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise RequestError(f"'after' names no input item of {response_id}: {after[:80]!r}", param="after")
        items = items[places[0] + 1 :]
    page = items[:limit]
    return ENCODE(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else "",
            "last_id": page[-1]["id"] if page else "",
            "has_more": len(items) > len(page),
        }
    )


async def _known(app: App, response_id: str, key_id: str | None) -> Span:
    span = await _find(app, response_id, key_id)
    if span is None:
        raise NotFound(f"Response with id '{response_id}' not found.", param="response_id")
    conversation_of(span)
    return span


def response_of(span: Span) -> Response:
    """The reply that the span recorded."""
    attributes = span.attributes
    reasons = attributes.get("gen_ai.response.finish_reasons") or ["stop"]
    message = span.output[0] if span.output else Message("assistant", ())
    return Response(
        span.response_id or "",
        str(attributes.get("gen_ai.response.model") or span.model or ""),
        (Choice(message, Finish(reasons[0])),),
        usage=span.usage,
        created_s=span.start_ns // 1_000_000_000,
        provider=span.provider or "",
    )


def items_given(span: Span) -> list[Body]:
    """The input items of a call, oldest first, each with an id and all that a list of them has to have."""
    ids = Ids(f"{span.response_id or ''} input")
    items: list[Body] = []
    custom: set[str] = set()
    for turn in _input(span):
        if turn.role == "assistant":
            dropped: list[str] = []
            answer = Response("", "", (Choice(turn, Finish("stop")),))
            said = items_of(opened_response(answer, DIALECT).choices[0], ids, dropped)
            custom.update(item["call_id"] for item in said if item["type"] == "custom_tool_call")
            items.extend(said)
            continue
        for item in encode_items((turn,), Drops(DIALECT, API)):
            if item.get("call_id") in custom:
                item["type"] = "custom_tool_call_output"
            items.append(item)
    return [_listed(item, number, ids) for number, item in enumerate(items)]


def _listed(item: Body, number: int, ids: Ids) -> Body:
    kind = item.get("type", "message")
    if kind not in ITEM_PREFIXES:
        return {"id": ids.of("message", number), **item}
    listed = {**item, "id": ids.of(kind, number), "type": kind}
    if kind == "reasoning":
        return {**listed, "id": item["id"]}
    listed.setdefault("status", "completed")
    if isinstance(listed.get("content"), str):
        listed["content"] = [{"type": "input_text", "text": listed["content"]}]
    return listed
