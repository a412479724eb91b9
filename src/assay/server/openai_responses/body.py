"""The body of a call to the Responses API, as OpenAI takes it. What it means is .parse's and .items' concern.

Every object refuses fields that the API does not have, except for those that its own replies carry and that
clients send back with the conversation. `None` stands for absent and for null alike, as it does at OpenAI.
Items and tools are decoded one at a time, by their type.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """An object of the wire that refuses unknown fields."""


# --- content -------------------------------------------------------------------------------------


class InputText(Strict, tag_field="type", tag="input_text"):
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = None


class InputImage(Strict, tag_field="type", tag="input_image"):
    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None


class InputFile(Strict, tag_field="type", tag="input_file"):
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None
    detail: str | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None


class AudioFields(Strict):
    data: str
    format: Literal["wav", "mp3"]


class InputAudio(Strict, tag_field="type", tag="input_audio"):
    input_audio: AudioFields
    prompt_cache_breakpoint: dict[str, Any] | None = None


class OutputText(Strict, tag_field="type", tag="output_text"):
    """`parsed` is what OpenAI's SDK puts beside the text of a structured answer."""

    text: str
    annotations: list[Any] | None = None
    logprobs: Any = None
    parsed: Any = None


class OutputRefusal(Strict, tag_field="type", tag="refusal"):
    refusal: str


ContentPart: TypeAlias = InputText | InputImage | InputFile | InputAudio | OutputText | OutputRefusal
ResultPart: TypeAlias = InputText | InputImage | InputFile

# --- items ---------------------------------------------------------------------------------------


class Head(msgspec.Struct):
    """What tells items apart: a message may leave out its type."""

    type: str | None = None
    role: str | None = None


class MessageItem(Strict):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[ContentPart]
    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class Google(msgspec.Struct):
    thought_signature: str | None = None


class ExtraContent(msgspec.Struct):
    """Where Gemini's signatures travel; replies carry it, so clients send it back."""

    google: Google | None = None


class FunctionCall(Strict):
    """`parsed_arguments` is what OpenAI's SDK adds."""

    type: str
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None
    caller: dict[str, Any] | None = None
    created_by: str | None = None
    is_async: bool | None = msgspec.field(default=None, name="async")
    namespace: str | None = None
    parsed_arguments: Any = None
    extra_content: ExtraContent | None = None


class CustomCall(Strict):
    type: str
    call_id: str
    name: str
    input: str
    id: str | None = None
    status: str | None = None
    caller: dict[str, Any] | None = None
    created_by: str | None = None
    is_async: bool | None = msgspec.field(default=None, name="async")
    namespace: str | None = None
    extra_content: ExtraContent | None = None


class CallOutput(Strict):
    """The result of a function or of a custom tool."""

    type: str
    call_id: str
    output: str | list[ResultPart]
    id: str | None = None
    status: str | None = None
    caller: dict[str, Any] | None = None
    created_by: str | None = None
    name: str | None = None
    namespace: str | None = None


class Piece(Strict):
    text: str
    type: str


class ReasoningItem(Strict):
    type: str
    summary: list[Piece] = []
    id: str | None = None
    content: list[Piece] | None = None
    encrypted_content: str | None = None
    status: str | None = None


HOSTED_BY_MODEL = frozenset(
    {
        "apply_patch_call",
        "code_interpreter_call",
        "compaction",
        "computer_call",
        "file_search_call",
        "image_generation_call",
        "local_shell_call",
        "mcp_approval_request",
        "mcp_call",
        "mcp_list_tools",
        "program",
        "program_output",
        "shell_call",
        "tool_search_call",
        "web_search_call",
    }
)
"""What the model said, for tools that OpenAI defines."""

HOSTED_BY_CALLER = frozenset(
    {
        "additional_tools",
        "apply_patch_call_output",
        "compaction_trigger",
        "computer_call_output",
        "configuration_update",
        "local_shell_call_output",
        "mcp_approval_response",
        "shell_call_output",
        "tool_search_output",
    }
)
"""What the caller answers to such."""

OWN_ITEMS = (
    "message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "reasoning",
)

# --- tools and output ----------------------------------------------------------------------------


class Function(Strict):
    type: str
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    allowed_callers: list[str] | None = None
    is_async: bool | None = msgspec.field(default=None, name="async")
    defer_loading: bool | None = None
    output_schema: dict[str, Any] | None = None


class Custom(Strict):
    type: str
    name: str
    description: str | None = None
    format: dict[str, Any] | None = None
    allowed_callers: list[str] | None = None
    is_async: bool | None = msgspec.field(default=None, name="async")
    defer_loading: bool | None = None


class TextFormat(Strict, tag_field="type", tag="text"):
    pass


class JsonFormat(Strict, tag_field="type", tag="json_object"):
    pass


class SchemaFormat(Strict, tag_field="type", tag="json_schema"):
    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextConfig(Strict):
    format: TextFormat | JsonFormat | SchemaFormat | None = None
    verbosity: str | None = None


class ReasoningConfig(Strict):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None
    mode: str | None = None


class StreamOptions(Strict):
    include_obfuscation: bool | None = None


# --- the call ------------------------------------------------------------------------------------


class Body(Strict):
    """Fields after `truncation` have no place in a Request: they travel as its Extra."""

    model: str
    input: str | list[msgspec.Raw] | None = None
    instructions: str | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    service_tier: str | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    background_options: Any = None
    truncation: Literal["auto", "disabled"] | None = None

    prompt: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    context_management: list[Any] | None = None
    moderation: dict[str, Any] | None = None
    access_programs: dict[str, Any] | None = None
    image: dict[str, Any] | None = None


EXTRA_FIELDS = Body.__struct_fields__[Body.__struct_fields__.index("truncation") + 1 :]
"""Known to OpenAI's API and to nothing else."""
