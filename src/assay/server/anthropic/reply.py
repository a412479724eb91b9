"""Whole replies as Anthropic's Message, and what streams share with them. Streams live in .stream.

What Anthropic may leave null is null, never absent. Usage that nobody told is 0: the API has no word for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias, assert_never

import msgspec

from assay.errors import BadResponse, UnsupportedFeature
from assay.providers.anthropic.vocabulary import DIALECT, finish_from, is_citation, made_up_id
from assay.providers.growing import is_object
from assay.server.dialect import Written
from assay.types import (
    Audio,
    Choice,
    Extra,
    File,
    Finish,
    FinishReason,
    Image,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Response,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)

Body: TypeAlias = dict[str, Any]

ENCODE = msgspec.json.Encoder().encode


def write(response: Response, _options: object = None) -> Written:
    """A Message. Raises UnsupportedFeature for what the API has no place for."""
    choice = only_choice(response)
    parts = choice.message.parts
    content = [block for number, part in enumerate(parts) for block in _blocks(part, response.id, number)]
    called = any(isinstance(part, ToolCall) for part in parts)
    refused = any(isinstance(part, Refusal) and part.text for part in parts)
    body = {
        **message(response.id, response.model, response.extra, usage(response.usage, response.extra)),
        "content": content,
        **stop(choice.finish, response.extra, called=called, refused=refused),
    }
    return Written(ENCODE(body), tuple(_dropped(response)))


def write_count(response: Response, _options: object = None) -> Written:
    """The number of tokens in a call's input."""
    if response.usage is None:
        raise BadResponse(
            "The upstream did not tell how many tokens the input has", provider=response.provider
        )
    return Written(ENCODE({"input_tokens": response.usage.tokens_in}))


def only_choice(response: Response) -> Choice:
    if len(response.choices) > 1:
        raise too_many()
    if not response.choices:
        raise BadResponse("The upstream gave no reply", provider=response.provider)
    return response.choices[0]


def too_many() -> UnsupportedFeature:
    return UnsupportedFeature("Anthropic's API has one reply to a call; ask for one choice", param="choices")


# --- the message around its content --------------------------------------------------------------


def own(extra: Extra | None) -> Body:
    """What an Anthropic upstream said beyond the canonical types; others' fields have no name here."""
    return extra.fields if extra is not None and extra.dialect == DIALECT else {}


def message(id_: str, model: str, extra: Extra | None, usage_: Body) -> Body:
    """A Message without content, that has not stopped yet."""
    body: Body = {
        "id": id_,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "diagnostics": None,
    }
    body.update({name: value for name, value in own(extra).items() if name not in {"usage", "stop_details"}})
    body["usage"] = usage_
    return body


def usage(told: Usage | None, extra: Extra | None) -> Body:
    """`input_tokens` has no cached token in it; `output_tokens` has the thinking."""
    known = told or Usage()
    written = {
        "ephemeral_5m_input_tokens": known.cache_write,
        "ephemeral_1h_input_tokens": known.cache_write_1h,
    }
    body: Body = {
        **final_usage(told, None),
        "cache_creation": written,
        "service_tier": None,
        "inference_geo": None,
        "speed": None,
    }
    body.update(own(extra).get("usage") or {})
    return body


def final_usage(told: Usage | None, extra: Extra | None) -> Body:
    """The usage at the end of a stream."""
    known = told or Usage()
    further = own(extra).get("usage") or {}
    return {
        "input_tokens": known.input + known.input_audio + known.input_image,
        "cache_creation_input_tokens": known.cache_write + known.cache_write_1h,
        "cache_read_input_tokens": known.cache_read + known.cache_read_audio,
        "output_tokens": known.tokens_out,
        "output_tokens_details": {"thinking_tokens": known.reasoning},
        "server_tool_use": further.get("server_tool_use"),
    }


_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "stop_sequence": "stop_sequence",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    "context_exceeded": "model_context_window_exceeded",
    # Anthropic has no word for these. The reply is not whole: so much this one says.
    "malformed_tool_call": "max_tokens",
    "other": "max_tokens",
}


def stop(finish: Finish, extra: Extra | None, *, called: bool, refused: bool) -> Body:
    """Why the model stopped. Who calls a tool waits for its result, even if a server says it is done."""
    reason = _REASONS[finish.reason]
    if finish.raw is not None and finish_from(finish.raw, None).reason == finish.reason != "other":
        reason = finish.raw
    if reason == "end_turn":
        reason = "refusal" if refused else "tool_use" if called else reason
    details = own(extra).get("stop_details")
    if details is None and reason == "refusal":
        filtered = finish.reason == "content_filter"
        words = "A content filter of the provider stopped the reply." if filtered else None
        details = {"type": "refusal", "category": None, "explanation": words}
    sequence = finish.stop_sequence if reason == "stop_sequence" else None
    return {"stop_reason": reason, "stop_sequence": sequence, "stop_details": details}


# --- content -------------------------------------------------------------------------------------


def _blocks(part: Part, reply_id: str, number: int) -> Iterator[Body]:
    """Most parts are one block; what says nothing is none, since the API would not take it back."""
    match part:
        case Text():
            cited = citations(part.annotations)
            if part.text or cited:
                yield {**text_block(part.text, cited), **own(part.extra)}
        case Refusal():
            if part.text:
                yield text_block(part.text, [])
        case Reasoning():
            text = part.text or "".join(part.summary)
            if text or part.signature:
                yield {"type": "thinking", "thinking": text, "signature": part.signature or ""}
            if part.encrypted:
                yield {"type": "redacted_thinking", "data": part.encrypted}
        case ToolCall():
            require_function(part.kind, part.name)
            block = call_block(part.id or made_up_id(reply_id, number), part.name, part.signature)
            yield {**block, "input": _input(part), **own(part.extra)}
        case Opaque():
            yield opaque_block(part)
        case Audio() | Image() | File() | ToolResult():
            raise unsupported(type(part).__name__)
        case _:
            assert_never(part)


def text_block(text: str, cited: list[Any]) -> Body:
    return {"type": "text", "text": text, "citations": cited or None}


def call_block(id_: str, name: str, signature: str | None) -> Body:
    """A `tool_use` whose input is to come. Gemini's signature has no place in it but this one, which clients
    send back."""
    body: Body = {"type": "tool_use", "id": id_, "name": name, "input": {}, "caller": {"type": "direct"}}
    if signature is not None:
        body["extra_content"] = {"google": {"thought_signature": signature}}
    return body


def opaque_block(part: Opaque) -> Body:
    if part.dialect != DIALECT or not isinstance(part.body, dict):
        raise unsupported(f"{part.dialect} {type(part).__name__}")
    return part.body


def citations(annotations: tuple[Any, ...]) -> list[Any]:
    """Those that are Anthropic's: others have other fields."""
    return [note for note in annotations if is_citation(note)]


def _input(call: ToolCall) -> Body | msgspec.Raw:
    """The arguments as written. What is no JSON object is shown in the form that Anthropic names for it."""
    text = call.arguments
    if not text.strip():
        return {}
    return msgspec.Raw(text.encode()) if is_object(text) else {"INVALID_JSON": text}


def require_function(kind: str, name: str) -> None:
    if kind != "function":
        raise UnsupportedFeature(
            f"The model called '{name}' with free text, and Anthropic's API has JSON input alone; "
            "give the tool a JSON schema"
        )


def unsupported(kind: str) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"The reply holds a part of type {kind}, for which Anthropic's API has no place; "
        "call this model through its own API"
    )


def _dropped(response: Response) -> Iterator[str]:
    """What nobody is misled without."""
    choice = response.choices[0]
    if choice.logprobs:
        yield "choices[0].logprobs"
    for number, part in enumerate(choice.message.parts):
        where = f"choices[0].message.parts[{number}]"
        if isinstance(part, Text):
            if len(citations(part.annotations)) < len(part.annotations):
                yield f"{where}.annotations"
            if part.signature is not None:
                yield f"{where}.signature"
