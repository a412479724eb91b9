"""The bodies of Gemini's calls, as Google's API takes them. What they mean: .parse and .contents.

Names are those of the JSON of protocol buffers: camelCase, and snake_case as well; a lone value where a list
is expected; whole numbers as strings ("64") or as 64.0; null for absent. `decode` takes all of these. Objects
refuse fields that the API does not have. What is Any here is handed on as it is.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import inspect

from assay.errors import RequestError
from assay.server.gemini.errors import body_error


class Strict(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """An object of the wire that refuses unknown fields."""


# --- content -------------------------------------------------------------------------------------


class Blob(Strict):
    mime_type: str | None = None
    data: str | None = None
    display_name: str | None = None


class FileData(Strict):
    file_uri: str | None = None
    mime_type: str | None = None
    display_name: str | None = None


class FunctionCall(Strict):
    name: str | None = None
    id: str | None = None
    args: dict[str, Any] | None = None


class ResponsePart(Strict):
    """Media within a function's response."""

    inline_data: Blob | None = None
    file_data: FileData | None = None

    video_metadata: Any = None
    media_resolution: Any = None
    media_processing: Any = None
    document_metadata: Any = None
    spreadsheet_metadata: Any = None
    audio_metadata: Any = None


class FunctionResponse(Strict):
    name: str | None = None
    id: str | None = None
    response: dict[str, Any] | None = None
    parts: list[ResponsePart] | None = None
    scheduling: str | None = None
    will_continue: bool | None = None


class Part(Strict):
    """One of the fields up to `tool_response` says what it is; the rest are about it."""

    text: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    executable_code: Any = None
    code_execution_result: Any = None
    tool_call: Any = None
    tool_response: Any = None

    thought: bool | None = None
    thought_signature: str | None = None

    video_metadata: Any = None
    media_resolution: Any = None
    media_processing: Any = None
    part_metadata: Any = None
    audio_transcription: Any = None
    speech_metadata: Any = None
    document_metadata: Any = None
    spreadsheet_metadata: Any = None
    audio_metadata: Any = None


class Content(Strict):
    parts: list[Part] | None = None
    role: str | None = None


# --- tools ---------------------------------------------------------------------------------------


class FunctionDeclaration(Strict):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None

    response: dict[str, Any] | None = None
    response_json_schema: Any = None
    behavior: str | None = None


class Tool(Strict):
    function_declarations: list[FunctionDeclaration] | None = None

    google_search: Any = None
    google_search_retrieval: Any = None
    google_maps: Any = None
    url_context: Any = None
    code_execution: Any = None
    file_search: Any = None
    computer_use: Any = None
    mcp_servers: Any = None
    retrieval: Any = None
    enterprise_web_search: Any = None
    parallel_ai_search: Any = None
    exa_ai_search: Any = None


class FunctionCallingConfig(Strict):
    mode: str | None = None
    allowed_function_names: list[str] | None = None
    stream_function_call_arguments: bool | None = None


class ToolConfig(Strict):
    function_calling_config: FunctionCallingConfig | None = None

    retrieval_config: Any = None
    include_server_side_tool_invocations: bool | None = None


# --- generation ----------------------------------------------------------------------------------


class ThinkingConfig(Strict):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class GenerationConfig(Strict):
    """Fields after `thinking_config` have no place in a Request: they travel as its Extra."""

    candidate_count: int | None = None
    stop_sequences: list[str] | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    response_format: list[dict[str, Any]] | None = None
    response_modalities: list[str] | None = None
    thinking_config: ThinkingConfig | None = None

    speech_config: Any = None
    image_config: Any = None
    media_resolution: Any = None
    audio_timestamp: Any = None
    audio_transcription_config: Any = None
    translation_config: Any = None
    enable_affective_dialog: Any = None
    enable_enhanced_civic_answers: Any = None
    routing_config: Any = None
    model_selection_config: Any = None


class Generate(Strict):
    """Fields after `service_tier` travel as the Request's Extra."""

    model: str | None = None
    contents: list[Content] | None = None
    system_instruction: Content | None = None
    tools: list[Tool] | None = None
    tool_config: ToolConfig | None = None
    generation_config: GenerationConfig | None = None
    service_tier: str | None = None

    safety_settings: Any = None
    cached_content: str | None = None
    labels: dict[str, str] | None = None
    store: bool | None = None
    continuation_token: str | None = None


# --- the other calls -----------------------------------------------------------------------------


class CountTokens(Strict):
    contents: list[Content] | None = None
    generate_content_request: Generate | None = None


class Embed(Strict):
    content: Content | None = None
    model: str | None = None
    output_dimensionality: int | None = None

    task_type: str | None = None
    title: str | None = None


class BatchEmbed(Strict):
    requests: list[Embed] | None = None


Body: TypeAlias = Generate | CountTokens | Embed | BatchEmbed


def about(value: Strict, after: str) -> dict[str, Any]:
    """The fields declared after `after` that are there, by their names on the wire."""
    names = value.__struct_fields__
    first = names.index(after) + 1
    return {
        wire: given
        for name, wire in zip(names[first:], value.__struct_encode_fields__[first:], strict=True)
        if (given := getattr(value, name)) is not None
    }


# --- decoding ------------------------------------------------------------------------------------

T = TypeVar("T", bound=Strict)


def decode(kind: type[T], body: bytes) -> T:
    """The body as a `kind`. Raises RequestError that says where it is not one."""
    try:
        found: T = _decoder(kind).decode(body)
    except msgspec.ValidationError:
        return _other_form(kind, body)
    except (ValueError, RecursionError) as error:
        raise body_error(error, ()) from error
    return found


def _other_form(kind: type[T], body: bytes) -> T:
    """Of a body that is not in the plain form."""
    try:
        plain = _plain(msgspec.json.decode(body), kind, "")
        return msgspec.convert(plain, kind, strict=False)
    except (ValueError, RecursionError) as error:
        raise body_error(error, _known()) from error


@cache
def _decoder(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, strict=False)


class _Field(NamedTuple):
    """What `_plain` needs to know of a field: its name on the wire, and what its values are made of."""

    wire: str
    is_list: bool
    object: type[msgspec.Struct] | None


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, _Field]:
    """By both of their names."""
    found: dict[str, _Field] = {}
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        of = field.type
        if isinstance(of, inspect.UnionType):
            of = next(one for one in of.types if not isinstance(one, inspect.NoneType))
        is_list = isinstance(of, inspect.ListType)
        if isinstance(of, inspect.ListType):
            of = of.item_type
        inner = of.cls if isinstance(of, inspect.StructType) else None
        found[field.name] = found[field.encode_name] = _Field(field.encode_name, is_list, inner)
    return found


def _plain(value: Any, kind: type[msgspec.Struct], path: str) -> Any:
    """`value` with camelCase names and with lists where `kind` has them; what is free JSON is left alone."""
    if not isinstance(value, dict):
        return value
    known = _fields(kind)
    found: dict[str, Any] = {}
    for name, given in value.items():
        field = known.get(name)
        if field is None:
            found[name] = given
            continue
        at = f"{path}.{field.wire}" if path else field.wire
        if field.wire in found:
            raise RequestError(f"'{at}' is given twice, in camelCase and in snake_case", param=at)
        inner = field.object
        if given is not None and field.is_list:
            values = given if isinstance(given, list) else [given]
            if inner is not None:
                values = [_plain(one, inner, f"{at}[{number}]") for number, one in enumerate(values)]
            found[field.wire] = values
        else:
            found[field.wire] = given if inner is None else _plain(given, inner, at)
    return found


@cache
def _known() -> tuple[str, ...]:
    """Every name that an object inside a body may have, for suggestions."""
    names = {name for kind in Strict.__subclasses__() for name in kind.__struct_encode_fields__}
    return tuple(sorted(names))
