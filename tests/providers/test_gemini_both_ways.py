"""Gemini's two halves undo each other: what goes to an upstream means the same to whoever reads it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.providers.gemini import Gemini
from assay.providers.sse import SseDecoder
from assay.server.gemini.parse import Options, parse_batch, parse_count, parse_generate
from assay.server.gemini.reply import write_batch, write_count, write_generate
from assay.server.gemini.stream import ArrayEncoder, SseEncoder
from assay.types import (
    Assembly,
    Audio,
    Event,
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
    replace,
    user,
)

WIRE = Gemini()


def back(request: Request) -> Request:
    encoded = WIRE.encode(request)
    assert encoded.dropped == ()
    match request.operation:
        case "embeddings":
            return parse_batch(encoded.body, request.model).request
        case "count_tokens":
            return parse_count(encoded.body, request.model).request
        case _:
            return parse_generate(encoded.body, request.model, stream=request.stream).request


def own(**fields: Any) -> Extra:
    return Extra("gemini", fields)


# --- what the dialect can carry ------------------------------------------------------------------

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
SIGNATURES = st.none() | st.sampled_from(["AAAA", "EjQKMgERTTIKtbg2bXAy", "+/8="])
EXTRAS = st.none() | st.just(own(partMetadata={"k": 1}))
DATA = st.binary(max_size=5)
LINKS = st.builds(Link, st.just("https://x.test/a"), st.sampled_from(["image/png", "image/webp"]))
TEXTS = st.builds(Text, WORDS, signature=SIGNATURES, extra=EXTRAS)
PICTURES = st.builds(
    Image,
    st.builds(Inline, st.just("image/png"), DATA) | LINKS,
    extra=EXTRAS | st.just(own(mediaResolution={"level": "MEDIA_RESOLUTION_LOW"}, displayName="a")),
)
SOUNDS = st.builds(Audio, st.builds(Inline, st.just("audio/wav"), DATA), extra=EXTRAS)
FILES = st.builds(
    File,
    st.builds(Inline, st.just("application/pdf"), DATA)
    | st.builds(Uploaded, st.just("gs://b/f"), st.sampled_from(["video/mp4", "text/plain"])),
    st.none() | WORDS,
    extra=EXTRAS | st.just(own(videoMetadata={"fps": 1})),
)
SAID = st.lists(TEXTS | PICTURES | SOUNDS | FILES, min_size=1, max_size=3).map(tuple)
CODE = st.just(Opaque("gemini", {"executableCode": {"language": "PYTHON", "code": "1"}}))
THOUGHTS = st.builds(Reasoning, WORDS, signature=st.just("AAAA"))
ANSWERED = st.sampled_from(['{"a":1}', "21", "no such city", '{"a":{"b":[null,0.5]}}'])


@st.composite
def turns(draw: st.DrawFn) -> tuple[Message, ...]:
    """A user's message, and perhaps an answer that calls functions, with their results."""
    asked = Message("user", draw(SAID))
    said = draw(st.lists(TEXTS | CODE | THOUGHTS, max_size=3))
    names = draw(st.lists(NAMES, max_size=3))
    start = draw(st.integers(0, 10**6))
    calls = tuple(
        ToolCall(
            f"id_{start}_{number}", name, '{"x":1.5}', signature=draw(SIGNATURES) if not number else None
        )
        for number, name in enumerate(names)
    )
    if not said and not calls:
        return (asked,)
    results = tuple(
        ToolResult(call.id, (Text(draw(ANSWERED)),), call.name, draw(st.booleans())) for call in calls
    )
    results = tuple(
        replace(one, is_error=False) if one.parts[0].text.startswith("{") else one  # type: ignore[union-attr]
        for one in results
    )
    answer = Message("assistant", (*said, *calls))
    return (asked, answer, Message("tool", results)) if results else (asked, answer)


CONVERSATIONS = st.tuples(
    st.sampled_from([(), (Message("system", (Text("S"), Text("T"))),)]),
    st.lists(turns(), min_size=1, max_size=3),
).map(lambda drawn: (*drawn[0], *(message for turn in drawn[1] for message in turn)))


@given(CONVERSATIONS)
def test_a_conversation_comes_back_as_it_was(messages: tuple[Message, ...]) -> None:
    ids = [part.id for message in messages for part in message.parts if isinstance(part, ToolCall)]
    if len(ids) != len(set(ids)):
        return
    request = Request("m", messages)
    assert back(request) == request
    counted = replace(request, operation="count_tokens")
    assert back(counted) == counted


SAMPLINGS = st.builds(
    Sampling,
    st.none() | st.integers(1, 9),
    st.none() | st.sampled_from([0.0, 0.5, 2.0]),
    st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    st.none() | st.integers(1, 40),
    st.lists(WORDS, max_size=2).map(tuple),
    st.none() | st.integers(-5, 5),
    st.none() | st.sampled_from([-2.0, 0.0, 2.0]),
    st.none() | st.sampled_from([-2.0, 0.0, 2.0]),
    top_logprobs=st.none() | st.integers(0, 5),
)
SCHEMA = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "additionalProperties": False}
TOOLS = (
    FunctionTool("f", "Does.", SCHEMA, extra=own(responseJsonSchema={"type": "string"})),
    FunctionTool("g"),
    HostedTool("gemini", {"googleSearch": {}}),
)
CHOICES = [
    None,
    ToolChoice("auto"),
    ToolChoice("none"),
    ToolChoice("required"),
    ToolChoice("named", ("f",)),
    ToolChoice("auto", ("f", "g")),
    ToolChoice("auto", extra=own(mode="VALIDATED")),
]


@given(
    SAMPLINGS,
    st.sampled_from(CHOICES),
    st.sampled_from([TextOutput(), JsonOutput(), SchemaOutput(SCHEMA)]),
    st.sampled_from([(), ("text",), ("text", "audio")]),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([None, "flex", "priority"]),
    st.sampled_from(
        [
            None,
            own(safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}]),
            own(cachedContent="cachedContents/1", labels={"a": "b"}, store=True),
            own(speechConfig={"languageCode": "en"}, mediaResolution="MEDIA_RESOLUTION_LOW"),
            own(retrievalConfig={"languageCode": "en"}, includeServerSideToolInvocations=True),
            own(responseMimeType="text/x.enum", responseSchema={"type": "STRING", "enum": ["a"]}),
        ]
    ),
)
def test_parameters_come_back_as_they_were(
    sampling: Sampling,
    choice: ToolChoice | None,
    output: Any,
    modalities: tuple[str, ...],
    choices: int,
    stream: bool,
    tier: str | None,
    extra: Extra | None,
) -> None:
    if extra is not None and "responseSchema" in extra.fields:
        output = TextOutput()
    request = Request(
        "m",
        (user("Hi"),),
        sampling=sampling,
        tools=TOOLS,
        tool_choice=choice,
        output=output,
        modalities=modalities,
        choices=choices,
        stream=stream,
        service_tier=tier,
        extra=extra,
    )
    assert back(request) == request


@pytest.mark.parametrize(
    ("model", "thinking"),
    [
        ("gemini-2.5-flash", Thinking(enabled=True)),
        ("gemini-2.5-flash", Thinking(enabled=False)),
        ("gemini-2.5-flash", Thinking(enabled=True, budget_tokens=1024, include_text=True)),
        ("gemini-3-pro", Thinking(effort="low", include_text=False)),
        ("gemini-3-pro", Thinking(effort="xhigh")),
        ("gemini-3-pro", Thinking(enabled=True, budget_tokens=1024)),
    ],
)
def test_thinking_comes_back_as_it_was(model: str, thinking: Thinking) -> None:
    request = Request(model, (user("Hi"),), thinking=thinking)
    assert back(request) == request


def test_media_in_results_come_back() -> None:
    result = ToolResult(
        "a",
        (
            Text("see"),
            Image(Inline("image/png", b"x"), extra=own(displayName="p")),
            File(Link("https://x.test/a"), "n"),
        ),
        "f",
        extra=own(scheduling="SILENT", willContinue=False),
    )
    call = Message("assistant", (ToolCall("a", "f", "{}"),))
    request = Request("m", (user("Hi"), call, Message("tool", (result,))))
    assert back(request) == request


@given(
    st.lists(SAID, min_size=1, max_size=3),
    st.none() | st.integers(1, 9),
    st.sampled_from([None, own(taskType="CLUSTERING")]),
)
def test_inputs_to_embed_come_back(inputs: list[Any], dimensions: int | None, extra: Extra | None) -> None:
    messages = tuple(Message("user", parts) for parts in inputs)
    request = Request("m", messages, operation="embeddings", dimensions=dimensions, extra=extra)
    assert back(request) == request


# --- replies -------------------------------------------------------------------------------------

FIXTURES = Path(__file__).parents[1] / "fixtures" / "gemini"
ASK = Request("m", (user("Hi"),))
SHOWN = Options(include_thoughts=True)


def same(first: Response, second: Response) -> None:
    """But for what the caller's side tells of its own accord."""
    for one, other in zip(first.choices, second.choices, strict=True):
        assert one == other
    assert (first.id, first.model, first.usage) == (second.id, second.model, second.usage)


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("generate*.json")), ids=lambda path: path.stem)
def test_a_whole_reply_comes_through_as_it_was(path: Path) -> None:
    reply = WIRE.decode(ASK, path.read_bytes())
    written = write_generate(reply, SHOWN)
    assert written.dropped == ()
    again = WIRE.decode(ASK, written.body)
    same(again, reply)
    if path.stem != "generate_logprobs":
        assert again.extra == reply.extra


def events_of(body: bytes) -> list[Event]:
    frames, decoder = SseDecoder(), WIRE.events(ASK)
    data = [*frames.feed(body), *frames.end()]
    events = [event for kind, item in data for event in decoder.feed(kind, item)]
    return [*events, *decoder.end()]


def folded(events: list[Event]) -> Response:
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    return assembly.response()


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.sse")), ids=lambda path: path.stem)
def test_a_stream_comes_through_as_it_was(path: Path) -> None:
    events = events_of(path.read_bytes())
    sse, array = SseEncoder(SHOWN), ArrayEncoder(SHOWN)
    reply = folded(events)
    again = folded(events_of(b"".join(sse.encode(event) for event in events)))
    same(again, reply)
    assert again.extra == reply.extra
    same(WIRE.decode(ASK, b"".join(array.encode(event) for event in events)), reply)


def test_vectors_and_counts_come_through() -> None:
    two = replace(ASK, operation="embeddings", messages=(user("a"), user("b")))
    vectors = WIRE.decode(two, (FIXTURES / "embeddings_batch.json").read_bytes())
    assert WIRE.decode(two, write_batch(vectors, None).body) == vectors
    counting = replace(ASK, operation="count_tokens")
    count = WIRE.decode(counting, (FIXTURES / "count_tokens.json").read_bytes())
    assert WIRE.decode(counting, write_count(count, None).body) == count
