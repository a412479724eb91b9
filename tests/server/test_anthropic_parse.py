"""Calls of Anthropic's Messages: what they mean, and what is said of those that are wrong."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from anthropic.types import beta
from anthropic.types.beta.message_create_params import MessageCreateParamsBase as BetaCreate
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsBase
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import AssayError, RequestError
from assay.providers.anthropic import Anthropic
from assay.server import anthropic
from assay.server.anthropic import COUNT_TOKENS, MESSAGES
from assay.server.anthropic import body as wire
from assay.types import (
    CacheMark,
    Extra,
    File,
    FunctionTool,
    HostedTool,
    Image,
    Inline,
    Link,
    Message,
    Opaque,
    Reasoning,
    Request,
    Sampling,
    SchemaOutput,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    Uploaded,
    user,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "anthropic"
FULL = (FIXTURES / "call_full.json").read_bytes()
HI = [{"role": "user", "content": "Hi"}]
MARK = {"type": "ephemeral"}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 9, "messages": HI, **fields}).encode()


def parsed(**fields: Any) -> Request:
    return MESSAGES.parse(body(**fields), "").request


def said(*blocks: dict[str, Any], role: str = "user") -> tuple[Message, ...]:
    return parsed(messages=[{"role": role, "content": list(blocks)}]).messages


def refusal(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        MESSAGES.parse(data, "")
    return caught.value


MODULES = [name for _, name, _ in pkgutil.iter_modules(anthropic.__path__, f"{anthropic.__name__}.")]


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


# --- what calls mean -----------------------------------------------------------------------------


def test_the_smallest_body() -> None:
    assert parsed() == Request("m", (user("Hi"),), sampling=Sampling(max_tokens=9))


def test_every_field_finds_its_place() -> None:
    content = json.loads(FULL)["messages"][0]["content"]
    citation = json.loads(FULL)["messages"][1]["content"][4]["citations"][0]
    assert MESSAGES.parse(FULL, "").request == Request(
        "claude-opus-5",
        (
            Message("system", (Text("Be brief."), Text("Cite.", cache=CacheMark("1h")))),
            Message(
                "user",
                (
                    Text("What is this?", cache=CacheMark()),
                    Image(Inline("image/png", b"\x89PNG\r\n\x1a\n")),
                    Image(
                        Link("https://example.com/cat.png"),
                        extra=Extra("anthropic", {"transformations": {"oversized_image": "error"}}),
                    ),
                    Image(Uploaded("file_1")),
                    File(
                        Inline("application/pdf", b"%PDF-"),
                        "A",
                        extra=Extra("anthropic", {"context": "old", "citations": {"enabled": True}}),
                    ),
                    File(Inline("text/plain", "héllo".encode())),
                    File(Link("https://example.com/a.pdf", "application/pdf")),
                    File(Uploaded("file_2")),
                    Opaque("anthropic", content[8]),
                    Opaque("anthropic", content[9]),
                ),
            ),
            Message(
                "assistant",
                (
                    Reasoning("hm", signature="c2ln"),
                    Reasoning(encrypted="ZW5j"),
                    Opaque("anthropic", json.loads(FULL)["messages"][1]["content"][2]),
                    Opaque("anthropic", json.loads(FULL)["messages"][1]["content"][3]),
                    Text("Let me look.", (citation,)),
                    ToolCall("toolu_1", "look", '{"at":1}'),
                    ToolCall("toolu_2", "look", "{}", cache=CacheMark()),
                ),
            ),
            Message(
                "tool",
                (
                    ToolResult("toolu_1", (Text("a cat"),)),
                    ToolResult(
                        "toolu_2",
                        (
                            Text("no"),
                            Image(Link("https://example.com/d.png")),
                            Opaque("anthropic", {"type": "tool_reference", "tool_name": "look"}),
                        ),
                        is_error=True,
                        cache=CacheMark(),
                    ),
                ),
            ),
            user("Well?"),
            Message("system", (Text("Now be long."),)),
            Message("assistant", (Text("A cat"),)),
        ),
        sampling=Sampling(max_tokens=4096, temperature=0.5, top_p=0.25, top_k=3, stop=("END",)),
        tools=(
            FunctionTool(
                "look",
                "Looks.",
                {"type": "object", "properties": {"at": {"type": "integer"}}},
                True,
                CacheMark(),
                Extra("anthropic", {"defer_loading": True, "input_examples": [{"at": 1}]}),
            ),
            HostedTool("anthropic", {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}),
        ),
        tool_choice=ToolChoice("named", ("look",)),
        parallel_tool_calls=False,
        output=SchemaOutput({"type": "object"}),
        thinking=Thinking(True, "high", include_text=True),
        stream=True,
        service_tier="standard_only",
        user="u-1",
        extra=Extra(
            "anthropic",
            {
                "cache_control": MARK,
                "speed": "fast",
                "container": {"id": "c-1"},
                "diagnostics": {"previous_message_id": "msg_0"},
                "inference_geo": "eu",
            },
        ),
    )


def test_what_came_in_goes_out_again() -> None:
    """The upstream side makes the same call of it, but for the three parameters that newer models refuse."""
    sent = json.loads(Anthropic().encode(MESSAGES.parse(FULL, "").request).body)
    full = json.loads(FULL)
    for name in ("temperature", "top_p", "top_k"):
        if name not in sent:
            del full[name]
    assert sent == full


def test_every_parameter_of_the_official_client_is_known() -> None:
    headers = {"user_profile_id", "workspace_id", "betas"}
    known, count = set(wire.Body.__struct_fields__), set(wire.CountBody.__struct_fields__)
    assert set(MessageCreateParamsBase.__annotations__) - headers <= known
    assert set(BetaCreate.__annotations__) - headers <= known
    assert set(MessageCountTokensParams.__annotations__) - headers <= count
    assert set(beta.message_count_tokens_params.MessageCountTokensParams.__annotations__) - headers <= count


def literals(*unions: Any) -> set[str]:
    """The `type`s of all members of unions of the official client's TypedDicts and models."""
    found: set[str] = set()
    for union in unions:
        members = getattr(union, "__args__", None)
        if isinstance(union, type) or members is None:
            kind = union.__annotations__["type"]
            text = getattr(kind, "__forward_arg__", str(kind))
            found |= set(text.replace('"', "'").split("'")[1::2])
        else:
            found |= literals(*members)
    return found


def test_every_block_of_the_official_client_is_known() -> None:
    from anthropic.types import ContentBlockParam

    assert literals(ContentBlockParam) <= set(wire.BLOCKS) | wire.OPAQUE_BLOCKS
    tags = {"tool_addition", "tool_removal"}
    theirs = literals(beta.BetaContentBlockParam)
    assert theirs <= set(wire.BLOCKS) | wire.OPAQUE_BLOCKS | tags
    assert get_type_hints(wire.MessageBody)["role"].__args__ == ("user", "assistant", "system")


def test_every_tool_of_the_official_client_is_known() -> None:
    from anthropic.types import ToolUnionParam

    for kind in literals(ToolUnionParam, beta.BetaToolUnionParam) - {"custom"}:
        if "_2024" in kind or "_2025" in kind or "_2026" in kind or kind in wire.UNDATED_TOOLS:
            assert parsed(tools=[{"type": kind}]).tools == (HostedTool("anthropic", {"type": kind}),)
        else:
            pytest.fail(kind)


def test_null_is_absent() -> None:
    names = ("temperature", "system", "tools", "tool_choice", "thinking", "output_config", "metadata")
    extras = ("stop_sequences", "stream", "container", "service_tier", "cache_control", "speed", "top_k")
    assert parsed(**dict.fromkeys((*names, *extras))) == parsed()
    nothing = {"type": "text", "text": "Hi", "citations": None, "cache_control": None}
    assert said(nothing) == (user("Hi"),)


def test_results_stand_first_whatever_stood_before_them() -> None:
    result = {"type": "tool_result", "tool_use_id": "a", "content": []}
    assert said({"type": "text", "text": "x"}, result, {"type": "text", "text": "y"}) == (
        Message("tool", (ToolResult("a", ()),)),
        Message("user", (Text("x"), Text("y"))),
    )
    assert said({"type": "tool_result", "tool_use_id": "a"}) == (Message("tool", (ToolResult("a", ()),)),)


def test_a_foreign_thought_comes_back_without_a_signature() -> None:
    (turn,) = said({"type": "thinking", "thinking": "hm", "signature": ""}, role="assistant")
    assert turn.parts == (Reasoning("hm"),)


def test_a_call_by_the_model_itself_needs_no_word() -> None:
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1.5, "y": 2**70}}
    (turn,) = said({**call, "caller": {"type": "direct"}}, role="assistant")
    assert turn.parts == (ToolCall("a", "f", '{"x":1.5,"y":1180591620717411303424}'),)
    caller = {"type": "code_execution_20250825", "tool_id": "t"}
    (turn,) = said({**call, "input": {}, "caller": caller, "toolset_name": "browser"}, role="assistant")
    extra = Extra("anthropic", {"caller": caller, "toolset_name": "browser"})
    assert turn.parts == (ToolCall("a", "f", "{}", extra=extra),)
    signed = {"google": {"thought_signature": "s"}}
    (turn,) = said({**call, "input": {}, "extra_content": signed}, role="assistant")
    assert turn.parts == (ToolCall("a", "f", "{}", signature="s"),)


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, ToolChoice("auto"), None),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required"), False),
        ({"type": "auto", "disable_parallel_tool_use": False}, ToolChoice("auto"), True),
        ({"type": "tool", "name": "f"}, ToolChoice("named", ("f",)), None),
        ({"type": "none"}, ToolChoice("none"), None),
    ],
)
def test_tool_choice(choice: dict[str, Any], expected: ToolChoice, parallel: bool | None) -> None:
    request = parsed(tool_choice=choice)
    assert (request.tool_choice, request.parallel_tool_calls) == (expected, parallel)


@pytest.mark.parametrize(
    ("fields", "thinking", "own"),
    [
        ({}, None, None),
        ({"thinking": {"type": "disabled"}}, Thinking(False), None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, Thinking(True, None, 2048), None),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, Thinking(True, include_text=False), None),
        ({"output_config": {"effort": "low"}}, Thinking(effort="low"), None),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
            Thinking(True, "max"),
            None,
        ),
        ({"thinking": {"type": "between_tools"}}, None, {"thinking": {"type": "between_tools"}}),
        (
            {"thinking": {"type": "adaptive", "display": "updates", "block_binding": {}}},
            Thinking(True),
            {"thinking": {"display": "updates", "block_binding": {}}},
        ),
        (
            {"output_config": {"task_budget": {"total": 9}, "effort": "low"}},
            Thinking(effort="low"),
            {"output_config": {"task_budget": {"total": 9}}},
        ),
    ],
)
def test_thinking(fields: dict[str, Any], thinking: Thinking | None, own: dict[str, Any] | None) -> None:
    request = parsed(**fields)
    assert request.thinking == thinking
    assert request.extra == (None if own is None else Extra("anthropic", own))


def test_the_system_prompt() -> None:
    assert parsed(system="Be brief.").messages[0] == Message("system", (Text("Be brief."),))
    assert parsed(system="").messages == parsed(system=[]).messages == (user("Hi"),)


def test_system_messages_stay_where_they_are_said() -> None:
    added = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "f"}}
    turn = {"role": "system", "content": [added], "clear_at": "never", "output_config": {"effort": "low"}}
    assert parsed(messages=[*HI, turn]).messages[1] == Message(
        "system",
        (Opaque("anthropic", added),),
        extra=Extra("anthropic", {"clear_at": "never", "output_config": {"effort": "low"}}),
    )


def test_a_count_is_the_same_call_without_its_parameters() -> None:
    full = json.loads(FULL)
    asked = {name: full[name] for name in full if name in wire.CountBody.__struct_fields__}
    counted = COUNT_TOKENS.parse(json.dumps(asked).encode(), "").request
    called = MESSAGES.parse(FULL, "").request
    assert counted.operation == "count_tokens"
    assert not counted.stream
    for name in ("model", "messages", "tools", "tool_choice", "thinking", "output"):
        assert getattr(counted, name) == getattr(called, name)
    with pytest.raises(RequestError, match="max_tokens: Extra inputs are not permitted"):
        COUNT_TOKENS.parse(body(), "")
    with pytest.raises(RequestError, match=r"messages\.0\.content: user messages must not be empty"):
        COUNT_TOKENS.parse(
            json.dumps({"model": "m", "messages": [{"role": "user", "content": ""}]}).encode(), ""
        )


# --- what is wrong with others -------------------------------------------------------------------


def at(*blocks: dict[str, Any], role: str = "user") -> bytes:
    return body(messages=[*HI, {"role": role, "content": list(blocks)}])


IMAGE = {"type": "base64", "media_type": "image/png", "data": ""}


@pytest.mark.parametrize(
    ("data", "param", "message"),
    [
        (b"", None, "not valid JSON"),
        (b"{", None, "not valid JSON"),
        (body() + b" x", None, "trailing characters"),
        (b'{"model": "\xff"}', None, "not valid JSON"),
        (b'{"container": {"a": ' + b"[" * 100_000, None, "nested too deeply"),
        (b"[]", None, "must be a JSON object"),
        (b"null", None, "must be a JSON object"),
        (b"{}", "model", "model: Field required"),
        (body(max_tokens=None), "max_tokens", "max_tokens: Input should be a valid integer"),
        (body(messages=[]), "messages", "messages: at least 1 is required"),
        (body(messages="Hi"), "messages", "should be a valid list, but got a string"),
        (body(messages=[3]), "messages.0", "messages.0: Input should be an object, but got an integer"),
        (body(foo=1), "foo", "foo: Extra inputs are not permitted"),
        (body(max_token=1), "max_token", "Did you mean 'max_tokens'?"),
        (body(stop="x"), "stop", "use 'stop_sequences' instead"),
        (body(output_format={}), "output_format", "use 'output_config.format' instead"),
        (body(temperature=1.5), "temperature", "less than or equal to 1"),
        (body(temperature="hot"), "temperature", "a valid number, but got a string"),
        (body(top_k=-1), "top_k", "greater than or equal to 0"),
        (body(stop_sequences=[1]), "stop_sequences.0", "a valid string, but got an integer"),
        (body(service_tier="flex"), "service_tier", "'auto' or 'standard_only', but got 'flex'"),
        (body(metadata={"user": "x"}), "metadata.user", "use 'metadata.user_id' instead"),
        (body(metadata={"user_idd": "x"}), "metadata.user_idd", "Did you mean 'user_id'?"),
        (body(thinking={"type": "on"}), "thinking.type", "'enabled', 'adaptive', 'between_tools' or"),
        (body(thinking={"type": "enabled", "budget_tokens": 9}), "thinking.budget_tokens", "equal to 1024"),
        (body(output_config={"effort": "hihg"}), "output_config.effort", "Did you mean 'high'?"),
        (body(tool_choice={"type": "required"}), "tool_choice.type", "'auto', 'any', 'tool' or 'none'"),
        (body(tool_choice={"type": "tool"}), "tool_choice.name", "tool_choice.name: Field required"),
        (body(system=3), "system", "a valid string or a valid list, but got an integer"),
        (body(system=[{"type": "image", "source": IMAGE}]), "system.0.type", "not allowed in the system"),
        (body(tools=[{"name": "f"}]), "tools.0.input_schema", "tools.0.input_schema: Field required"),
        (body(tools=[{"type": "function"}]), "tools.0.type", "'custom' or a dated tool"),
        (body(tools=[{"type": 3}]), "tools.0.type", "but got 3"),
        (
            body(tools=[{"name": "f", "input_schema": {}, "descripton": ""}]),
            "tools.0.descripton",
            "Did you mean 'description'?",
        ),
        (body(messages=[{"role": "usr", "content": ""}]), "messages.0.role", "Did you mean 'user'?"),
        (body(messages=[{"role": "user"}]), "messages.0.content", "messages.0.content: Field required"),
        (body(messages=[{"role": "assistant"}]), "messages.0.content", "Field required"),
        (body(messages=[{"role": "user", "content": []}]), "messages.0.content", "must not be empty"),
        (body(messages=[{**HI[0], "name": "x"}]), "messages.0.name", "Extra inputs are not permitted"),
        (
            body(messages=[{**HI[0], "clear_at": "never"}]),
            "messages.0.clear_at",
            "only system messages have it",
        ),
        (at({"text": "x"}), "messages.1.content.0.type", "messages.1.content.0.type: Field required"),
        (at({"type": "txt"}), "messages.1.content.0.type", "Did you mean 'text'?"),
        (at({"type": ["text"]}), "messages.1.content.0.type", "does not match any of the expected tags"),
        (at({"type": "text"}), "messages.1.content.0.text", "Field required"),
        (
            at({"type": "text", "text": "x"}, {"type": "text", "text": 3}),
            "messages.1.content.1.text",
            "messages.1.content.1.text: Input should be a valid string, but got an integer",
        ),
        (at({"type": "text", "text": "", "txet": ""}), "messages.1.content.0.txet", "Did you mean 'text'?"),
        (
            at({"type": "text", "text": "", "cache_control": {"type": "ephemeral", "ttl": "3m"}}),
            "messages.1.content.0.cache_control.ttl",
            "'5m' or '1h', but got '3m'",
        ),
        (
            at({"type": "image", "source": {**IMAGE, "data": "?"}}),
            "messages.1.content.0.source.data",
            "not valid base64",
        ),
        (
            at({"type": "image", "source": {**IMAGE, "media_type": "image/bmp"}}),
            "messages.1.content.0.source.media_type",
            "'image/jpeg', 'image/png'",
        ),
        (at({"type": "image", "source": {}}), "messages.1.content.0.source.type", "Field required"),
        (
            at({"type": "document", "source": {"type": "content", "content": [{"type": "tool_use"}]}}),
            "messages.1.content.0.source.content.0.type",
            "not allowed in a document",
        ),
        (at({"type": "tool_use"}), "messages.1.content.0.type", "not allowed in a user message"),
        (at({"type": "tool_result"}, role="assistant"), "messages.1.content.0.type", "an assistant message"),
        (
            at({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "thinking"}]}),
            "messages.1.content.0.content.0.type",
            "not allowed in a tool result",
        ),
        (
            at({"type": "tool_use", "id": "a", "name": "f", "input": "{}"}, role="assistant"),
            "messages.1.content.0.input",
            "Input should be an object, but got a string",
        ),
        (
            at({"type": "thinking", "thinking": "hm"}, role="assistant"),
            "messages.1.content.0.signature",
            "Field required",
        ),
    ],
)
def test_what_is_wrong_is_named(data: bytes, param: str | None, message: str) -> None:
    error = refusal(data)
    assert error.param == param
    assert message in error.message
    assert error.status == 400


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


@given(st.binary(max_size=99) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_byte_soup_gives_typed_errors_alone(data: bytes) -> None:
    for dialect in (MESSAGES, COUNT_TOKENS):
        with pytest.raises(AssayError):
            dialect.parse(data, "")


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for name, item in inner for path in paths(item, (*here, name)))]


@given(st.data())
def test_any_value_in_any_place_is_understood_or_refused(data: st.DataObject) -> None:
    call = json.loads(FULL)
    *way, last = data.draw(st.sampled_from(paths(call)[1:]))
    place = call
    for name in way:
        place = place[name]
    place[last] = data.draw(JSON_VALUES)
    try:
        MESSAGES.parse(json.dumps(call).encode(), "")
    except RequestError as error:
        assert error.param is None or error.message.startswith(error.param)
