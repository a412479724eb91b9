"""Both sides of Anthropic's Messages together: what one writes, the other reads, and it is the same."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from assay.errors import (
    AssayError,
    ContextExceeded,
    NotFound,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestError,
)
from assay.providers.anthropic import Anthropic
from assay.server.anthropic import COUNT_TOKENS, MESSAGES, MessageStream
from assay.types import (
    Assembly,
    CacheMark,
    Choice,
    Event,
    Extra,
    File,
    Finish,
    FunctionTool,
    HostedTool,
    Image,
    Inline,
    Link,
    Message,
    Opaque,
    Part,
    Reasoning,
    Request,
    Response,
    Sampling,
    SchemaOutput,
    Text,
    TextOutput,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    Uploaded,
    Usage,
    replace,
    stream_of,
    user,
)

WIRE = Anthropic()
MODEL = "claude-opus-4-6"
"""Takes a budget as well as an effort."""

NAMES = st.text("abcXYZ019_-", min_size=1, max_size=9)
WORDS = st.text(min_size=1, max_size=9).filter(lambda said: bool(said.strip()))
MARKS = st.sampled_from([None, CacheMark(), CacheMark("1h")])
VALUES = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3)
OBJECTS = VALUES.map(lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False))
CITATION = {
    "type": "page_location",
    "cited_text": "x",
    "document_index": 0,
    "document_title": "T",
    "start_page_number": 1,
    "end_page_number": 2,
}


def own(**fields: Any) -> st.SearchStrategy[Extra | None]:
    return st.sampled_from([None, Extra("anthropic", fields)])


def opaque(*kinds: str) -> st.SearchStrategy[Opaque]:
    return st.sampled_from([Opaque("anthropic", {"type": kind, "n": [1.5, None]}) for kind in kinds])


TEXTS = st.builds(Text, WORDS, cache=MARKS)
IMAGES = st.builds(
    Image,
    st.one_of(
        st.builds(Inline, st.sampled_from(["image/png", "image/webp"]), st.binary(max_size=9)),
        st.builds(Link, WORDS),
        st.builds(Uploaded, WORDS),
    ),
    cache=MARKS,
    extra=own(transformations={"oversized_image": "error"}),
)
FILES = st.builds(
    File,
    st.one_of(
        st.builds(Inline, st.just("application/pdf"), st.binary(max_size=9)),
        st.builds(Inline, st.just("text/plain"), st.text(max_size=9).map(str.encode)),
        st.builds(Link, WORDS, st.just("application/pdf")),
        st.builds(Uploaded, WORDS),
    ),
    st.none() | WORDS,
    MARKS,
    own(context="c", citations={"enabled": True}),
)
GIVEN = TEXTS | IMAGES | FILES | opaque("search_result")
RESULTS = st.builds(
    ToolResult,
    NAMES,
    st.lists(GIVEN | opaque("tool_reference", "browser_state"), max_size=2).map(tuple),
    is_error=st.booleans(),
    cache=MARKS,
    extra=own(toolset_name="t"),
)
CALLS = st.builds(
    ToolCall,
    NAMES,
    WORDS,
    OBJECTS,
    cache=MARKS,
    extra=own(caller={"type": "code_execution_20250825", "tool_id": "s"}, toolset_name="t"),
)
THOUGHTS = st.builds(Reasoning, st.text(max_size=9), signature=NAMES) | st.builds(Reasoning, encrypted=NAMES)
SAID: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, WORDS, st.sampled_from([(), (CITATION,)]), cache=MARKS),
    opaque("server_tool_use", "web_search_tool_result", "compaction", "mcp_tool_use"),
)


def parts(*strategies: st.SearchStrategy[Any], least: int = 1) -> st.SearchStrategy[tuple[Part, ...]]:
    """Some of each, in this order."""
    some = st.tuples(*[st.lists(strategy, max_size=2) for strategy in strategies])
    joined = some.map(lambda lists: tuple(part for found in lists for part in found))
    return joined.filter(lambda found: len(found) >= least)


REPLIES = parts(THOUGHTS, SAID, CALLS)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """User and assistant by turns, as the API has them; results of tools stand first in the user's turn."""
    turns: list[Message] = []
    if system := draw(st.lists(TEXTS, max_size=2)):
        turns.append(Message("system", tuple(system)))
    turns.append(Message("user", draw(parts(GIVEN))))
    for _ in range(draw(st.integers(0, 2))):
        turns.append(Message("assistant", draw(REPLIES)))
        results = draw(st.lists(RESULTS, max_size=3))
        if results:
            turns.append(Message("tool", tuple(results)))
        if rest := draw(parts(GIVEN, least=0 if results else 1)):
            turns.append(Message("user", rest))
    return tuple(turns)


TOOLS = st.lists(
    st.builds(
        FunctionTool,
        NAMES,
        st.none() | WORDS,
        st.just({"type": "object", "properties": {"a": {"type": "string"}}}),
        st.none() | st.booleans(),
        MARKS,
        own(allowed_callers=["direct"], defer_loading=True, input_examples=[{"a": "b"}]),
    )
    | st.just(HostedTool("anthropic", {"type": "web_search_20250305", "name": "web_search"})),
    max_size=2,
).map(tuple)
CHOICES = st.sampled_from(
    [None, *map(ToolChoice, ("auto", "none", "required")), ToolChoice("named", ("f",))]  # type: ignore[arg-type]
)
THINKING = st.sampled_from(
    [
        None,
        Thinking(False),
        Thinking(effort="max", enabled=True),
        Thinking(True, None, 2048),
        Thinking(True, None, 1024, include_text=True),
        Thinking(True, "low", include_text=False),
    ]
)
OWN = {
    "cache_control": {"type": "ephemeral", "ttl": "1h"},
    "speed": "fast",
    "context_management": {"edits": []},
    "mcp_servers": [{"type": "url", "url": "https://x.test", "name": "x"}],
    "container": {"id": "c"},
    "diagnostics": {"previous_message_id": "p"},
    "inference_geo": "eu",
    "fallbacks": "default",
    "output_config": {"task_budget": {"type": "tokens", "total": 9}},
}


@st.composite
def requests(draw: st.DrawFn) -> Request:
    tools = draw(TOOLS)
    choice = draw(CHOICES)
    thinking = draw(THINKING)
    return Request(
        MODEL,
        draw(conversations()),
        sampling=Sampling(
            max_tokens=draw(st.integers(4096, 9999)),
            temperature=None if thinking else draw(st.none() | st.floats(0, 1)),
            top_k=None if thinking else draw(st.none() | st.integers(0, 9)),
            stop=tuple(draw(st.lists(WORDS, max_size=2))),
        ),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=draw(st.sampled_from([None, False])) if tools and _may_call(choice) else None,
        output=draw(st.just(TextOutput()) | st.just(SchemaOutput({"type": "object"}))),
        thinking=thinking,
        stream=draw(st.booleans()),
        service_tier=draw(st.sampled_from([None, "auto", "standard_only"])),
        user=draw(st.none() | WORDS),
        extra=draw(st.none() | st.just(Extra("anthropic", OWN))),
    )


def _may_call(choice: ToolChoice | None) -> bool:
    return choice is not None and choice.mode != "none"


@given(requests())
def test_a_request_survives_being_sent_and_received(request: Request) -> None:
    sent = WIRE.encode(request)
    received = MESSAGES.parse(sent.body, "").request
    if "thinking" in sent.dropped:
        # The API refuses to think on in some conversations.
        received = replace(received, thinking=request.thinking)
    assert received == request
    assert WIRE.encode(received).body == sent.body


@given(requests())
def test_a_count_survives_too(request: Request) -> None:
    extra = Extra("anthropic", {"speed": "fast", "context_management": {"edits": []}})
    asked = Request(
        request.model,
        request.messages,
        "count_tokens",
        tools=request.tools,
        output=request.output,
        extra=extra,
    )
    sent = WIRE.encode(asked)
    assert COUNT_TOKENS.parse(sent.body, "").request == asked
    counted = COUNT_TOKENS.write(Response("", MODEL, (), usage=Usage(input=7)), None).body
    assert WIRE.decode(asked, counted) == Response("", MODEL, (), usage=Usage(input=7))


def test_parallel_results_come_back_into_one_turn() -> None:
    results = [{"type": "tool_result", "tool_use_id": name, "content": "x"} for name in ("a", "b")]
    calls = [{"type": "tool_use", "id": name, "name": "f", "input": {}} for name in ("a", "b")]
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": calls},
        {"role": "user", "content": [*results, {"type": "text", "text": "Well?"}]},
    ]
    body = {"model": MODEL, "max_tokens": 9, "messages": turns}
    request = MESSAGES.parse(json.dumps(body).encode(), "").request
    assert json.loads(WIRE.encode(request).body) == body


# --- replies -------------------------------------------------------------------------------------

REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "pause": "pause_turn",
    "refusal": "refusal",
    "context_exceeded": "model_context_window_exceeded",
}
FINISHES = st.sampled_from([Finish(reason, raw) for reason, raw in REASONS.items()]) | st.builds(  # type: ignore[arg-type]
    lambda said: Finish("stop_sequence", "stop_sequence", said), WORDS
)
COUNTS = st.integers(0, 99)
USAGES = st.builds(
    Usage,
    input=COUNTS,
    cache_read=COUNTS,
    cache_write=COUNTS,
    cache_write_1h=COUNTS,
    output=COUNTS,
    reasoning=COUNTS,
)
TOLD = {
    "container": {"id": "c", "expires_at": "2030-01-01T00:00:00Z"},
    "usage": {
        "service_tier": "standard",
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 2},
    },
}


@st.composite
def replies(draw: st.DrawFn) -> Response:
    said = tuple(replace(part, cache=None) if hasattr(part, "cache") else part for part in draw(REPLIES))
    finish = draw(FINISHES)
    if finish.reason == "stop" and any(isinstance(part, ToolCall) for part in said):
        finish = Finish("tool_calls", "tool_use")
    own_words = dict(draw(st.sampled_from([{}, TOLD])))
    if finish.reason == "refusal":
        own_words["stop_details"] = {"type": "refusal", "category": "bio", "explanation": None}
    extra = Extra("anthropic", own_words) if own_words else None
    return Response(
        "msg_1", "m", (Choice(Message("assistant", said), finish),), usage=draw(USAGES), extra=extra
    )


HI = Request(MODEL, (user("Hi"),))


@given(replies())
def test_a_whole_reply_survives(reply: Response) -> None:
    written = MESSAGES.write(reply, None)
    assert written.dropped == ()
    assert WIRE.decode(HI, written.body) == reply


def read_back(data: bytes) -> list[Event]:
    decoder = WIRE.events(HI)
    events: list[Event] = []
    for frame in data.decode().removesuffix("\n\n").split("\n\n"):
        name, line = frame.split("\n")
        events += decoder.feed(name.removeprefix("event: "), line.removeprefix("data: "))
    return [*events, *decoder.end()]


def folded(events: list[Event]) -> Response:
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    assert assembly.complete
    return assembly.response()


def as_streamed(reply: Response) -> Response:
    """Deltas have no place for a part's Extra, nor a stream for the age of what was written to the cache."""
    said = tuple(
        replace(part, extra=None) if isinstance(part, ToolCall) else part for part in reply.message.parts
    )
    usage = reply.usage
    assert usage is not None
    usage = replace(usage, cache_write=usage.cache_write + usage.cache_write_1h, cache_write_1h=0)
    choice = replace(reply.choices[0], message=Message("assistant", said))
    return replace(reply, choices=(choice,), usage=usage)


@given(replies())
def test_a_stream_survives(reply: Response) -> None:
    encoder = MessageStream()
    data = b"".join(encoder.encode(event) for event in stream_of(reply))
    assert folded(read_back(data)) == as_streamed(reply)


def test_errors_mean_the_same_on_both_sides() -> None:
    errors: list[AssayError] = [
        RequestError("max_tokens: Field required", param="max_tokens"),
        ContextExceeded("too long"),
        NotFound("no such model"),
        RateLimited("slow down"),
        ProviderTimeout("late"),
        ProviderUnavailable("gone"),
    ]
    for error in errors:
        status, body = MESSAGES.error(error)
        back = WIRE.error(status, {}, body)
        assert type(back) is type(error)
        assert getattr(back, "param", None) == getattr(error, "param", None)
        assert error.message in back.message
        frame = MessageStream().error(error).decode().split("\n")
        try:
            WIRE.events(HI).feed("error", frame[1].removeprefix("data: "))
        except AssayError as streamed:
            assert type(streamed) is type(error)
        else:
            raise AssertionError(error)
