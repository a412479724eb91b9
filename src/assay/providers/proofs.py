"""Whose proof it is: signatures and encrypted reasoning that only the API that made them can read.

Within Assay a proof says where it comes from, `assay:DIALECT:PROOF`, so that it survives a caller of another
dialect and is never sent to an upstream that would refuse it. At the edges it is bare: an upstream gets its
own, and so does a caller of the dialect that it belongs to.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Final

import msgspec

from assay.types import (
    JSON,
    Choice,
    Completed,
    Event,
    Message,
    Part,
    Reasoning,
    ReasoningDelta,
    Request,
    Response,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    replace,
)

SEAL: Final = "assay:"
_WRAPPED = b64encode(SEAL.encode()).decode()
SEALED: Final = (f'"{SEAL}'.encode(), f'"{_WRAPPED}'.encode())
"""How a sealed proof begins in a body of JSON: as it is, or in base64."""

_Change = Callable[[str], str | None]


def sealed(proof: str, dialect: str) -> str:
    """What an upstream of that dialect made, whatever it looks like.

    >>> sealed("c2ln", "gemini"), sealed("assay:gemini:c2ln", "anthropic")
    ('assay:gemini:c2ln', 'assay:anthropic:assay:gemini:c2ln')
    """
    return f"{SEAL}{dialect}:{proof}"


def given_back(proof: str, dialect: str) -> str:
    """What a caller of that dialect sent: it is another's where it says so.

    >>> given_back("c2ln", "gemini"), given_back("assay:gemini:c2ln", "anthropic")
    ('assay:gemini:c2ln', 'assay:gemini:c2ln')
    """
    return proof if proof.startswith(SEAL) else sealed(proof, dialect)


def bare(proof: str, dialect: str) -> str | None:
    """What the dialect itself reads; None for another's.

    >>> bare("assay:gemini:c2ln", "gemini"), bare("assay:gemini:c2ln", "anthropic"), bare("c2ln", "gemini")
    ('c2ln', None, 'c2ln')
    """
    if not proof.startswith(SEAL):
        return proof
    own = f"{SEAL}{dialect}:"
    return proof.removeprefix(own) if proof.startswith(own) else None


def _own_or_sealed(proof: str, dialect: str) -> str:
    """For a caller: bare where it is the caller's own, else as it is."""
    found = bare(proof, dialect)
    return proof if found is None else found


# --- requests ------------------------------------------------------------------------------------


def sealed_request(request: Request, dialect: str) -> Request:
    """The request as Assay keeps it, from one that a caller of `dialect` made."""
    messages = tuple(_message(turn, lambda proof: given_back(proof, dialect)) for turn in request.messages)
    return request if _same(messages, request.messages) else replace(request, messages=messages)


def opened_request(request: Request, dialect: str) -> tuple[Request, tuple[str, ...]]:
    """The request for an upstream of `dialect`, without others' proofs, and the paths of those."""
    messages = tuple(_message(turn, lambda proof: bare(proof, dialect)) for turn in request.messages)
    if _same(messages, request.messages):
        return request, ()
    dropped = tuple(
        f"messages[{number}].parts[{index}].signature"
        for number, (old, new) in enumerate(zip(request.messages, messages, strict=True))
        if old is not new
        for index, (before, after) in enumerate(zip(old.parts, new.parts, strict=True))
        if len(_proofs(before)) > len(_proofs(after))
    )
    return replace(request, messages=messages), dropped


def _same(messages: tuple[Message, ...], others: tuple[Message, ...]) -> bool:
    return all(one is other for one, other in zip(messages, others, strict=True))


def _message(message: Message, change: _Change) -> Message:
    """The message itself where nothing in it has a proof that changes."""
    if message.role != "assistant":
        return message
    parts = tuple(_part(part, change) for part in message.parts)
    if all(one is other for one, other in zip(parts, message.parts, strict=True)):
        return message
    return replace(message, parts=parts)


def _proofs(part: Part) -> list[str]:
    match part:
        case Reasoning():
            return [proof for proof in (part.signature, part.encrypted) if proof is not None]
        case Text() | ToolCall():
            return [] if part.signature is None else [part.signature]
        case _:
            return []


def _part(part: Part, change: _Change) -> Part:
    match part:
        case Text(signature=str() as proof) | ToolCall(signature=str() as proof):
            changed = change(proof)
            return part if changed == proof else replace(part, signature=changed)
        case Reasoning() if part.signature is not None or part.encrypted is not None:
            signature = None if part.signature is None else change(part.signature)
            encrypted = None if part.encrypted is None else change(part.encrypted)
            if signature == part.signature and encrypted == part.encrypted:
                return part
            # An id belongs with the proof: it is the name of an item that only its API knows.
            known = part.id if signature is not None or encrypted is not None else None
            return replace(part, signature=signature, encrypted=encrypted, id=known)
        case _:
            return part


_FIELDS = ("signature", "data", "encrypted_content", "thoughtSignature", "thought_signature")
"""Where the dialects have their proofs."""
_THOUGHTS = ("thinking", "redacted_thinking", "reasoning")
"""Types of parts that are nothing without theirs."""


def opened_body(body: bytes, dialect: str) -> bytes:
    """A caller's JSON body for an upstream of the same dialect: its own proofs bare, others' left out."""
    return msgspec.json.encode(_opened(msgspec.json.decode(body), dialect))


def _opened(value: JSON, dialect: str) -> JSON:
    match value:
        case list():
            return [_opened(item, dialect) for item in value if not _foreign_thought(item, dialect)]
        case dict():
            found = {name: _opened(item, dialect) for name, item in value.items()}
            for name in _FIELDS:
                if isinstance(proof := found.get(name), str) and _unwrapped(proof).startswith(SEAL):
                    found.pop(name)
                    if (own := bare(_unwrapped(proof), dialect)) is not None:
                        found[name] = own
            return found
        case _:
            return value


def _foreign_thought(item: JSON, dialect: str) -> bool:
    if not isinstance(item, dict) or not (_is_thought(item.get("type")) or item.get("thought") is True):
        return False
    proofs = [found for name in _FIELDS if isinstance(found := item.get(name), str)]
    return any(bare(_unwrapped(proof), dialect) is None for proof in proofs)


def _is_thought(kind: JSON) -> bool:
    return isinstance(kind, str) and kind in _THOUGHTS


def _unwrapped(proof: str) -> str:
    """A sealed proof that went out in base64, as it was."""
    if not proof.startswith(_WRAPPED):
        return proof
    try:
        return b64decode(proof, validate=True).decode()
    except ValueError:
        return proof


# --- replies -------------------------------------------------------------------------------------


def sealed_event(event: Event, dialect: str) -> Event:
    """An upstream's event as Assay keeps it."""
    return _event(event, lambda proof: sealed(proof, dialect))


def opened_event(event: Event, dialect: str) -> Event:
    """An event for a caller of `dialect`: its own proofs bare, others sealed, for it to send back."""
    return _event(event, lambda proof: _own_or_sealed(proof, dialect))


def opened_response(response: Response, dialect: str) -> Response:
    """The same for a whole reply."""
    return _response(response, lambda proof: _own_or_sealed(proof, dialect))


def _event(event: Event, change: _Change) -> Event:
    match event:
        case TextDelta(signature=str() as proof) | ToolCallDelta(signature=str() as proof):
            return replace(event, signature=change(proof))
        case ReasoningDelta() if event.signature is not None or event.encrypted is not None:
            signature = None if event.signature is None else change(event.signature)
            encrypted = None if event.encrypted is None else change(event.encrypted)
            return replace(event, signature=signature, encrypted=encrypted)
        case Completed(response):
            changed = _response(response, change)
            return event if changed is response else Completed(changed)
        case _:
            return event


def _response(response: Response, change: _Change) -> Response:
    choices = tuple(_choice(choice, change) for choice in response.choices)
    if all(one is other for one, other in zip(choices, response.choices, strict=True)):
        return response
    return replace(response, choices=choices)


def _choice(choice: Choice, change: _Change) -> Choice:
    message = _message(choice.message, change)
    return choice if message is choice.message else replace(choice, message=message)
