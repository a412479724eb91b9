"""Replies and streams of Gemini's API, against documented ones and the official types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import (
    AssayError,
    BadResponse,
    ContextExceeded,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestError,
)
from assay.providers.gemini import Gemini
from assay.providers.sse import SseDecoder
from assay.types import (
    Assembly,
    Audio,
    Choice,
    Event,
    Extra,
    Finish,
    Inline,
    Message,
    Opaque,
    Reasoning,
    Request,
    Response,
    Started,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    Usage,
    replace,
    stream_of,
    user,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "gemini"
WIRE = Gemini()
ASK = Request("asked", (user("Hi"),))
EMBED = Request("asked", (user("a"), user("b")), operation="embeddings")
COUNT = replace(ASK, operation="count_tokens")
SIGNATURE = "EjQKMgERTTIKtbg2bXAy"


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def stream_data(name: str) -> list[str]:
    frames = SseDecoder()
    return [data for _, data in (*frames.feed(fixture(name)), *frames.end())]


def events_of(data: list[str]) -> list[Event]:
    decoder = WIRE.events(ASK)
    events = [event for item in data for event in decoder.feed("message", item)]
    return [*events, *decoder.end()]


def folded(events: list[Event]) -> Response:
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    assert assembly.complete
    return assembly.response()


def body_with(*parts: Any, **fields: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": list(parts), "role": "model"}, "finishReason": "STOP", **fields}
    return {
        "candidates": [{name: value for name, value in candidate.items() if value is not None}],
        "responseId": "r1",
    }


def chunk(*parts: Any, **fields: Any) -> str:
    return json.dumps(body_with(*parts, **{"finishReason": None, **fields}))


def decoded(*parts: Any, **fields: Any) -> Response:
    return WIRE.decode(ASK, json.dumps(body_with(*parts, **fields)).encode())


# --- the fixtures are what Google sends ----------------------------------------------------------


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("generate*.json")), ids=lambda path: path.stem)
def test_reply_fixtures_are_official(path: Path) -> None:
    data = json.loads(path.read_bytes())
    for candidate in data.get("candidates", ()):  # the SDK renames these two itself
        candidate.get("citationMetadata", {}).pop("citationSources", None)
    types.GenerateContentResponse.model_validate(data)


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.sse")), ids=lambda path: path.stem)
def test_stream_fixtures_are_official(path: Path) -> None:
    for data in stream_data(path.name):
        types.GenerateContentResponse.model_validate_json(data)


def test_other_fixtures_are_official() -> None:
    types.EmbedContentResponse.model_validate_json(fixture("embeddings_batch.json"))
    assert set(json.loads(fixture("count_tokens.json"))) == {"totalTokens", "promptTokensDetails"}


# --- whole replies -------------------------------------------------------------------------------


def test_a_text_reply() -> None:
    assert WIRE.decode(ASK, fixture("generate_text.json")) == Response(
        "Il0taoSYJ5Cez7IPm4S5wQY",
        "gemini-3-flash-preview",
        (
            Choice(
                Message(
                    "assistant",
                    (Reasoning("I added the two numbers."), Text("2 + 2 = 4.", signature=SIGNATURE)),
                ),
                Finish("stop", "STOP"),
            ),
        ),
        usage=Usage(input=26, cache_read=2048, output=9, reasoning=126),
    )


def test_a_reply_of_function_calls() -> None:
    reply = WIRE.decode(ASK, fixture("generate_tools.json"))
    assert reply.message.parts == (
        ToolCall(
            "6k0r1c2n", "get_weather", '{"city":"Paris","days":2}', signature="CiQBcsjafJ1Nz0mpXxbTQ0XL"
        ),
        ToolCall("call_h0Xaafe3Kq_0_1", "get_weather", '{"city":"Rome"}'),
        ToolCall("call_h0Xaafe3Kq_0_2", "now", "{}"),
    )
    assert reply.choices[0].finish == Finish("tool_calls", "STOP")
    assert reply.usage == Usage(input=61, output=34, reasoning=72)
    assert reply.extra == Extra(
        "gemini", {"candidates": [{"finishMessage": "Model generated function call(s)."}]}
    )


def test_what_hosted_tools_did_is_kept_as_it_came() -> None:
    body = json.loads(fixture("generate_hosted.json"))
    (candidate,) = body["candidates"]
    reply = WIRE.decode(ASK, fixture("generate_hosted.json"))
    code, result, text = reply.message.parts
    assert code == Opaque("gemini", candidate["content"]["parts"][0])
    assert result == Opaque("gemini", candidate["content"]["parts"][1])
    assert text == Text("It is 1024, as a page of 2024 says.")
    assert reply.usage == Usage(input=120, output=40)
    assert reply.created_s == 1768465800
    assert reply.extra is not None
    kept = ("safetyRatings", "citationMetadata", "groundingMetadata", "avgLogprobs")
    assert reply.extra.fields == {"candidates": [{name: candidate[name] for name in kept}]}


def test_a_blocked_prompt_is_an_empty_answer_that_says_why() -> None:
    reply = WIRE.decode(ASK, fixture("generate_blocked.json"))
    assert reply.choices == (
        Choice(Message("assistant", ()), Finish("content_filter", "PROHIBITED_CONTENT")),
    )
    assert reply.usage == Usage(input=7)
    assert reply.extra is not None
    assert reply.extra.fields["promptFeedback"]["blockReason"] == "PROHIBITED_CONTENT"


def test_a_spoken_reply_and_what_was_heard_and_seen() -> None:
    reply = WIRE.decode(ASK, fixture("generate_audio.json"))
    media_type = "audio/L16;codec=pcm;rate=24000"
    assert reply.message.parts == (Audio(Inline(media_type, b"\x00\x01\x02\x03\xff")),)
    assert reply.usage == Usage(
        input=10, input_audio=100, input_image=70, cache_read=20, cache_read_audio=100, output_audio=50
    )


def test_log_probabilities_and_several_candidates() -> None:
    first, second = WIRE.decode(ASK, fixture("generate_logprobs.json")).choices
    assert first.logprobs == (
        TokenLogprob("Hi", -0.5, top=(TokenLogprob("Hi", -0.5), TokenLogprob("Hello", -1.25))),
        TokenLogprob(" there", 0.0, top=(TokenLogprob(" there", 0.0),)),
    )
    assert first.finish == Finish("length", "MAX_TOKENS")
    assert second == Choice(Message("assistant", ()), Finish("content_filter", "SAFETY"))


PICTURE = {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}, "thoughtSignature": SIGNATURE}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"text": "", "thoughtSignature": SIGNATURE}, (Text("", signature=SIGNATURE),)),
        ({"thoughtSignature": SIGNATURE}, (Text("", signature=SIGNATURE),)),
        ({"thought": True, "thoughtSignature": SIGNATURE}, (Reasoning("", signature=SIGNATURE),)),
        ({"text": ""}, ()),
        ({}, ()),
        (PICTURE, (Opaque("gemini", PICTURE),)),
        (
            {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg"}},
            (Audio(Inline("audio/wav", b"RIFF")),),
        ),
        (
            {"inlineData": {"mimeType": "audio/wav", "data": "_-8="}},
            (Audio(Inline("audio/wav", b"\xff\xef")),),
        ),
        ({"toolCall": {"id": "1"}}, (Opaque("gemini", {"toolCall": {"id": "1"}}),)),
        ({"newThing": {"a": 1.0}}, (Opaque("gemini", {"newThing": {"a": 1.0}}),)),
        (
            {"functionCall": {"name": "f", "willContinue": True}},
            (Opaque("gemini", {"functionCall": {"name": "f", "willContinue": True}}),),
        ),
        ({"functionCall": {}}, (Opaque("gemini", {"functionCall": {}}),)),
    ],
)
def test_parts(part: Any, expected: tuple[Any, ...]) -> None:
    assert decoded(part).message.parts == expected
    events = [chunk(part), chunk(finishReason="STOP")]
    assert folded(events_of(events)).message.parts == expected


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("CONTINUATION", "length"),
        *((raw, "malformed_tool_call") for raw in ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL")),
        *(
            (raw, "content_filter")
            for raw in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE")
        ),
        *((raw, "content_filter") for raw in ("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT")),
        *((raw, "other") for raw in ("OTHER", "FINISH_REASON_UNSPECIFIED", "MALFORMED_RESPONSE", "NEW")),
    ],
)
def test_finish_reasons(raw: str, reason: str) -> None:
    assert decoded({"text": "x"}, finishReason=raw).choices[0].finish == Finish(reason, raw)  # type: ignore[arg-type]


def test_only_a_good_end_with_a_call_is_one_of_tool_calls() -> None:
    call = {"functionCall": {"name": "f"}}
    assert decoded(call).choices[0].finish == Finish("tool_calls", "STOP")
    assert decoded(call, finishReason="MAX_TOKENS").choices[0].finish == Finish("length", "MAX_TOKENS")


def test_every_official_finish_reason_is_known_or_other() -> None:
    known = {
        reason.value: decoded(finishReason=reason.value).choices[0].finish.reason
        for reason in types.FinishReason
    }
    assert {raw for raw, reason in known.items() if reason == "other"} == {
        "FINISH_REASON_UNSPECIFIED",
        "IMAGE_OTHER",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "NO_IMAGE",
        "OTHER",
        "PUP_LIMITED_DISABLED",
        "TOO_MANY_TOOL_CALLS",
    }


def test_what_has_no_canonical_place_is_kept_and_what_nobody_knows_is_no_fault() -> None:
    body = {
        **body_with({"text": "x"}),
        "newField": [1],
        "modelStatus": {"modelStage": "STABLE"},
        "usageMetadata": {"promptTokenCount": 1, "serviceTier": "flex", "newCount": 3},
        "createTime": "soon",
    }
    reply = WIRE.decode(ASK, json.dumps(body).encode())
    assert reply.extra == Extra(
        "gemini",
        {
            "modelStatus": {"modelStage": "STABLE"},
            "usageMetadata": {"serviceTier": "flex"},
        },
    )
    assert (reply.model, reply.created_s) == ("asked", 0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "it is empty"),
        (b"<html>busy</html>", "it begins with: <html>busy</html>"),
        (b"\xff\xfe", "not one of generateContent"),
        (b'{"a":' * 100_000, "not one of generateContent"),
        (b"[" * 100_000, "not one of chunks"),
        (b"7", "Expected `object`"),
        (b"{}", "without candidates"),
        (b'{"candidates": []}', "without candidates"),
        (b'{"promptFeedback": {"blockReason": ""}}', "without candidates"),
        (b'{"candidates": [{"content": {"parts": [{"text": 3}]}, "finishReason": "STOP"}]}', "Expected `str"),
        (json.dumps(body_with({"text": "x"}, finishReason=None)).encode(), "no finishReason"),
        (json.dumps(body_with({"functionCall": {"args": {"a": 1}}})).encode(), "has no name"),
        (json.dumps(body_with({"functionCall": {"name": "f", "args": [1]}})).encode(), "Expected `object"),
        (json.dumps(body_with({"inlineData": {"mimeType": "audio/wav", "data": "!"}})).encode(), "base64"),
        (json.dumps(body_with("text")).encode(), "Expected `object`"),
    ],
)
def test_a_bad_reply_is_named_and_shown(body: bytes, words: str) -> None:
    with pytest.raises(BadResponse, match=words) as caught:
        WIRE.decode(ASK, body)
    assert len(caught.value.message) < 600


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 429, "message": "busy", "status": "RESOURCE_EXHAUSTED"}},
        [{"error": {"code": 429, "message": "busy"}}],
        {"error": {"message": "busy", "status": "RESOURCE_EXHAUSTED"}},
    ],
)
@pytest.mark.parametrize("request_", [ASK, EMBED, COUNT], ids=["chat", "embed", "count"])
def test_an_error_inside_a_200_is_that_error(body: Any, request_: Request) -> None:
    if isinstance(body, list) and request_ is not ASK:
        return
    with pytest.raises(RateLimited, match="busy") as caught:
        WIRE.decode(request_, json.dumps(body).encode())
    assert caught.value.upstream_status == 200


# --- vectors and counts --------------------------------------------------------------------------


def test_vectors() -> None:
    reply = WIRE.decode(EMBED, fixture("embeddings_batch.json"))
    assert reply == Response(
        "", "asked", (), usage=Usage(input=6), vectors=((0.5, -0.25, 1.0), (0.0, 0.125, -1.0))
    )


def test_one_vector() -> None:
    one = replace(EMBED, messages=EMBED.messages[:1])
    reply = WIRE.decode(one, fixture("embeddings_one.json"))
    assert reply.vectors == ((0.5, -0.25, 1.0),)
    assert reply.usage is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "0 embeddings for 2 inputs"),
        (b"[]", "holds no embeddings"),
        (b'{"embeddings": [{"values": [1]}]}', "1 embeddings for 2 inputs"),
        (b'{"embeddings": [{"values": [1]}, {}]}', "1 embeddings for 2 inputs"),
        (b'{"embeddings": [{"values": [1]}, {"values": [1, 2]}]}', "different lengths"),
        (b'{"embeddings": [{"values": ["1"]}]}', "holds no embeddings"),
    ],
)
def test_bad_vectors(body: bytes, words: str) -> None:
    with pytest.raises(BadResponse, match=words):
        WIRE.decode(EMBED, body)


def test_a_count() -> None:
    assert WIRE.decode(COUNT, fixture("count_tokens.json")) == Response(
        "", "asked", (), usage=Usage(input=31)
    )


@pytest.mark.parametrize("body", [b"{}", b'{"totalTokens": -1}', b'{"totalTokens": "7"}', b"no", b"[]"])
def test_a_bad_count(body: bytes) -> None:
    with pytest.raises(BadResponse):
        WIRE.decode(COUNT, body)


# --- streams -------------------------------------------------------------------------------------


def test_a_streamed_text() -> None:
    events = events_of(stream_data("stream_text.sse"))
    names = [type(event).__name__ for event in events]
    assert names == ["Started", "ReasoningDelta", "TextDelta", "TextDelta", "TextDelta", "Finished", "Ended"]
    assert folded(events) == Response(
        "s1",
        "gemini-3-flash-preview",
        (
            Choice(
                Message("assistant", (Reasoning("Adding up."), Text("Hello, wörld", signature=SIGNATURE))),
                Finish("stop", "STOP"),
            ),
        ),
        usage=Usage(input=12, output=4, reasoning=40),
    )


def test_streamed_function_calls_come_whole() -> None:
    reply = folded(events_of(stream_data("stream_tools.sse")))
    assert reply.message.parts == (
        Text("Looking."),
        ToolCall("6k0r1c2n", "get_weather", '{"city":"Paris"}', signature="CiQBcsjafJ1Nz0mpXxbTQ0XL"),
        ToolCall("call_s2_0_1", "get_weather", '{"city":"Rome"}'),
    )
    assert reply.choices[0].finish == Finish("tool_calls", "STOP")
    assert reply.usage == Usage(input=50, output=31, reasoning=30)
    assert reply.extra == Extra(
        "gemini", {"candidates": [{"groundingMetadata": {"webSearchQueries": ["weather"]}}]}
    )


def test_streamed_sound_is_one_sound() -> None:
    reply = folded(events_of(stream_data("stream_audio.sse")))
    media_type = "audio/L16;codec=pcm;rate=24000"
    assert reply.message.parts == (Audio(Inline(media_type, b"\x00\x01\x02\x03\xff")),)
    assert reply.usage == Usage(input=5, output_audio=50)


def test_candidates_finish_apart_and_the_last_reason_counts() -> None:
    yes, nope = folded(events_of(stream_data("stream_choices.sse"))).choices
    assert (yes.message.text, yes.finish) == ("Yes", Finish("length", "MAX_TOKENS"))
    assert (nope.message.text, nope.finish) == ("Nope", Finish("stop", "STOP"))


def test_a_good_end_does_not_undo_a_bad_one() -> None:
    data = [chunk({"text": "a"}, finishReason="SAFETY"), chunk(finishReason="STOP")]
    assert folded(events_of(data)).choices[0].finish == Finish("content_filter", "SAFETY")


def test_a_blocked_prompt_in_a_stream() -> None:
    reply = folded(events_of(stream_data("stream_blocked.sse")))
    assert reply == WIRE.decode(ASK, stream_data("stream_blocked.sse")[0].encode())
    assert reply.choices == (Choice(Message("assistant", ()), Finish("content_filter", "SAFETY")),)


def test_counts_after_the_end_are_set_and_an_absent_one_clears_nothing() -> None:
    usage = {"promptTokenCount": 9, "cachedContentTokenCount": 4, "totalTokenCount": 9}
    data = [
        json.dumps({"usageMetadata": usage}),
        chunk({"text": "a"}, finishReason="STOP"),
        json.dumps({"usageMetadata": {"candidatesTokenCount": 3, "totalTokenCount": 12}}),
        json.dumps({"usageMetadata": {}}),
        "[DONE]",
    ]
    events = events_of(data)
    assert folded(events).usage == Usage(input=5, cache_read=4, output=3)
    assert isinstance(events[0], Started)
    assert events[0].usage == Usage(input=5, cache_read=4)


def test_a_signature_ends_its_part() -> None:
    thought = {"text": "b", "thought": True}
    data = [
        chunk({"text": "a"}, thought, {**thought, "thoughtSignature": "AAAA"}, thought),
        chunk({"text": "c", "thoughtSignature": SIGNATURE}, {"text": "d"}, {"text": "e"}),
        chunk({"text": "", "thoughtSignature": "AAAA"}, finishReason="STOP"),
    ]
    assert folded(events_of(data)).message.parts == (
        Text("a"),
        Reasoning("bb", signature="AAAA"),
        Reasoning("b"),
        Text("c", signature=SIGNATURE),
        Text("de", signature="AAAA"),
    )


def test_log_probabilities_go_with_their_text() -> None:
    told = {"chosenCandidates": [{"token": "a", "logProbability": -1.0}]}
    late = {"chosenCandidates": [{"token": "", "logProbability": -2.0}]}
    data = [chunk({"text": "a"}, logprobsResult=told), chunk(finishReason="STOP", logprobsResult=late)]
    events = events_of(data)
    deltas = [event for event in events if isinstance(event, TextDelta)]
    assert [(delta.text, delta.logprobs) for delta in deltas] == [
        ("a", (TokenLogprob("a", -1.0),)),
        ("", (TokenLogprob("", -2.0),)),
    ]
    assert [item.logprob for item in folded(events).choices[0].logprobs] == [-1.0, -2.0]


def test_nothing_follows_the_end() -> None:
    decoder = WIRE.events(ASK)
    decoder.feed("message", chunk({"text": "a"}, finishReason="STOP"))
    assert len(decoder.end()) == 2
    assert list(decoder.feed("message", chunk({"text": "b"}))) == []
    assert list(decoder.end()) == []


@pytest.mark.parametrize("last", [["[DONE]"], []], ids=["done", "closed"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "before any candidate came"),
        (['{"usageMetadata": {"promptTokenCount": 1}}'], "before any candidate came"),
        (["{}"], "before any candidate came"),
        ([chunk({"text": "half"})], "before candidate 0 had a finishReason"),
        ([chunk({"text": "half"}, finishReason="")], "before candidate 0 had a finishReason"),
        ([chunk(finishReason="STOP"), chunk({"text": "x"}, index=1)], "before candidate 1"),
    ],
)
def test_a_cut_off_stream_is_never_a_success(data: list[str], words: str, last: list[str]) -> None:
    with pytest.raises(BadResponse, match=words) as caught:
        events_of([*data, *last])
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{not json", "it begins with: {not json"),
        ('{"candidates": 3}', r"\$.candidates"),
        ('{"usageMetadata": {"promptTokenCount": "7"}}', "promptTokenCount"),
        (chunk({"functionCall": {"args": {"a": 1}}}), "has no name"),
        (chunk({"inlineData": {"mimeType": "audio/wav", "data": "!"}}), "not base64"),
        ("[" * 100_000, "chunk that is not one"),
        ("x" * 5_000, "\\.\\.\\.$"),
    ],
)
def test_a_malformed_chunk_is_shown(data: str, words: str) -> None:
    decoder = WIRE.events(ASK)
    decoder.feed("message", chunk({"text": "fine"}))
    with pytest.raises(BadResponse, match=words) as caught:
        decoder.feed("message", data)
    assert len(caught.value.message) < 600


@pytest.mark.parametrize("first", [[], [chunk({"text": "Hi"})]], ids=["at first", "in the middle"])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 503, "message": "no", "status": "UNAVAILABLE"}, ProviderUnavailable),
        ({"message": "no", "status": "DEADLINE_EXCEEDED"}, ProviderTimeout),
        ({"code": 400, "message": "no"}, RequestError),
        ({"code": 400, "message": "The input token count (2) exceeds the maximum"}, ContextExceeded),
        ({"code": 7, "message": "no"}, ProviderUnavailable),
        ({"code": 499, "message": "no", "status": "CANCELLED"}, ProviderUnavailable),
        ("no", ProviderUnavailable),
        ({"odd": "no"}, ProviderUnavailable),
    ],
)
def test_an_error_in_a_stream_is_typed(error: object, kind: type[AssayError], first: list[str]) -> None:
    decoder = WIRE.events(ASK)
    for data in first:
        decoder.feed("message", data)
    with pytest.raises(kind):
        decoder.feed("message", json.dumps({"error": error}))


STREAMS = sorted(path.name for path in FIXTURES.glob("*.sse"))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_split_anywhere_says_the_same(name: str) -> None:
    data = fixture(name)
    whole = events_of(stream_data(name))
    for cut in range(len(data) + 1):
        frames = SseDecoder()
        framed = [*frames.feed(data[:cut]), *frames.feed(data[cut:]), *frames.end()]
        if cut % 16 == 0:
            assert events_of([item for _, item in framed]) == whole
        else:
            assert [item for _, item in framed] == stream_data(name)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_broken_off_anywhere_is_an_error_or_says_it_all(name: str) -> None:
    """Chunks after the last finishReason are counts: without them the text is whole."""
    data = stream_data(name)
    texts = [choice.message for choice in folded(events_of(data)).choices]
    for end in range(len(data)):
        try:
            reply = folded(events_of(data[:end]))
        except BadResponse:
            continue
        assert [choice.message for choice in reply.choices] == texts


@pytest.mark.parametrize("name", STREAMS)
def test_the_same_chunks_as_a_json_array_say_the_same(name: str) -> None:
    data = stream_data(name)
    body = f" [{','.join(data)}]".encode()
    assert WIRE.decode(ASK, body) == folded(events_of(data))


def test_an_array_that_is_cut_off_is_an_error() -> None:
    with pytest.raises(BadResponse, match="before candidate 0"):
        WIRE.decode(ASK, f"[{chunk({'text': 'half'})}]".encode())


@pytest.mark.parametrize("name", ["generate_text", "generate_tools", "generate_hosted", "generate_audio"])
def test_a_whole_reply_and_its_only_chunk_say_the_same(name: str) -> None:
    body = fixture(f"{name}.json")
    whole = WIRE.decode(ASK, body)
    assert folded(events_of([body.decode()])) == whole
    assert replace(folded(stream_of(whole)), extra=None) == replace(whole, extra=None)


_SOUP = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 900) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            [
                "candidates", "content", "parts", "text", "thought", "functionCall", "name", "args",
                "inlineData", "mimeType", "data", "finishReason", "index", "usageMetadata",
                "promptTokenCount", "promptFeedback", "blockReason", "error", "code", "message", "status",
                "details", "@type",
                "logprobsResult", "chosenCandidates", "embeddings", "embedding", "values", "totalTokens",
                "responseId", "createTime",
            ]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=25,
)  # fmt: skip


@given(_SOUP, st.sampled_from([ASK, EMBED, COUNT]))
def test_any_json_is_a_reply_or_a_typed_error(soup: Any, request_: Request) -> None:
    body = json.dumps(soup).encode()
    for attempt in (
        lambda: WIRE.decode(request_, body),
        lambda: events_of([body.decode()]),
        lambda: WIRE.decode(ASK, b"[" + body + b"]"),
    ):
        try:
            attempt()
        except AssayError as error:
            assert error.message
    for status in (200, 400, 403, 429, 500):
        assert isinstance(WIRE.error(status, {}, body), AssayError)


@given(st.binary(max_size=64), st.sampled_from([ASK, EMBED, COUNT]))
def test_any_bytes_are_a_typed_error(body: bytes, request_: Request) -> None:
    with pytest.raises(AssayError):
        WIRE.decode(request_, body)
    assert isinstance(WIRE.error(400, {}, body), AssayError)


def test_the_first_event_is_started_with_the_asked_models_name() -> None:
    (started, *_) = WIRE.events(ASK).feed("message", chunk({"text": "a"}))
    assert started == Started("r1", "asked")


def test_a_whole_reply_and_a_stream_of_one_chunk_say_the_same_beside_the_answer() -> None:
    body = {**body_with({"text": "x"}), "newField": [1], "modelStatus": {"modelStage": "STABLE"}}
    whole = WIRE.decode(ASK, json.dumps(body).encode())
    assert whole.extra == folded(events_of([json.dumps(body)])).extra
