"""The features of the fidelity matrix: one small call or reply each, and what of it has to arrive."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from assay.types import (
    Audio,
    CacheMark,
    Choice,
    CustomTool,
    File,
    Finish,
    FunctionTool,
    HostedTool,
    Image,
    Inline,
    JsonOutput,
    Link,
    Message,
    Part,
    Reasoning,
    Refusal,
    Request,
    Response,
    Sampling,
    SchemaOutput,
    Text,
    Thinking,
    TokenLogprob,
    ToolCall,
    ToolChoice,
    ToolResult,
    Uploaded,
    Usage,
    assistant,
    replace,
    system,
    user,
)

PNG = Inline("image/png", b"\x89PNG\r\n\x1a\n")
PDF = Inline("application/pdf", b"%PDF-1.7")
WAV = Inline("audio/wav", b"RIFF\x00\x00\x00\x00WAVE")
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = FunctionTool("get_weather", "Tells the weather.", SCHEMA)
TIME = FunctionTool("get_time", "Tells the time.", SCHEMA)
ASK = Request("m", (user("Hello"),), sampling=Sampling(max_tokens=64))
WITH_TOOLS = replace(ASK, tools=(WEATHER, TIME))


@dataclass(frozen=True)
class Feature:
    """`sample` has it, `of` looks at it: two values that agree there agree on the feature.

    `near` says whether a value that does not agree comes as near as its dialect has words for; `in_bytes` is
    what then stands in the reply in a field that the dialect's own SDK keeps, though it does not know it.
    """

    group: str
    name: str
    sample: Any
    of: Callable[[Any], Any]
    near: Callable[[Any], bool] = lambda value: False
    in_bytes: bytes | None = None


def _parts(kind: type[Part]) -> Callable[[Request], list[Any]]:
    return lambda request: [
        part for turn in request.messages for part in turn.parts if isinstance(part, kind)
    ]


def _sources(request: Request) -> list[Any]:
    """Where the bytes are: a link that does not tell what it leads to may arrive as any kind of part."""
    found = [
        part.source for turn in request.messages for part in turn.parts if isinstance(part, Image | File)
    ]
    return [getattr(source, "url", None) or getattr(source, "file_id", None) or source for source in found]


def _said(*parts: Part, role: Any = "user") -> Request:
    return replace(ASK, messages=(Message(role, parts),))


def _turns(request: Request) -> list[tuple[str, str]]:
    """Roles and texts. A developer's message is a system message to all but OpenAI."""
    return [("system" if turn.role == "developer" else turn.role, turn.text) for turn in request.messages]


def _in_place(request: Request) -> bool:
    """As words of the user, where they stood: never moved to the top, in front of a cached prefix."""
    return request.messages[0].role == "user" and request.messages[-1].text.endswith("Be brief.")


def _calls(request: Request) -> list[Any]:
    """Calls and results in pairs: ids are names that each API makes up by its own rules."""
    names = {part.id: (part.name, json.loads(part.arguments)) for part in _parts(ToolCall)(request)}
    pairs = [(names[part.call_id], part.parts[0]) for part in _parts(ToolResult)(request)]
    return [list(names.values()), [(name, getattr(part, "text", part)) for name, part in pairs]]


def _sampling(name: str) -> Callable[[Request], Any]:
    return lambda request: getattr(request.sampling, name)


def _tool(name: str) -> Callable[[Request], list[Any]]:
    return lambda request: [getattr(tool, name, None) for tool in request.tools]


def _marks(request: Request) -> list[Any]:
    return [part.cache for turn in request.messages for part in turn.parts if isinstance(part, Text)]


CALLS = replace(
    WITH_TOOLS,
    messages=(
        user("Weather and time in Oslo?"),
        Message(
            "assistant",
            (
                ToolCall("call_1", "get_weather", '{"city":"Oslo"}'),
                ToolCall("call_2", "get_time", '{"city":"Oslo"}'),
            ),
        ),
        Message(
            "tool",
            (
                ToolResult("call_1", (Text("rain"),), "get_weather"),
                ToolResult("call_2", (Text("noon"),), "get_time"),
            ),
        ),
    ),
)


def _result(result: ToolResult) -> Request:
    return replace(CALLS, messages=(*CALLS.messages[:2], Message("tool", (result,))))


def _thought(*parts: Part) -> Request:
    turn = Message("assistant", (*parts, Text("Noon.")))
    return replace(ASK, messages=(user("Time?"), turn, user("Sure?")))


REQUESTS = [
    Feature("messages", "system message", replace(ASK, messages=(system("Be kind."), user("Hi"))), _turns),
    Feature(
        "messages",
        "several turns",
        replace(ASK, messages=(user("Hi"), assistant("Yes?"), user("Why?"))),
        _turns,
    ),
    Feature(
        "messages",
        "system message in mid-conversation",
        replace(ASK, messages=(user("Hi"), assistant("Yes?"), user("Why?"), system("Be brief."))),
        _turns,
        _in_place,
    ),
    Feature("messages", "image, inline", _said(Text("What?"), Image(PNG)), _parts(Image)),
    Feature("messages", "image, by link", _said(Image(Link("https://a.test/b.png"))), _sources),
    Feature("messages", "image, uploaded", _said(Image(Uploaded("file_1"))), _sources),
    Feature(
        "messages",
        "image detail",
        _said(Image(PNG, detail="low")),
        lambda request: [part.detail for part in _parts(Image)(request)],
    ),
    Feature("messages", "audio", _said(Audio(WAV)), _parts(Audio)),
    Feature(
        "messages",
        "PDF, inline",
        _said(File(PDF, "a.pdf")),
        lambda request: [part.source for part in _parts(File)(request)],
    ),
    Feature(
        "messages",
        "PDF, by link",
        _said(File(Link("https://a.test/a.pdf", "application/pdf"))),
        _sources,
    ),
    Feature("messages", "cache marks", _said(Text("Long.", cache=CacheMark()), Text("Short.")), _marks),
    Feature("tools", "tools", WITH_TOOLS, lambda request: [tool.name for tool in request.tools]),
    Feature("tools", "tools' schemas", WITH_TOOLS, _tool("parameters")),
    Feature("tools", "strict tools", replace(ASK, tools=(replace(WEATHER, strict=True),)), _tool("strict")),
    Feature("tools", "parallel calls and their results", CALLS, _calls),
    Feature(
        "tools",
        "image in a tool's result",
        _result(ToolResult("call_1", (Image(PNG),), "get_weather")),
        lambda request: [
            [inner for inner in part.parts if isinstance(inner, Image)]
            for part in _parts(ToolResult)(request)
        ],
    ),
    Feature(
        "tools",
        "error flag of a result",
        _result(ToolResult("call_1", (Text("no"),), "get_weather", is_error=True)),
        lambda request: [part.is_error for part in _parts(ToolResult)(request)],
    ),
    *(
        Feature(
            "tools",
            f"tool choice: {name}",
            replace(WITH_TOOLS, tool_choice=choice),
            lambda request: request.tool_choice,
        )
        for name, choice in (
            ("none", ToolChoice("none")),
            ("required", ToolChoice("required")),
            ("one tool", ToolChoice("named", ("get_time",))),
            ("one of some", ToolChoice("named", ("get_weather", "get_time"))),
        )
    ),
    Feature(
        "tools",
        "no parallel calls",
        replace(WITH_TOOLS, parallel_tool_calls=False, tool_choice=ToolChoice("auto")),
        lambda request: request.parallel_tool_calls,
    ),
    Feature("tools", "free-text tools", replace(ASK, tools=(CustomTool("note"),)), lambda r: r.tools),
    *(
        Feature(
            "tools",
            f"hosted tools ({name})",
            replace(ASK, tools=(HostedTool(dialect, body),)),
            lambda request: request.tools,
        )
        for name, dialect, body in (
            ("Anthropic", "anthropic", {"type": "web_search_20250305", "name": "web_search"}),
            ("Gemini", "gemini", {"googleSearch": {}}),
            ("Responses", "openai-responses", {"type": "web_search"}),
        )
    ),
    Feature(
        "output",
        "JSON Schema",
        replace(ASK, output=SchemaOutput(SCHEMA)),
        lambda r: getattr(r.output, "schema", None),
    ),
    Feature("output", "any JSON", replace(ASK, output=JsonOutput()), lambda request: request.output),
    Feature("output", "several choices", replace(ASK, choices=2), lambda request: request.choices),
    Feature(
        "reasoning",
        "effort",
        replace(ASK, thinking=Thinking(effort="high")),
        lambda r: r.thinking and r.thinking.effort,
    ),
    Feature(
        "reasoning",
        "budget of tokens",
        replace(ASK, sampling=Sampling(max_tokens=9000), thinking=Thinking(enabled=True, budget_tokens=2000)),
        lambda request: request.thinking and request.thinking.budget_tokens,
    ),
    Feature(
        "reasoning",
        "earlier reasoning, signed",
        _thought(Reasoning("It is light.", signature="c2lnbmF0dXJl")),
        lambda request: [part.signature for part in _parts(Reasoning)(request)],
    ),
    Feature(
        "reasoning",
        "earlier reasoning, encrypted",
        _thought(Reasoning(encrypted="c2VjcmV0", id="rs_1")),
        lambda request: [part.encrypted for part in _parts(Reasoning)(request)],
    ),
    *(
        Feature(
            "sampling",
            name.replace("_", " "),
            replace(ASK, sampling=Sampling(**{"max_tokens": 64, name: value})),
            _sampling(name),
        )
        for name, value in (
            ("max_tokens", 64),
            ("temperature", 0.5),
            ("top_p", 0.9),
            ("top_k", 40),
            ("stop", ("END",)),
            ("seed", 7),
            ("frequency_penalty", 0.5),
            ("presence_penalty", 0.5),
            ("logit_bias", {"17": 5.0}),
            ("top_logprobs", 2),
        )
    ),
    Feature("keeping", "user", replace(ASK, user="u-1"), lambda request: request.user),
    Feature("keeping", "metadata", replace(ASK, metadata={"a": "b"}), lambda request: request.metadata),
    Feature(
        "keeping", "service tier", replace(ASK, service_tier="auto"), lambda request: request.service_tier
    ),
]


def reply(*parts: Part, finish: Finish | None = None, usage: Usage | None = None, **fields: Any) -> Response:
    choice = Choice(Message("assistant", parts or (Text("Hi."),)), finish or Finish("stop"), **fields)
    return Response("r1", "m", (choice,), usage=usage or Usage(input=5, output=3), created_s=1)


def _of(kind: type[Part], *names: str) -> Callable[[Response], list[Any]]:
    return lambda response: [
        tuple(getattr(part, name) for name in names)
        for part in response.message.parts
        if isinstance(part, kind)
    ]


def _has(kind: type[Part], name: str) -> Callable[[Response], list[bool]]:
    """Proofs come in the caller's framing: what counts is that there is something to send back."""
    return lambda response: [
        getattr(part, name) is not None for part in response.message.parts if isinstance(part, kind)
    ]


def _not_a_success(response: Response) -> bool:
    return response.choices[0].finish.reason != "stop"


def _proven(response: Response) -> bool:
    thoughts = [part for part in response.message.parts if isinstance(part, Reasoning)]
    return any(part.signature is not None or part.encrypted is not None for part in thoughts)


def _plain_stop(response: Response) -> bool:
    return response.choices[0].finish.reason == "stop"


def _told_in_text(response: Response) -> bool:
    return response.text == "I will not."


def _all_tokens(usage: Usage) -> Callable[[Response], bool]:
    return lambda response: (
        response.usage is not None
        and (response.usage.tokens_in, response.usage.tokens_out) == (usage.tokens_in, usage.tokens_out)
    )


def _asked(response: Response) -> list[Any]:
    return [(part.name, json.loads(part.arguments)) for part in response.tool_calls]


REPLIES = [
    Feature("reply", "text", reply(Text("Hi, wörld.")), lambda response: response.text),
    Feature(
        "reply",
        "parallel tool calls",
        reply(
            Text("Let me see."),
            ToolCall("call_1", "get_weather", '{"city":"Oslo"}'),
            ToolCall("call_2", "get_time", '{"city":"Oslo"}'),
            finish=Finish("tool_calls"),
        ),
        _asked,
    ),
    Feature(
        "reply",
        "reasoning, its text",
        reply(Reasoning("It is light."), Text("Noon.")),
        _of(Reasoning, "text"),
    ),
    Feature(
        "reply",
        "reasoning, its signature",
        reply(Reasoning("It is light.", signature="c2lnbmF0dXJl"), Text("Noon.")),
        _proven,
    ),
    Feature(
        "reply",
        "reasoning, encrypted",
        reply(Reasoning(encrypted="c2VjcmV0", id="rs_1"), Text("Noon.")),
        _proven,
    ),
    Feature(
        "reply",
        "signature of a tool call",
        reply(ToolCall("call_1", "get_time", "{}", signature="c2lnbmF0dXJl"), finish=Finish("tool_calls")),
        _has(ToolCall, "signature"),
        in_bytes=b"c2lnbmF0dXJl",
    ),
    Feature(
        "reply",
        "refusal",
        reply(Refusal("I will not."), finish=Finish("refusal")),
        _of(Refusal, "text"),
        _told_in_text,
    ),
    Feature(
        "reply",
        "log probabilities",
        reply(Text("Hi"), logprobs=(TokenLogprob("Hi", -0.5, b"Hi", (TokenLogprob("Hi", -0.5, b"Hi"),)),)),
        lambda response: [(token.token, token.logprob) for token in response.choices[0].logprobs],
    ),
    *(
        Feature(
            "reply",
            f"stopped by: {reason}",
            reply(finish=Finish(reason)),
            lambda r: r.choices[0].finish.reason,
            _plain_stop if reason == "stop_sequence" else _not_a_success,
        )
        for reason in ("length", "stop_sequence", "content_filter", "refusal", "pause", "context_exceeded")
    ),
    *(
        Feature(
            "usage",
            name.replace("_", " "),
            reply(usage=Usage(input=5, output=3, **{name: 2})),
            lambda r, name=name: getattr(r.usage, name),
            _all_tokens(Usage(input=5, output=3, **{name: 2})),
        )
        for name in (
            "cache_read",
            "cache_write",
            "cache_write_1h",
            "reasoning",
            "input_audio",
            "input_image",
            "output_audio",
        )
    ),
    Feature(
        "usage",
        "all tokens in and out",
        reply(usage=Usage(input=5, cache_read=2, cache_write=1, output=3, reasoning=4)),
        lambda response: (response.usage.tokens_in, response.usage.tokens_out),
    ),
]
