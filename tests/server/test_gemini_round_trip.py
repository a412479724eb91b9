"""Both sides of Gemini's dialect joined: what one writes, the other reads, and nothing gets lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.providers.gemini import Gemini
from assay.providers.http import HttpUpstream
from assay.providers.sse import SseDecoder
from assay.providers.transport import HttpCall, HttpReply, Transport
from assay.server.gemini import (
    BATCH_EMBED,
    COUNT_TOKENS,
    EMBED,
    GENERATE,
    STREAM_ARRAY,
    STREAM_SSE,
    Options,
)
from assay.types import (
    Assembly,
    Audio,
    Choice,
    Event,
    Extra,
    File,
    Finish,
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
    TokenLogprob,
    ToolCall,
    ToolChoice,
    ToolResult,
    Uploaded,
    Usage,
    WireCall,
    WireData,
    replace,
    stream_of,
    user,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "gemini"
SHOWN = Options(include_thoughts=True)

# --- what the dialect can carry ------------------------------------------------------------------

WORDS = st.text(min_size=1, max_size=6)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
SIGNATURES = st.sampled_from([None, "c2ln", "+/+/", "YQ=="])
DATA = st.binary(max_size=6)
VALUES = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | WORDS
OBJECTS = st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=2), max_size=3)


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


TEXTS = st.builds(Text, WORDS)
IMAGES = st.builds(Image, st.builds(Inline, st.just("image/png"), DATA))
MEDIA = (
    IMAGES
    | st.builds(Image, st.just(Link("https://example.com/a", "image/webp")))
    | st.builds(Audio, st.builds(Inline, st.just("audio/wav"), DATA))
    | st.builds(File, st.builds(Inline, st.just("application/pdf"), DATA), st.none() | WORDS)
    | st.builds(File, st.just(Uploaded("files/abc", "video/mp4")))
    | st.builds(
        File,
        st.just(Link("https://example.com/v", "video/mp4")),
        extra=st.just(Extra("gemini", {"videoMetadata": {"fps": 1}})),
    )
)
SAID = st.builds(lambda parts: Message("user", tuple(parts)), st.lists(TEXTS | MEDIA, min_size=1, max_size=4))


@st.composite
def turns(draw: st.DrawFn, number: int) -> list[Message]:
    """What a user says, what the model answers, perhaps with calls, and what came of those."""
    parts: list[Any] = draw(
        st.lists(
            st.builds(Text, WORDS, signature=SIGNATURES)
            | st.builds(Reasoning, WORDS, signature=st.just("c2ln"))
            | st.just(Opaque("gemini", {"executableCode": {"language": "PYTHON", "code": "1"}})),
            max_size=3,
        )
    )
    calls = [
        ToolCall(f"c{number}_{place}", name, compact(args), signature=signature)
        for place, (name, args, signature) in enumerate(
            draw(st.lists(st.tuples(NAMES, OBJECTS, SIGNATURES), max_size=3))
        )
    ]
    answer = Message("assistant", (*parts, *calls) or (Text("ok"),))
    results = tuple(
        ToolResult(
            call.id,
            (
                Text(draw(WORDS.filter(lambda text: not text.lstrip().startswith("{")))),
                *draw(st.lists(IMAGES, max_size=1)),
            ),
            call.name,
            draw(st.booleans()),
        )
        for call in calls
    )
    return [draw(SAID), answer, *([Message("tool", results)] if results else [])]


TOOLS = st.lists(
    st.builds(
        FunctionTool,
        NAMES,
        st.none() | WORDS,
        st.none() | st.just({"type": "object", "properties": {"a": {"type": ["string", "null"]}}}),
        extra=st.none() | st.just(Extra("gemini", {"behavior": "BLOCKING"})),
    ),
    min_size=1,
    max_size=3,
)
CHOICES = (
    st.none()
    | st.builds(ToolChoice, st.sampled_from(["auto", "none", "required"]))
    | st.builds(ToolChoice, st.sampled_from(["named", "auto"]), st.just(("f", "g")))
    | st.just(ToolChoice("auto", (), Extra("gemini", {"mode": "VALIDATED"})))
)
SAMPLINGS = st.builds(
    Sampling,
    max_tokens=st.none() | st.integers(1, 9999),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(1, 100),
    stop=st.lists(WORDS, max_size=2).map(tuple),
    seed=st.none() | st.integers(-(2**31), 2**31),
    frequency_penalty=st.none() | st.floats(-2, 2),
    presence_penalty=st.none() | st.floats(-2, 2),
    top_logprobs=st.none() | st.integers(0, 20),
)
THOUGHTS = st.sampled_from(
    [
        None,
        Thinking(enabled=False),
        Thinking(enabled=True),
        Thinking(enabled=True, budget_tokens=512, include_text=True),
        Thinking(include_text=False),
    ]
)
OUTPUTS = st.sampled_from(
    [TextOutput(), JsonOutput(), SchemaOutput({"type": "object", "properties": {"a": {"type": "string"}}})]
)
EXTRAS = st.sampled_from(
    [
        None,
        Extra(
            "gemini",
            {
                "safetySettings": [],
                "cachedContent": "cachedContents/x",
                "labels": {"a": "b"},
                "speechConfig": {"languageCode": "en"},
                "retrievalConfig": {"languageCode": "en"},
            },
        ),
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    system = draw(st.none() | st.lists(TEXTS, min_size=1, max_size=2))
    messages = [Message("system", tuple(system))] if system else []
    for number in range(draw(st.integers(0, 2))):
        messages += draw(turns(number))
    hosted = draw(st.lists(st.just(HostedTool("gemini", {"googleSearch": {}})), max_size=1))
    return Request(
        "gemini-2.5-flash",
        (*messages, draw(SAID)),
        sampling=draw(SAMPLINGS),
        tools=(*draw(TOOLS), *hosted),
        tool_choice=draw(CHOICES),
        output=draw(OUTPUTS),
        modalities=draw(st.sampled_from([(), ("text",), ("text", "image")])),
        thinking=draw(THOUGHTS),
        choices=draw(st.integers(1, 3)),
        service_tier=draw(st.sampled_from([None, "flex"])),
        extra=draw(EXTRAS),
    )


@given(request=requests())
@settings(max_examples=200, deadline=None)
def test_what_goes_to_the_upstream_is_understood_again(request: Request) -> None:
    encoded = Gemini().encode(request)
    assert encoded.dropped == ()
    assert GENERATE.parse(encoded.body, "gemini-2.5-flash").request == request


@given(request=requests())
@settings(max_examples=50, deadline=None)
def test_a_call_to_be_counted_is_understood_again(request: Request) -> None:
    counted = replace(request, operation="count_tokens")
    encoded = Gemini().encode(counted)
    assert COUNT_TOKENS.parse(encoded.body, "gemini-2.5-flash").request == counted


@given(
    messages=st.lists(SAID, min_size=1, max_size=3),
    dimensions=st.none() | st.integers(1, 999),
    extra=st.sampled_from([None, Extra("gemini", {"taskType": "RETRIEVAL_QUERY"})]),
)
@settings(max_examples=50, deadline=None)
def test_inputs_to_be_embedded_are_understood_again(
    messages: list[Message], dimensions: int | None, extra: Extra | None
) -> None:
    request = Request("m", tuple(messages), operation="embeddings", dimensions=dimensions, extra=extra)
    assert BATCH_EMBED.parse(Gemini().encode(request).body, "m").request == request


# --- replies -------------------------------------------------------------------------------------

REQUEST = Request("m", (user("Hi"),))
ANSWERS = st.lists(
    st.builds(Text, WORDS, signature=SIGNATURES)
    | st.builds(Reasoning, WORDS, signature=SIGNATURES)
    | st.builds(ToolCall, NAMES, NAMES, OBJECTS.map(compact), signature=SIGNATURES)
    | st.builds(Audio, st.builds(Inline, st.just("audio/L16"), DATA.filter(bool)))
    | st.just(Opaque("gemini", {"executableCode": {"language": "PYTHON", "code": "1"}})),
    max_size=4,
)
COUNTS = st.integers(0, 999)
USAGES = st.builds(
    Usage,
    input=COUNTS,
    input_audio=COUNTS,
    input_image=COUNTS,
    cache_read=COUNTS,
    cache_read_audio=COUNTS,
    output=COUNTS,
    reasoning=st.integers(1000, 1999),
    output_audio=COUNTS,
    output_image=COUNTS,
)
LOGPROBS = st.lists(
    st.builds(TokenLogprob, WORDS, st.floats(-9, -0.5), top=st.just((TokenLogprob("a", -1.0),))), max_size=2
).map(tuple)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    parts: list[Any] = []
    for part in draw(ANSWERS):
        # Pieces of one text follow each other in a stream: two texts in a row would become one.
        if not parts or type(parts[-1]) is not type(part) or isinstance(part, ToolCall | Opaque):
            parts.append(part)
    called = any(isinstance(part, ToolCall) for part in parts)
    stop = Finish("tool_calls" if called else "stop", "STOP")
    finish = draw(st.sampled_from([stop, Finish("length", "MAX_TOKENS"), Finish("content_filter", "SAFETY")]))
    texts = any(isinstance(part, Text) for part in parts)
    return Choice(Message("assistant", tuple(parts)), finish, draw(LOGPROBS) if texts else ())


REPLIES = st.builds(
    Response,
    id=NAMES,
    model=NAMES,
    choices=st.lists(choices(), min_size=1, max_size=2).map(tuple),
    usage=st.none() | USAGES,
)


def without_averages(response: Response) -> Response:
    """The mean of the log probabilities is told beside them, and read as something beside."""
    extra = response.extra
    if extra is not None and all(set(one) <= {"avgLogprobs"} for one in extra.fields.get("candidates", ())):
        return replace(response, extra=None)
    return response


def read_stream(data: bytes) -> Response:
    frames, decoder, assembly = SseDecoder(), Gemini().events(REQUEST), Assembly()
    for kind, text in frames.feed(data):
        for event in decoder.feed(kind, text):
            assembly.add(event)
    for event in decoder.end():
        assembly.add(event)
    assert assembly.complete
    return assembly.response()


@given(response=REPLIES)
@settings(max_examples=200, deadline=None)
def test_what_a_caller_gets_the_upstream_side_reads(response: Response) -> None:
    body, dropped = GENERATE.write(response, SHOWN)
    assert dropped == ()
    assert without_averages(Gemini().decode(REQUEST, body)) == response


@given(response=REPLIES)
@settings(max_examples=200, deadline=None)
def test_a_stream_reads_as_the_whole(response: Response) -> None:
    events: list[Event] = stream_of(response)
    sse, array = STREAM_SSE.stream(SHOWN), STREAM_ARRAY.stream(SHOWN)
    data = b"".join(sse.encode(event) for event in events)
    assert without_averages(read_stream(data)) == response
    listed = b"".join(array.encode(event) for event in events)
    assert without_averages(Gemini().decode(REQUEST, listed)) == response
    # The upstream's own bytes, framed anew, say the same.
    other = STREAM_ARRAY.stream(SHOWN)
    assert json.loads(other.wire(data) + other.close()) == json.loads(listed)


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("generate_*.json")), ids=lambda path: path.stem)
def test_googles_replies_come_out_as_they_went_in(path: Path) -> None:
    """Through the canonical types, and back to a caller of the same dialect."""
    data = path.read_bytes()
    response = Gemini().decode(REQUEST, data)
    again = Gemini().decode(REQUEST, GENERATE.write(response, SHOWN).body)
    assert replace(again, created_s=0) == replace(response, created_s=0)


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("stream_*.sse")), ids=lambda path: path.stem)
def test_googles_streams_come_out_as_they_went_in(path: Path) -> None:
    frames, decoder, encoder = SseDecoder(), Gemini().events(REQUEST), STREAM_SSE.stream(SHOWN)
    assembly, data = Assembly(), b""
    for kind, text in [*frames.feed(path.read_bytes()), *frames.end()]:
        for event in decoder.feed(kind, text):
            assembly.add(event)
            data += encoder.encode(event)
    for event in decoder.end():
        assembly.add(event)
        data += encoder.encode(event)
    assert replace(read_stream(data), created_s=0) == replace(assembly.response(), created_s=0)


class Cut(Transport):
    """An upstream whose reply comes in these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__()
        self._pieces = pieces

    @asynccontextmanager
    async def send(self, call: HttpCall) -> AsyncIterator[HttpReply]:
        async def chunks() -> AsyncIterator[bytes]:
            for piece in self._pieces:
                yield piece

        yield HttpReply(200, {"content-type": "text/event-stream"}, chunks())


@pytest.mark.anyio
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", ["stream_text", "stream_choices", "stream_tools", "stream_blocked"])
async def test_an_upstreams_stream_is_an_array_wherever_it_is_cut(name: str, end: bytes) -> None:
    data = (FIXTURES / f"{name}.sse").read_bytes().replace(b"\n", end)
    body = b'{"contents":[{"parts":[{"text":"Hi"}]}]}'
    request = STREAM_ARRAY.parse(body, "m").request
    request = replace(request, wire=WireCall("gemini", body, request=request))
    wanted = [json.loads(text) for _, text in SseDecoder().feed(data)]
    for place in range(1, len(data), 7):
        upstream = HttpUpstream("g", [Gemini()], "http://x.test", None, Cut(data[:place], data[place:]))
        array, written = STREAM_ARRAY.stream(None), b""
        async for event in upstream(request):
            assert isinstance(event, WireData)
            written += array.wire(event.data)
        assert json.loads(written + array.close()) == wanted


@given(vectors=st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=3))
@settings(max_examples=50, deadline=None)
def test_vectors_are_read_back(vectors: list[tuple[float, float]]) -> None:
    request = Request("m", (user("a"),) * len(vectors), operation="embeddings")
    response = Response("", "m", (), usage=Usage(input=3), vectors=tuple(vectors))
    assert Gemini().decode(request, BATCH_EMBED.write(response, None).body) == response
    one = replace(response, vectors=response.vectors[:1])
    assert Gemini().decode(REQUEST_TO_EMBED, EMBED.write(one, None).body) == one


REQUEST_TO_EMBED = replace(REQUEST, operation="embeddings")
