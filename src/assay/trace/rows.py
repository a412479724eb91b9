"""Spans as rows and back: encoding, content-addressed messages, exact money. No queries here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec
import sqlalchemy as sa

from assay.trace.span import Span
from assay.types import Cost, Message, Usage

PICO = Decimal(10) ** 12
_encode_message = msgspec.json.Encoder(order="deterministic").encode
_decode_message = msgspec.json.Decoder(Message).decode


class MessageRow(msgspec.Struct, frozen=True):
    """A message at its place in a conversation: equal beginnings of conversations share rows."""

    id: str
    parent_id: str | None
    body: str


def message_rows(messages: Iterable[Message], parent_id: str | None = None) -> list[MessageRow]:
    """One row a message, each the child of the one before it."""
    rows = []
    for message in messages:
        body = _encode_message(message)
        digest = blake2b((parent_id or "").encode(), digest_size=16)
        digest.update(body)
        row = MessageRow(digest.hexdigest(), parent_id, body.decode())
        rows.append(row)
        parent_id = row.id
    return rows


def decode_message(body: str) -> Message:
    return _decode_message(body)


def pico_dollars(cost: Cost | None) -> int | None:
    """Whole picodollars: exact for every published price of a token."""
    if cost is None or cost.usd is None:
        return None
    return int((cost.usd * PICO).to_integral_value())


def dollars(pico: int) -> Decimal:
    return Decimal(pico) / PICO


def span_rows(
    span: Span, redact: Callable[[str], str] | None = None
) -> tuple[dict[str, Any], list[MessageRow]]:
    """The span's row and the message rows it refers to, parents first.

    `redact` takes secrets out of the row. The messages' bodies are still as they were said, which is what
    their ids are made of: see `redacted`.
    Raises TypeError or ValueError for attributes or messages that JSON cannot carry.
    """
    inputs = message_rows(span.input)
    input_id = inputs[-1].id if inputs else None
    # Each choice continues the conversation, so that the next turn's prefix is stored already.
    outputs = [message_rows((message,), input_id)[0] for message in span.output]
    row = _span_row(span, input_id, [row.id for row in outputs])
    if redact is not None:
        for name in ("attributes", "error_message", "name"):
            if row[name] is not None:
                row[name] = redact(row[name])
        if row["name"] != span.name and span.model is not None:
            row["model"] = redact(span.model)
    return row, [*inputs, *outputs]


def redacted(row: MessageRow, redact: Callable[[str], str]) -> MessageRow:
    """The message without secrets, under the id that it has with them."""
    body = redact(row.body)
    return row if body is row.body else MessageRow(row.id, row.parent_id, body)


def _span_row(span: Span, input_id: str | None, output_ids: list[str]) -> dict[str, Any]:
    attributes = dict(span.attributes)
    if span.usage is not None:
        attributes["assay.usage"] = msgspec.to_builtins(span.usage)
    if span.cost is not None and span.cost.source:
        attributes["assay.cost.source"] = span.cost.source
    return {
        "span_id": span.span_id,
        "trace_id": span.trace_id,
        "parent_id": span.parent_id,
        "name": span.name,
        "operation": span.operation,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "status": span.status,
        "error_type": span.error_type,
        "error_message": span.error_message,
        "provider": span.provider,
        "model": span.model,
        "purpose": span.purpose,
        "prompt": span.prompt,
        "key_id": span.key_id,
        "tokens_in": span.usage.tokens_in if span.usage else None,
        "tokens_out": span.usage.tokens_out if span.usage else None,
        "cost_kind": span.cost.kind if span.cost else None,
        "cost_pico": pico_dollars(span.cost),
        "input_id": input_id,
        "output_ids": " ".join(output_ids) or None,
        "attributes": msgspec.json.encode(attributes).decode(),
        "response_id": span.response_id,
    }


def row_span(row: sa.RowMapping, said: tuple[Message, ...] = (), answered: tuple[Message, ...] = ()) -> Span:
    attributes = msgspec.json.decode(row["attributes"])
    usage = attributes.pop("assay.usage", None)
    source = attributes.pop("assay.cost.source", "")
    cost = None
    if row["cost_kind"] is not None:
        pico = row["cost_pico"]
        cost = Cost(row["cost_kind"], None if pico is None else dollars(pico), source)
    return Span(
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        name=row["name"],
        operation=row["operation"],
        start_ns=row["start_ns"],
        end_ns=row["end_ns"],
        parent_id=row["parent_id"],
        status=row["status"],
        error_type=row["error_type"],
        error_message=row["error_message"],
        provider=row["provider"],
        model=row["model"],
        purpose=row["purpose"],
        prompt=row["prompt"],
        key_id=row["key_id"],
        usage=None if usage is None else msgspec.convert(usage, Usage),
        cost=cost,
        input=said,
        output=answered,
        attributes=attributes,
        response_id=row["response_id"],
    )
