"""The body of a Messages call, as Anthropic's API takes it. What it means is .parse's and .content's concern.

Every object refuses fields that the API does not have. `None` stands for absent and for null alike. Content
blocks stay dicts until .content looks at their `type`: those that Assay has no word for travel verbatim.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec
from msgspec import Meta


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """An object of the wire that refuses unknown fields."""


class CacheControl(Strict):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


# --- content blocks ------------------------------------------------------------------------------


class GoogleContent(msgspec.Struct):
    thought_signature: str | None = None


class ExtraContent(msgspec.Struct):
    """Where Gemini's signatures travel; replies carry it, so clients send it back."""

    google: GoogleContent | None = None


class TextBlock(Strict, tag_field="type", tag="text"):
    text: str
    citations: list[dict[str, Any]] | None = None
    cache_control: CacheControl | None = None


class Base64Image(Strict, tag_field="type", tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class UrlSource(Strict, tag_field="type", tag="url"):
    url: str


class FileSource(Strict, tag_field="type", tag="file"):
    file_id: str


class ImageBlock(Strict, tag_field="type", tag="image"):
    source: Base64Image | UrlSource | FileSource
    cache_control: CacheControl | None = None
    transformations: dict[str, Any] | None = None


class Base64Document(Strict, tag_field="type", tag="base64"):
    media_type: Literal["application/pdf"]
    data: str


class TextSource(Strict, tag_field="type", tag="text"):
    media_type: Literal["text/plain"]
    data: str


class ContentSource(Strict, tag_field="type", tag="content"):
    content: str | list[dict[str, Any]]


class CitationsConfig(Strict):
    enabled: bool | None = None


class DocumentBlock(Strict, tag_field="type", tag="document"):
    source: Base64Document | TextSource | ContentSource | UrlSource | FileSource
    title: str | None = None
    context: str | None = None
    citations: CitationsConfig | None = None
    cache_control: CacheControl | None = None


class ThinkingBlock(Strict, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class RedactedThinkingBlock(Strict, tag_field="type", tag="redacted_thinking"):
    data: str


class ToolUseBlock(Strict, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]
    cache_control: CacheControl | None = None
    caller: dict[str, Any] | None = None
    toolset_name: str | None = None
    extra_content: ExtraContent | None = None


class ToolResultBlock(Strict, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[dict[str, Any]] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None
    toolset_name: str | None = None


Block: TypeAlias = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
)

BLOCKS: dict[str, type[Block]] = {
    "text": TextBlock,
    "image": ImageBlock,
    "document": DocumentBlock,
    "thinking": ThinkingBlock,
    "redacted_thinking": RedactedThinkingBlock,
    "tool_use": ToolUseBlock,
    "tool_result": ToolResultBlock,
}

OPAQUE_BLOCKS = frozenset(
    {
        "advisor_tool_result",
        "bash_code_execution_tool_result",
        "code_execution_tool_result",
        "compaction",
        "container_upload",
        "fallback",
        "mcp_tool_listing",
        "mcp_tool_result",
        "mcp_tool_use",
        "search_result",
        "server_tool_use",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "web_fetch_tool_result",
        "web_search_tool_result",
    }
)
"""Blocks of a user's or assistant's turn that mean something to Anthropic alone."""

RESULT_BLOCKS = frozenset({"text", "image", "document", "search_result", "tool_reference", "browser_state"})
SYSTEM_BLOCKS = frozenset({"text", "tool_addition", "tool_removal"})

# --- messages and tools --------------------------------------------------------------------------


class MessageBody(Strict):
    """`clear_at` and `output_config` are for system messages in mid-conversation, as are their blocks."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]] | None = None
    clear_at: Literal["next_user_message", "never"] | None = None
    output_config: dict[str, Any] | None = None


class ToolBody(Strict):
    """A tool that the caller runs. Fields after `strict` travel as its Extra."""

    name: str
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: str | None = None
    cache_control: CacheControl | None = None
    strict: bool | None = None

    allowed_callers: list[str] | None = None
    defer_loading: bool | None = None
    eager_input_streaming: bool | None = None
    input_examples: list[dict[str, Any]] | None = None


TOOL_EXTRA_FIELDS = ToolBody.__struct_fields__[ToolBody.__struct_fields__.index("strict") + 1 :]

UNDATED_TOOLS = frozenset({"tool_search_tool_bm25", "tool_search_tool_regex", "mcp_toolset"})
"""Tools that Anthropic runs and whose type does not end in a date."""


class AutoChoice(Strict, tag_field="type", tag="auto"):
    disable_parallel_tool_use: bool | None = None


class AnyChoice(Strict, tag_field="type", tag="any"):
    disable_parallel_tool_use: bool | None = None


class ToolChoiceBody(Strict, tag_field="type", tag="tool"):
    name: str
    disable_parallel_tool_use: bool | None = None


class NoneChoice(Strict, tag_field="type", tag="none"):
    pass


# --- thinking and output -------------------------------------------------------------------------

Display: TypeAlias = Literal["summarized", "omitted", "updates"]


class EnabledThinking(Strict, tag_field="type", tag="enabled"):
    budget_tokens: Annotated[int, Meta(ge=1024)]
    display: Display | None = None
    block_binding: dict[str, Any] | None = None


class AdaptiveThinking(Strict, tag_field="type", tag="adaptive"):
    display: Display | None = None
    block_binding: dict[str, Any] | None = None


class BetweenToolsThinking(Strict, tag_field="type", tag="between_tools"):
    pass


class DisabledThinking(Strict, tag_field="type", tag="disabled"):
    pass


ThinkingBody: TypeAlias = EnabledThinking | AdaptiveThinking | BetweenToolsThinking | DisabledThinking


class JsonSchemaFormat(Strict, tag_field="type", tag="json_schema"):
    schema: dict[str, Any]


class OutputConfig(Strict):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonSchemaFormat | None = None
    task_budget: dict[str, Any] | None = None


class MetadataBody(Strict):
    user_id: str | None = None


# --- the call ------------------------------------------------------------------------------------


class Asked(Strict, kw_only=True):
    """What a call and a count of its tokens have in common. `extra_fields` have no place in a Request."""

    model: str
    messages: Annotated[list[MessageBody], Meta(min_length=1)]
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: AutoChoice | AnyChoice | ToolChoiceBody | NoneChoice | None = None
    thinking: ThinkingBody | None = None
    output_config: OutputConfig | None = None

    cache_control: dict[str, Any] | None = None
    speed: Literal["standard", "fast"] | None = None
    context_management: dict[str, Any] | None = None
    compaction: dict[str, Any] | None = None
    mcp_servers: list[dict[str, Any]] | None = None
    billing_policy: dict[str, Any] | None = None

    extra_fields: ClassVar[tuple[str, ...]] = (
        "cache_control",
        "speed",
        "context_management",
        "compaction",
        "mcp_servers",
        "billing_policy",
    )


class CountBody(Asked, kw_only=True):
    """POST /v1/messages/count_tokens."""


class Body(Asked, kw_only=True):
    """POST /v1/messages."""

    max_tokens: Annotated[int, Meta(ge=0)]
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: list[str] | None = None
    metadata: MetadataBody | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    stream: bool | None = None

    container: str | dict[str, Any] | None = None
    diagnostics: dict[str, Any] | None = None
    inference_geo: str | None = None
    fallbacks: str | list[dict[str, Any]] | None = None
    fallback_credit_token: str | dict[str, Any] | None = None
    thread: dict[str, Any] | None = None

    extra_fields: ClassVar[tuple[str, ...]] = (
        *Asked.extra_fields,
        "container",
        "diagnostics",
        "inference_geo",
        "fallbacks",
        "fallback_credit_token",
        "thread",
    )
