"""Replies in Gemini's words, whole: generateContent, embeddings, counted tokens. Streams live in .stream.

Nothing is null: what is not there is left out, as protocol buffers do. A call whose arguments are not a JSON
object has no place in the API: it is told in `finishMessage`, as Google tells it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from assay.errors import BadResponse, UnsupportedFeature
from assay.providers.gemini.vocabulary import DIALECT, base64_of, is_signature
from assay.providers.proofs import SEAL
from assay.server.dialect import Written
from assay.server.gemini.contents import ENCRYPTED
from assay.server.gemini.parse import Options
from assay.types import (
    JSON,
    Audio,
    Choice,
    Extra,
    File,
    Finish,
    FinishReason,
    Image,
    Inline,
    Link,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Response,
    Source,
    Text,
    TokenLogprob,
    ToolCall,
    ToolResult,
    Uploaded,
    Usage,
)

Body: TypeAlias = dict[str, Any]

_ENCODE = msgspec.json.Encoder().encode

# --- whole ---------------------------------------------------------------------------------------


def write_generate(response: Response, options: Options | None) -> Written:
    """A GenerateContentResponse. Raises UnsupportedFeature for a part that the API has no place for."""
    body, dropped = response_body(response, options or Options())
    return Written(_ENCODE(body), dropped)


def response_body(response: Response, options: Options) -> tuple[Body, tuple[str, ...]]:
    """The reply, and what was left out of it."""
    dropped: list[str] = []
    candidates = [_candidate(choice, n, options, dropped) for n, choice in enumerate(response.choices)]
    body: Body = {"candidates": candidates} if candidates else {}
    if response.usage is not None:
        body["usageMetadata"] = usage_to(response.usage)
    body |= named(response.model, response.id)
    return merged(body, own(response.extra)), tuple(dropped)


def named(model: str, id_: str) -> Body:
    body: Body = {"modelVersion": model} if model else {}
    return {**body, "responseId": id_} if id_ else body


def own(extra: Extra | None) -> Body:
    """What a Gemini upstream said beyond the canonical types; other dialects' fields have no name here."""
    return extra.fields if extra is not None and extra.dialect == DIALECT else {}


def merged(body: Body, fields: Body) -> Body:
    """The reply with an upstream's own fields, each where it stood; what the reply says already stays."""
    for name, value in fields.items():
        if name == "candidates" and isinstance(value, list):
            for candidate, told in zip(body.get("candidates", ()), value, strict=False):
                candidate |= {key: one for key, one in told.items() if key not in candidate}
        elif name == "usageMetadata" and isinstance(value, dict):
            body[name] = {**value, **body.get(name, {})}
        else:
            body.setdefault(name, value)
    feedback = body.get("promptFeedback")
    if isinstance(feedback, dict) and feedback.get("blockReason") and not _said(body):
        body.pop("candidates", None)  # as Google answers to a prompt that it blocks
    return body


def _said(body: Body) -> bool:
    parts = [part for candidate in body.get("candidates", ()) for part in candidate["content"]["parts"]]
    return any(part != {"text": ""} for part in parts)


def _candidate(choice: Choice, number: int, options: Options, dropped: list[str]) -> Body:
    parts: list[Body] = []
    broken: list[ToolCall] = []
    refused = False
    for index, part in enumerate(choice.message.parts):
        at = f"choices[{number}].message.parts[{index}]"
        match part:
            case ToolCall(kind="function") if arguments(part.arguments) is None:
                broken.append(part)
            case Reasoning(signature=None, encrypted=None) if not options.include_thoughts:
                continue
            case _:
                refused = refused or isinstance(part, Refusal)
                parts.append(part_to(part))
                dropped.extend(_left_out(part, at))
    body = candidate(parts, number)
    body |= finish_fields(choice.finish, broken, refused=refused)
    if choice.logprobs:
        body["logprobsResult"] = logprobs_to(choice.logprobs)
        body["avgLogprobs"] = sum(item.logprob for item in choice.logprobs) / len(choice.logprobs)
    return {**own(choice.message.extra), **body}


def candidate(parts: list[Body], number: int) -> Body:
    """With content always: the SDK's chats take a reply without any for invalid."""
    return {"content": {"parts": parts or [{"text": ""}], "role": "model"}, "index": number}


# --- parts ---------------------------------------------------------------------------------------


def part_to(part: Part) -> Body:
    """Raises UnsupportedFeature for a part that the API has no place for."""
    match part:
        case Text():
            return {**own(part.extra), "text": part.text, **signature_to(part.signature)}
        case Refusal():
            return {"text": part.text}
        case Reasoning():
            text = part.text or "\n\n".join(part.summary)
            return {
                **own(part.extra),
                "text": text,
                "thought": True,
                **proof_to(part.signature, part.encrypted),
            }
        case ToolCall(kind="function"):
            call = call_to(part.id, part.name, arguments(part.arguments) or {})
            return {**own(part.extra), "functionCall": call, **signature_to(part.signature)}
        case Audio(source=None):
            return {"text": part.transcript or ""}
        case Image() | Audio() | File():
            assert part.source is not None
            return media_to(part.source, own(part.extra))
        case Opaque(dialect="gemini", body=dict(body)):
            return dict(body)
        case ToolCall() | ToolResult() | Opaque():
            raise unsupported(type(part).__name__)


def media_to(source: Source, fields: Body) -> Body:
    fields = dict(fields)
    name = {"displayName": fields.pop("displayName")} if "displayName" in fields else {}
    match source:
        case Inline(media_type=media_type, data=data):
            return {
                "inlineData": {"mimeType": media_type, "data": base64_of(data), **name},
                **fields,
            }
        case Link(url=uri, media_type=kind) | Uploaded(file_id=uri, media_type=kind):
            told = {"mimeType": kind} if kind else {}
            return {"fileData": {**told, "fileUri": uri, **name}, **fields}


def call_to(id_: str, name: str, args: dict[str, JSON]) -> Body:
    return {**({"id": id_} if id_ else {}), "name": name, "args": args}


def arguments(text: str) -> dict[str, JSON] | None:
    """A call's arguments; None when they are not a JSON object."""
    if not text.strip():
        return {}
    try:
        args = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None
    return args if isinstance(args, dict) else None


def proof_to(signature: str | None, encrypted: str | None) -> Body:
    """What vouches for a thought, or stands in its place: the API has one field for both."""
    if signature is None and encrypted is not None:
        signature = ENCRYPTED + encrypted
    return signature_to(signature)


def signature_to(signature: str | None) -> Body:
    """What is not base64 is another provider's, and no client of this API could read it."""
    if signature is not None and signature.startswith(SEAL):
        # Another provider's, to be sent back: the API's clients read nothing but base64 here.
        signature = b64encode(signature.encode()).decode()
    return {"thoughtSignature": signature} if signature is not None and is_signature(signature) else {}


def _left_out(part: Part, at: str) -> list[str]:
    match part:
        case Text(annotations=annotations, signature=signature):
            names = ["annotations"] if annotations else []
        case Reasoning(signature=signature):
            names = ["encrypted"] if part.encrypted is not None and signature is not None else []
        case ToolCall(signature=signature):
            names = []
        case Audio(source=Inline()):
            signature, names = None, ["transcript"] if part.transcript else []
        case _:
            return []
    if signature is not None and not signature_to(signature):
        names.append("signature")
    return [f"{at}.{name}" for name in names]


def unsupported(kind: str) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"The reply holds a part of type {kind}, for which Gemini's API has no place; "
        "call this model through its own API"
    )


# --- finish reasons ------------------------------------------------------------------------------

# Google has no word for an answer that broke off for a reason of another provider's. OTHER does not look
# complete.
_REASONS: dict[FinishReason, str] = {
    "stop": "STOP",
    "stop_sequence": "STOP",
    "length": "MAX_TOKENS",
    "context_exceeded": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
    "pause": "OTHER",
    "malformed_tool_call": "MALFORMED_FUNCTION_CALL",
    "other": "OTHER",
}
_WORDS = frozenset(
    {
        "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT",
        "SPII", "MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_OTHER",
        "NO_IMAGE", "IMAGE_RECITATION", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE", "ESCALATION", "CONTINUATION", "MODEL_ARMOR",
    }
)  # fmt: skip


def finish_fields(finish: Finish, broken: Sequence[ToolCall], *, refused: bool) -> Body:
    """`broken` are the calls that cannot be shown: the answer must not look whole without them."""
    reason = finish.raw if finish.raw in _WORDS else _REASONS[finish.reason]
    if refused and reason == "STOP":
        reason = "SAFETY"
    if not broken:
        return {"finishReason": reason}
    calls = ", ".join(f"{call.name}({call.arguments[:1000]})" for call in broken)
    if reason == "STOP":
        reason = "MALFORMED_FUNCTION_CALL"
    return {"finishReason": reason, "finishMessage": f"Malformed function call: {calls}"}


# --- usage ---------------------------------------------------------------------------------------


def usage_to(usage: Usage) -> Body:
    """UsageMetadata: cached tokens are part of the prompt's, thoughts are not part of the candidates'."""
    cached = {"TEXT": usage.cache_read, "AUDIO": usage.cache_read_audio}
    written = usage.cache_write + usage.cache_write_1h
    prompt = {
        "TEXT": usage.input + usage.cache_read + written,
        "AUDIO": usage.input_audio + usage.cache_read_audio,
        "IMAGE": usage.input_image,
    }
    made = {"TEXT": usage.output, "AUDIO": usage.output_audio, "IMAGE": usage.output_image}
    body: Body = {"promptTokenCount": usage.tokens_in, "candidatesTokenCount": sum(made.values())}
    body["totalTokenCount"] = usage.tokens
    if usage.reasoning:
        body["thoughtsTokenCount"] = usage.reasoning
    if any(cached.values()):
        body["cachedContentTokenCount"] = sum(cached.values())
    for name, counts in (
        ("promptTokensDetails", prompt),
        ("cacheTokensDetails", cached),
        ("candidatesTokensDetails", made),
    ):
        if told := modalities_to(counts):
            body[name] = told
    return body


def modalities_to(counts: dict[str, int]) -> list[Body]:
    return [{"modality": name, "tokenCount": count} for name, count in counts.items() if count]


# --- log probabilities ---------------------------------------------------------------------------


def logprobs_to(logprobs: Sequence[TokenLogprob]) -> Body:
    body: Body = {"chosenCandidates": [_token(item) for item in logprobs]}
    if any(item.top for item in logprobs):
        body["topCandidates"] = [{"candidates": [_token(top) for top in item.top]} for item in logprobs]
    return body


def _token(item: TokenLogprob) -> Body:
    return {"token": item.token, "logProbability": item.logprob}


# --- the other calls -----------------------------------------------------------------------------


def write_embed(response: Response, _options: Any) -> Written:
    """The vector of the one input."""
    if len(response.vectors) != 1:
        raise BadResponse(f"The model gave {len(response.vectors)} vectors for one input; try again")
    return Written(_ENCODE({"embedding": {"values": response.vectors[0]}, **_read(response)}))


def write_batch(response: Response, _options: Any) -> Written:
    """A vector for each input, in their order."""
    return Written(
        _ENCODE({"embeddings": [{"values": vector} for vector in response.vectors], **_read(response)})
    )


def _read(response: Response) -> Body:
    if response.usage is None:
        return {}
    return {"usageMetadata": {"promptTokenCount": response.usage.tokens_in}}


def write_count(response: Response, _options: Any) -> Written:
    """How many tokens the call would be; raises BadResponse where nobody counted."""
    usage = response.usage
    if usage is None:
        raise BadResponse("The model's provider did not say how many tokens the call has; try another model")
    told = usage_to(usage)
    body = {"totalTokens": usage.tokens_in}
    for name in ("cachedContentTokenCount", "promptTokensDetails", "cacheTokensDetails"):
        if name in told:
            body[name] = told[name]
    return Written(_ENCODE(body))
