"""The body of a chat completions call, as OpenAI's API takes it. What it means is .parse's concern.

Every object refuses fields that the API does not have, except for those that its own replies carry and that
clients send back with the conversation, and for `top_k`, which other servers of this API take. `None` stands
for absent and for null alike, as it does at OpenAI.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """An object of the wire that refuses unknown fields."""


# --- content -------------------------------------------------------------------------------------


class TextPart(Strict, tag_field="type", tag="text"):
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = None


class RefusalPart(Strict, tag_field="type", tag="refusal"):
    refusal: str


class ImageUrl(Strict):
    url: str
    detail: str | None = None


class ImagePart(Strict, tag_field="type", tag="image_url"):
    image_url: ImageUrl
    prompt_cache_breakpoint: dict[str, Any] | None = None


class InputAudio(Strict):
    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Strict, tag_field="type", tag="input_audio"):
    input_audio: InputAudio
    prompt_cache_breakpoint: dict[str, Any] | None = None


class FileFields(Strict):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(Strict, tag_field="type", tag="file"):
    file: FileFields
    prompt_cache_breakpoint: dict[str, Any] | None = None


ContentPart: TypeAlias = TextPart | ImagePart | AudioPart | FilePart | RefusalPart
Content: TypeAlias = str | list[ContentPart]

# --- messages ------------------------------------------------------------------------------------


class SystemMessage(Strict, tag_field="role", tag="system"):
    content: Content
    name: str | None = None


class DeveloperMessage(Strict, tag_field="role", tag="developer"):
    content: Content
    name: str | None = None


class UserMessage(Strict, tag_field="role", tag="user"):
    content: Content
    name: str | None = None


class CalledFunction(Strict):
    name: str
    arguments: str


class CalledCustom(Strict):
    name: str
    input: str


class GoogleContent(msgspec.Struct):
    thought_signature: str | None = None


class ExtraContent(msgspec.Struct):
    """Where Gemini's OpenAI-compatible API puts its signatures; replies carry it, so clients send it back."""

    google: GoogleContent | None = None


class SentCall(Strict):
    """`index` is what a call assembled from a stream still has on it."""

    id: str
    type: Literal["function", "custom"] = "function"
    function: CalledFunction | None = None
    custom: CalledCustom | None = None
    index: int | None = None
    extra_content: ExtraContent | None = None


class SentAudio(Strict):
    """Only `id` is OpenAI's; the rest is there when a reply is sent back as it came."""

    id: str
    data: str | None = None
    transcript: str | None = None
    expires_at: int | None = None


class AssistantMessage(Strict, tag_field="role", tag="assistant"):
    content: Content | None = None
    refusal: str | None = None
    name: str | None = None
    audio: SentAudio | None = None
    tool_calls: list[SentCall] | None = None
    function_call: dict[str, Any] | None = None
    annotations: list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class ToolMessage(Strict, tag_field="role", tag="tool"):
    content: Content
    tool_call_id: str
    name: str | None = None


class FunctionMessage(Strict, tag_field="role", tag="function"):
    content: Content | None = None
    name: str | None = None


AnyMessage: TypeAlias = (
    SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage
)

# --- tools and output ----------------------------------------------------------------------------


class FunctionFields(Strict):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionToolBody(Strict, tag_field="type", tag="function"):
    function: FunctionFields


class CustomFields(Strict):
    name: str
    description: str | None = None
    format: dict[str, Any] | None = None


class CustomToolBody(Strict, tag_field="type", tag="custom"):
    custom: CustomFields


class Named(Strict):
    name: str


class FunctionChoice(Strict, tag_field="type", tag="function"):
    function: Named


class CustomChoice(Strict, tag_field="type", tag="custom"):
    custom: Named


class AllowedTools(Strict):
    mode: Literal["auto", "required"]
    tools: list[FunctionChoice | CustomChoice]


class AllowedChoice(Strict, tag_field="type", tag="allowed_tools"):
    allowed_tools: AllowedTools


class TextFormat(Strict, tag_field="type", tag="text"):
    pass


class JsonFormat(Strict, tag_field="type", tag="json_object"):
    pass


class SchemaFields(Strict):
    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class SchemaFormat(Strict, tag_field="type", tag="json_schema"):
    json_schema: SchemaFields


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


# --- the call ------------------------------------------------------------------------------------

TokenLimit: TypeAlias = Annotated[int, Meta(ge=1)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]


class Body(Strict):
    """Fields after `stream_options` have no place in a Request: they travel as its Extra."""

    model: str
    messages: Annotated[list[AnyMessage], Meta(min_length=1)]
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[str, int | float] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    tools: list[FunctionToolBody | CustomToolBody] | None = None
    tool_choice: (
        Literal["none", "auto", "required"] | FunctionChoice | CustomChoice | AllowedChoice | None
    ) = None
    parallel_tool_calls: bool | None = None
    functions: Any = None
    function_call: Any = None
    response_format: TextFormat | JsonFormat | SchemaFormat | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    store: bool | None = None
    prediction: dict[str, Any] | None = None
    verbosity: str | None = None
    moderation: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    web_search_options: dict[str, Any] | None = None


EXTRA_FIELDS = Body.__struct_fields__[Body.__struct_fields__.index("stream_options") + 1 :]
"""Known to OpenAI's API and to nothing else."""
