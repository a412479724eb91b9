"""Parts of a reply as output items of the Responses API: what .reply and .stream share.

An item of our own making has an id made of the response's id and the item's place, so that the same reply
always has the same ids, streamed, whole, or read again later. What another API needs to see of its reasoning
goes in `encrypted_content`, whether the caller asked for it or not: nothing else brings it back.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Literal, TypeAlias

from assay.errors import UnsupportedFeature
from assay.providers.openai_responses.vocabulary import (
    DIALECT,
    MADE_UP_REASONING,
    citation,
    finish_to,
    tokens_to,
)
from assay.server.openai_responses.items import SIGNED
from assay.types import (
    Choice,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    TokenLogprob,
    ToolCall,
)

Body: TypeAlias = dict[str, Any]

# --- ids -----------------------------------------------------------------------------------------

_PREFIX = "resp_"


def new_id() -> str:
    """An id for one response that nobody else has or guesses: going on from it must find this one."""
    return _PREFIX + secrets.token_hex(24)


class Ids:
    """The ids of the items of one response."""

    def __init__(self, response_id: str) -> None:
        self._stem = blake2b(response_id.encode("utf-8", "replace"), digest_size=12).hexdigest()

    def of(self, kind: str, index: int) -> str:
        return f"{ITEM_PREFIXES[kind]}{self._stem}_{index}"


ITEM_PREFIXES = {
    "message": "msg_",
    "reasoning": MADE_UP_REASONING,
    "function_call": "fc_",
    "custom_tool_call": "ctc_",
    "function_call_output": "fco_",
    "custom_tool_call_output": "ctco_",
}

# --- items ---------------------------------------------------------------------------------------


def items_of(choice: Choice, ids: Ids, dropped: list[str]) -> list[Body]:
    """The output of a whole reply. `dropped` gets the paths of what has no place in it.

    Raises UnsupportedFeature for a part that the API has no place for.
    """
    items: list[Body] = []
    tokens = _shares(choice)
    message: Body | None = None
    for number, part in enumerate(choice.message.parts):
        where = f"choices[0].message.parts[{number}]"
        match part:
            case Text() | Refusal():
                phase = phase_of(part)
                if message is None or message.get("phase") != phase:
                    message = message_item(ids.of("message", len(items)), [], phase=phase)
                    items.append(message)
                message["content"].append(_said(part, tokens.get(number, ()), where, dropped))
                continue
            case Reasoning():
                items.append(thought(part, ids.of("reasoning", len(items))))
            case ToolCall():
                item_id = ids.of(call_type(part.kind), len(items))
                items.append(
                    call_item(item_id, part.kind, part.id, part.name, part.arguments, part.signature)
                )
            case Opaque(dialect="openai-responses", body=dict() as body):
                items.append(body)
            case _:
                raise unsupported(part)
        message = None
    refused = any(isinstance(part, Refusal) for part in choice.message.parts)
    status, _ = finish_to(choice.finish, refused=refused)
    last = choice.message.parts[-1] if choice.message.parts else None
    if status != "completed" and isinstance(last, Text | Refusal | ToolCall) and "status" in items[-1]:
        items[-1] = {**items[-1], "status": status}
    return items


def message_item(item_id: str, content: list[Body], status: str = "completed", phase: Any = None) -> Body:
    item: Body = {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }
    return item if phase is None else {**item, "phase": phase}


def phase_of(part: Text | Refusal) -> Any:
    if isinstance(part, Refusal) or part.extra is None or part.extra.dialect != DIALECT:
        return None
    return part.extra.fields.get("phase")


def text_part(text: str, annotations: Sequence[Body], tokens: Sequence[TokenLogprob]) -> Body:
    return {
        "type": "output_text",
        "text": text,
        "annotations": list(annotations),
        "logprobs": tokens_to(tokens),
    }


def _said(part: Text | Refusal, tokens: Sequence[TokenLogprob], where: str, dropped: list[str]) -> Body:
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    annotations = [found for one in part.annotations if (found := citation(one)) is not None]
    if len(annotations) < len(part.annotations):
        dropped.append(f"{where}.annotations")
    if part.signature is not None:
        dropped.append(f"{where}.signature")
    return text_part(part.text, annotations, tokens)


def thought(part: Reasoning, spare_id: str) -> Body:
    sealed = seal(part.signature, part.encrypted)
    return reasoning_item(part.id or spare_id, part.text, part.summary, sealed)


def reasoning_item(item_id: str, text: str, summary: Sequence[str], sealed: str | None) -> Body:
    item: Body = {
        "id": item_id,
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": piece} for piece in summary],
    }
    if text:
        item["content"] = [{"type": "reasoning_text", "text": text}]
    if sealed is not None:
        item["encrypted_content"] = sealed
    return item


def seal(signature: str | None, encrypted: str | None) -> str | None:
    """One opaque word for what vouches for reasoning, or stands in its place."""
    return encrypted if signature is None else SIGNED + signature


def call_type(kind: Literal["function", "custom"]) -> str:
    return "function_call" if kind == "function" else "custom_tool_call"


def call_item(
    item_id: str,
    kind: Literal["function", "custom"],
    call_id: str,
    name: str,
    arguments: str,
    signature: str | None = None,
    status: str = "completed",
) -> Body:
    item: Body = {"id": item_id, "type": call_type(kind), "call_id": call_id, "name": name}
    if kind == "function":
        item |= {"arguments": arguments, "status": status}
    else:
        item["input"] = arguments
    if signature is not None:
        item["extra_content"] = {"google": {"thought_signature": signature}}
    return item


def _shares(choice: Choice) -> dict[int, list[TokenLogprob]]:
    """Which tokens belong to which text: as many as it is long, the rest to the last."""
    texts = [(number, part) for number, part in enumerate(choice.message.parts) if isinstance(part, Text)]
    shares: dict[int, list[TokenLogprob]] = {number: [] for number, _ in texts}
    at, length = 0, 0
    for token in choice.logprobs if texts else ():
        while at < len(texts) - 1 and length >= len(texts[at][1].text):
            at, length = at + 1, 0
        shares[texts[at][0]].append(token)
        length += len(token.token)
    return shares


def unsupported(part: Part) -> UnsupportedFeature:
    kind = f"{part.dialect} part" if isinstance(part, Opaque) else f"part of type {type(part).__name__}"
    return UnsupportedFeature(
        f"The reply holds a {kind}, for which the Responses API has no place; "
        "call this model through its own API"
    )
