"""Calls to the Responses API: what a body means, and what is wrong with one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from assay.errors import AssayError, RequestError
from assay.server.openai_responses import COUNT, DIALECT, Options
from assay.server.openai_responses.body import Body
from assay.types import (
    Audio,
    CustomTool,
    Extra,
    File,
    FunctionTool,
    HostedTool,
    Image,
    Inline,
    JsonOutput,
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
    assistant,
    system,
    user,
)

OWN = "openai-responses"


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": "Hi", **fields}).encode()


def parsed(**fields: Any) -> Request:
    return DIALECT.parse(body(**fields), "").request


def options(**fields: Any) -> Options:
    found: Options = DIALECT.parse(body(**fields), "").options
    return found


def turns(*items: Any) -> tuple[Message, ...]:
    return parsed(input=list(items)).messages


def refusal(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        DIALECT.parse(data, "")
    return caught.value


# --- input ---------------------------------------------------------------------------------------


def test_every_field_of_the_official_call_is_known() -> None:
    official = {*ResponseCreateParamsBase.__annotations__, "stream"}
    assert set(Body.__struct_fields__) == official


def test_text_is_what_the_user_says_and_instructions_come_first() -> None:
    assert parsed(instructions="Be brief").messages == (system("Be brief"), user("Hi"))


def test_messages() -> None:
    assert turns(
        {"role": "user", "content": "a"},
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "system", "content": "d"},
    ) == (user("a"), Message("developer", (Text("b"),)), assistant("c"), system("d"))


def test_content() -> None:
    (message,) = turns(
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "high"},
                {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
                {"type": "input_image", "file_id": "file-1", "detail": "auto"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
                {"type": "input_file", "file_data": "aGk=", "filename": "a.txt"},
                {"type": "input_file", "file_id": "file-2"},
                {"type": "input_file", "file_url": "https://x/a.pdf", "detail": "low"},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
            ],
        }
    )
    assert message.parts == (
        Text("look"),
        Image(Link("https://x/y.png"), "high"),
        Image(Inline("image/png", b"hi")),
        Image(Uploaded("file-1")),
        File(Inline("application/pdf", b"hi"), "a.pdf"),
        File(Inline("text/plain", b"hi"), "a.txt"),
        File(Uploaded("file-2")),
        File(Link("https://x/a.pdf"), extra=Extra(OWN, {"detail": "low"})),
        Audio(Inline("audio/wav", b"hi")),
    )


REASONED = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "s"}],
    "encrypted_content": "E",
    "status": "completed",
}
CALLED = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"}
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "phase": "commentary",
    "content": [{"type": "output_text", "text": "Hm", "annotations": [], "logprobs": []}],
}


def test_what_the_model_said_is_one_turn() -> None:
    custom = {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "x"}
    results = [
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {
            "type": "custom_tool_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "t"}, {"type": "input_image", "file_id": "f"}],
        },
    ]
    assert turns({"role": "user", "content": "a"}, REASONED, SAID, CALLED, custom, *results) == (
        user("a"),
        Message(
            "assistant",
            (
                Reasoning("", ("s",), encrypted="E", id="rs_1"),
                Text("Hm", extra=Extra(OWN, {"phase": "commentary"})),
                ToolCall("c1", "f", "{}"),
                ToolCall("c2", "g", "x", "custom"),
            ),
        ),
        Message("tool", (ToolResult("c1", (Text("one"),)),)),
        Message("tool", (ToolResult("c2", (Text("t"), Image(Uploaded("f")))),)),
    )


def test_a_message_after_a_message_is_another_turn() -> None:
    assert turns({"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}) == (
        assistant("a"),
        assistant("b"),
    )


def test_items_of_hosted_tools_are_kept_whole() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    approval = {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True}
    crm = {**CALLED, "namespace": "crm"}
    assert turns(search, crm, {"role": "user", "content": "a"}, approval) == (
        Message("assistant", (Opaque(OWN, search), Opaque(OWN, crm))),
        user("a"),
        Message("user", (Opaque(OWN, approval),)),
    )


def test_what_the_sdk_adds_to_items_is_passed_over() -> None:
    parsed_text = {"type": "output_text", "text": "{}", "parsed": {"a": 1}, "annotations": []}
    item = {
        "role": "assistant",
        "type": "message",
        "id": "m",
        "status": "completed",
        "content": [parsed_text],
    }
    call = {**CALLED, "parsed_arguments": {}, "status": "completed", "caller": {"type": "direct"}}
    assert turns(item, call) == (Message("assistant", (Text("{}"), ToolCall("c1", "f", "{}"))),)


def test_our_own_seals_come_off_again() -> None:
    item = {"type": "reasoning", "id": "rs_assay_x_0", "summary": []}
    thought = {**item, "content": [{"type": "reasoning_text", "text": "t"}]}
    (turn,) = turns({**thought, "encrypted_content": "assay:signature:SIG"})
    assert turn.parts == (Reasoning("t", signature="SIG"),)
    assert turns({**item, "encrypted_content": "redacted"})[0].parts == (Reasoning(encrypted="redacted"),)


def test_a_signature_of_a_call_comes_back() -> None:
    call = {**CALLED, "extra_content": {"google": {"thought_signature": "S"}}}
    assert turns(call)[0].parts == (ToolCall("c1", "f", "{}", signature="S"),)


# --- parameters ----------------------------------------------------------------------------------


def test_parameters() -> None:
    request = parsed(
        max_output_tokens=20,
        temperature=0,
        top_p=0.5,
        top_logprobs=3,
        include=["message.output_text.logprobs"],
        parallel_tool_calls=False,
        reasoning={"effort": "low", "summary": "auto"},
        service_tier="flex",
        user="u",
        metadata={"k": "v"},
        stream=True,
        stream_options={"include_obfuscation": False},
    )
    assert request.sampling == Sampling(max_tokens=20, temperature=0, top_p=0.5, top_logprobs=3)
    assert request.parallel_tool_calls is False
    assert request.thinking == Thinking(effort="low", summary="auto")
    assert (request.service_tier, request.user, request.metadata) == ("flex", "u", {"k": "v"})
    assert request.stream
    assert request.extra is None


def test_log_probabilities_are_asked_for_by_include() -> None:
    assert parsed(include=["message.output_text.logprobs"]).sampling.top_logprobs == 0
    assert parsed(top_logprobs=0).sampling.top_logprobs is None
    assert parsed(top_logprobs=2).sampling.top_logprobs == 2


def test_reasoning() -> None:
    assert parsed(reasoning={"effort": "none"}).thinking == Thinking(enabled=False)
    assert parsed(reasoning={"generate_summary": "concise"}).thinking == Thinking(summary="concise")
    assert parsed(reasoning={}).thinking is None
    request = parsed(reasoning={"effort": "low", "mode": "pro"})
    assert request.extra == Extra(OWN, {"reasoning": {"mode": "pro"}})


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ({"format": {"type": "json_object"}}, JsonOutput()),
        (
            {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}},
            SchemaOutput({"type": "object"}, "a", strict=True),
        ),
    ],
)
def test_structured_output(text: Any, output: Any) -> None:
    assert parsed(text=text).output == output


def test_fields_without_a_canonical_name_travel_as_extra() -> None:
    request = parsed(
        text={"verbosity": "low"},
        prompt_cache_key="k",
        safety_identifier="s",
        truncation="auto",
        include=["reasoning.encrypted_content"],
        store=False,
        max_tool_calls=3,
        background=False,
    )
    assert request.extra == Extra(
        OWN,
        {
            "prompt_cache_key": "k",
            "safety_identifier": "s",
            "truncation": "auto",
            "verbosity": "low",
            "include": ["reasoning.encrypted_content"],
        },
    )


def test_what_is_about_hosted_tools_counts_where_there_are_some() -> None:
    tools = [{"type": "web_search"}]
    request = parsed(tools=tools, max_tool_calls=3, include=["web_search_call.action.sources"])
    assert request.tools == (HostedTool(OWN, {"type": "web_search"}),)
    assert request.extra == Extra(OWN, {"max_tool_calls": 3, "include": ["web_search_call.action.sources"]})


def test_tools() -> None:
    grammar = {"type": "grammar", "syntax": "regex", "definition": "a+"}
    request = parsed(
        tools=[
            {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True},
            {"type": "function", "name": "g", "parameters": None, "defer_loading": True},
            {"type": "custom", "name": "c", "description": "C", "format": grammar},
            {"type": "custom", "name": "d", "defer_loading": True},
            {"type": "mcp", "server_label": "x", "server_url": "https://x"},
        ]
    )
    assert request.tools == (
        FunctionTool("f", None, {"type": "object"}, True),
        FunctionTool("g", extra=Extra(OWN, {"defer_loading": True})),
        CustomTool("c", "C", grammar),
        HostedTool(OWN, {"type": "custom", "name": "d", "defer_loading": True}),
        HostedTool(OWN, {"type": "mcp", "server_label": "x", "server_url": "https://x"}),
    )


ALLOWED = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}
MIXED = {**ALLOWED, "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}]}


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ("none", ToolChoice("none")),
        ({"type": "function", "name": "f"}, ToolChoice("named", ("f",))),
        ({"type": "custom", "name": "c"}, ToolChoice("named", ("c",))),
        (ALLOWED, ToolChoice("named", ("f",))),
        ({**ALLOWED, "mode": "auto"}, ToolChoice("auto", ("f",))),
        (MIXED, ToolChoice("required", extra=Extra(OWN, {"tool_choice": MIXED}))),
        (
            {"type": "web_search"},
            ToolChoice("required", extra=Extra(OWN, {"tool_choice": {"type": "web_search"}})),
        ),
    ],
)
def test_tool_choices(given: Any, choice: ToolChoice) -> None:
    assert parsed(tool_choice=given).tool_choice == choice


def test_counting_is_the_same_call() -> None:
    request = COUNT.parse(body(stream=True), "").request
    assert request.operation == "count_tokens"
    assert not request.stream
    assert COUNT.operation == "count_tokens"


def test_going_on_needs_no_input() -> None:
    request, how = DIALECT.parse(b'{"model":"m","previous_response_id":"resp_0","instructions":"x"}', "")
    assert request.messages == (system("x"),)
    assert how.previous_response_id == "resp_0"


def test_what_may_be_kept() -> None:
    assert options().store
    assert options().kept is not None
    assert options(store=False).kept is None


# --- what is wrong with a body -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"messages": []}, "messages", "The Responses API calls it 'input'"),
        ({"max_tokens": 5}, "max_tokens", "'max_output_tokens'"),
        ({"response_format": {}}, "response_format", "'text.format'"),
        ({"temprature": 1}, "temprature", "Did you mean 'temperature'"),
        ({"temperature": 3}, "temperature", "Invalid value"),
        ({"temperature": "hot"}, "temperature", "expected a number"),
        ({"input": []}, "input", "at least one item"),
        ({"input": None}, "input", "Missing required parameter"),
        ({"input": 7}, "input", "Invalid type"),
        ({"input": [7]}, "input[0]", "Invalid type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role", "user, assistant"),
        ({"input": [{"role": "user"}]}, "input[0].content", "Missing required"),
        ({"input": [{"role": "user", "content": []}]}, "input[0].content", "empty array"),
        (
            {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            "input[0].content[0].type",
            "input_text",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "txt": "x"}]}]},
            "input[0].content[0].txt",
            "Did you mean 'text'",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0]",
            "'image_url' or 'file_id'",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]}]},
            "input[0].content[0].image_url",
            "data URL",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "???"}]}]},
            "input[0].content[0].file_data",
            "base64",
        ),
        ({"input": [{"type": "function_calls"}]}, "input[0].type", "supported values"),
        ({"input": [{"type": "function_call"}]}, "input[0].call_id", "Missing required"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]", "send the item itself"),
        ({"input": [{"id": "msg_1"}]}, "input[0]", "previous_response_id"),
        ({"tools": [{"name": "f"}]}, "tools[0].type", "Missing"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "Missing"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            "tools[0]",
            "",
        ),
        ({"tool_choice": "any"}, "tool_choice", "none, auto, required"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name", "Missing"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice", "allowed_tools"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "json_schema"),
        ({"truncation": "some"}, "truncation", "auto, disabled"),
        ({"conversation": "conv_1"}, "conversation", "previous_response_id"),
        ({"background": True}, "background", "wait for the reply"),
        ({"stream_options": {}}, "stream_options", "'stream' is true"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, None, "not padded"),
    ],
)
def test_what_is_wrong_is_said_where_it_is(fields: Any, param: str | None, words: str) -> None:
    error = refusal(body(**fields))
    assert words in error.message
    assert error.status == 400
    if param is not None:
        assert (error.param or "").startswith(param)


def test_what_is_no_json_says_so() -> None:
    assert "not valid JSON" in refusal(b"{").message
    assert "nested too deeply" in refusal(b'{"conversation":' + b"[" * 100_000).message
    assert refusal(b"[]").param is None


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "name", "id", "call_id", "output", "text"]),
            inner | st.sampled_from(["message", "function_call", "reasoning", "user", "input_text"]),
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(Body.__struct_fields__), JSONISH, max_size=4),
    st.lists(JSONISH, max_size=3) | JSONISH,
)
def test_any_body_is_a_request_or_the_callers_fault(fields: Any, items: Any) -> None:
    try:
        DIALECT.parse(json.dumps({"model": "m", **fields, "input": items}).encode(), "")
    except RequestError as error:
        assert 400 <= error.status < 500


@given(st.binary(max_size=40))
def test_any_bytes_are_the_callers_fault(data: bytes) -> None:
    with pytest.raises(AssayError):
        DIALECT.parse(data, "")
