"""Replies and errors as Gemini's callers get them, whole and streamed, judged by the official SDK's types."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import errors, types

from assay.errors import (
    BadResponse,
    ProviderUnavailable,
    UnsupportedFeature,
)
from assay.server.dialect import ReplyEncoder
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
    Audio,
    AudioDelta,
    Choice,
    Completed,
    Ended,
    Event,
    Extra,
    Finish,
    Finished,
    FinishReason,
    Image,
    Inline,
    Link,
    Message,
    Opaque,
    OpaqueDelta,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Response,
    Started,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)

THINKING = Options(include_thoughts=True)
USAGE = Usage(
    input=10,
    input_audio=2,
    input_image=3,
    cache_read=4,
    cache_read_audio=1,
    cache_write=5,
    output=6,
    reasoning=7,
    output_audio=8,
)
USAGE_BODY = {
    "promptTokenCount": 25,
    "candidatesTokenCount": 14,
    "totalTokenCount": 46,
    "thoughtsTokenCount": 7,
    "cachedContentTokenCount": 5,
    "promptTokensDetails": [
        {"modality": "TEXT", "tokenCount": 19},
        {"modality": "AUDIO", "tokenCount": 3},
        {"modality": "IMAGE", "tokenCount": 3},
    ],
    "cacheTokensDetails": [
        {"modality": "TEXT", "tokenCount": 4},
        {"modality": "AUDIO", "tokenCount": 1},
    ],
    "candidatesTokensDetails": [
        {"modality": "TEXT", "tokenCount": 6},
        {"modality": "AUDIO", "tokenCount": 8},
    ],
}


def reply(*parts: Any, finish: Finish = Finish("stop"), **fields: Any) -> Response:  # noqa: B008
    return Response("r1", "m", (Choice(Message("assistant", parts), finish),), **fields)


def official(value: Any) -> dict[str, Any]:
    """`value`, of which the SDK's type knows every field, and in which nothing is null."""
    types.GenerateContentResponse.model_validate(value)
    without_nulls(value)
    assert isinstance(value, dict)
    return value


def without_nulls(value: Any) -> None:
    assert value is not None
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        without_nulls(one)


def written(response: Response, options: Options | None = THINKING) -> dict[str, Any]:
    return official(json.loads(GENERATE.write(response, options).body))


def candidate(response: Response, options: Options | None = THINKING) -> dict[str, Any]:
    (one,) = written(response, options)["candidates"]
    assert isinstance(one, dict)
    return one


def parts_of(*parts: Any, options: Options | None = THINKING) -> list[dict[str, Any]]:
    found = candidate(reply(*parts), options)["content"]["parts"]
    assert isinstance(found, list)
    return found


def streamed(*events: Event, options: Options | None = THINKING) -> list[dict[str, Any]]:
    """The chunks of a stream, which are alike in both framings."""
    sse = run(STREAM_SSE.stream(options), *events)
    frames = sse.decode().removesuffix("\r\n\r\n").split("\r\n\r\n")
    assert all(frame.startswith("data: ") for frame in frames)
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    assert json.loads(run(STREAM_ARRAY.stream(options), *events)) == chunks
    return [official(chunk) for chunk in chunks]


def run(encoder: ReplyEncoder, *events: Event) -> bytes:
    return b"".join(encoder.encode(event) for event in events)


def seen_by_sdk(data: bytes) -> list[types.GenerateContentResponse]:
    """What the official client makes of `data` as the reply to a streamed call."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=data)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http_client:
        options = types.HttpOptions(base_url="http://x.test", httpx_client=http_client)
        client = genai.Client(api_key="k", http_options=options)
        return list(client.models.generate_content_stream(model="m", contents="Hi"))


START, END = Started("r1", "m"), Ended(USAGE)
STOP = Finished(Finish("stop"))

# --- whole ---------------------------------------------------------------------------------------


def test_the_whole_reply() -> None:
    response = reply(
        Reasoning("Hm.", signature="c2ln"),
        Text("Hello.", signature="c2ln"),
        ToolCall("c1", "f", '{"a":1}', signature="c2ln"),
        usage=USAGE,
    )
    assert written(response) == {
        "candidates": [
            {
                "content": {
                    "parts": [
                        {"text": "Hm.", "thought": True, "thoughtSignature": "c2ln"},
                        {"text": "Hello.", "thoughtSignature": "c2ln"},
                        {
                            "functionCall": {"id": "c1", "name": "f", "args": {"a": 1}},
                            "thoughtSignature": "c2ln",
                        },
                    ],
                    "role": "model",
                },
                "index": 0,
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": USAGE_BODY,
        "modelVersion": "m",
        "responseId": "r1",
    }


def test_the_sdk_reads_the_whole_reply() -> None:
    body = GENERATE.write(reply(Reasoning("Hm."), Text("Hello."), usage=USAGE), THINKING).body
    seen = types.GenerateContentResponse.model_validate_json(body)
    assert seen.text == "Hello."
    assert seen.usage_metadata is not None and seen.usage_metadata.total_token_count == 46


def test_several_candidates() -> None:
    choices = tuple(Choice(Message("assistant", (Text(text),)), Finish("stop")) for text in "ab")
    body = written(Response("r", "m", choices))
    assert [one["index"] for one in body["candidates"]] == [0, 1]


def test_an_answer_that_says_nothing_has_content_all_the_same() -> None:
    assert candidate(reply())["content"] == {"parts": [{"text": ""}], "role": "model"}


@pytest.mark.parametrize(
    ("part", "body"),
    [
        (Refusal("No."), {"text": "No."}),
        (Reasoning(summary=("a", "b")), {"text": "a\n\nb", "thought": True}),
        (ToolCall("", "f", ""), {"functionCall": {"name": "f", "args": {}}}),
        (Audio(Inline("audio/pcm", b"a")), {"inlineData": {"mimeType": "audio/pcm", "data": "YQ=="}}),
        (Audio(transcript="a"), {"text": "a"}),
        (Image(Inline("image/png", b"a")), {"inlineData": {"mimeType": "image/png", "data": "YQ=="}}),
        (Image(Link("https://x/a")), {"fileData": {"fileUri": "https://x/a"}}),
        (
            Opaque("gemini", {"executableCode": {"code": "1", "language": "PYTHON"}}),
            {"executableCode": {"code": "1", "language": "PYTHON"}},
        ),
    ],
)
def test_parts(part: Any, body: dict[str, Any]) -> None:
    assert parts_of(part) == [body]


def test_signatures_of_others_are_left_out_and_told() -> None:
    response = reply(
        Reasoning("Hm.", signature="not base64!", encrypted="x"),
        Text("a", annotations=({"url": "x"},)),
        Audio(Inline("audio/pcm", b"a"), transcript="a"),
        ToolCall("c", "f", "{}", signature="no!"),
    )
    body, dropped = GENERATE.write(response, THINKING)
    assert b"Signature" not in body
    assert dropped == (
        "choices[0].message.parts[0].encrypted",
        "choices[0].message.parts[0].signature",
        "choices[0].message.parts[1].annotations",
        "choices[0].message.parts[2].transcript",
        "choices[0].message.parts[3].signature",
    )


@pytest.mark.parametrize("part", [Opaque("anthropic", {}), ToolCall("c", "f", "x", "custom")])
def test_what_has_no_place_is_refused(part: Any) -> None:
    with pytest.raises(UnsupportedFeature, match="its own API"):
        GENERATE.write(reply(part), THINKING)


def test_thoughts_are_for_those_who_asked_and_signed_ones_for_all() -> None:
    thoughts = (Reasoning("a"), Reasoning("b", signature="c2ln"), Text("c"))
    assert [part["text"] for part in parts_of(*thoughts)] == ["a", "b", "c"]
    assert [part["text"] for part in parts_of(*thoughts, options=None)] == ["b", "c"]


@pytest.mark.parametrize(
    ("finish", "word"),
    [
        (Finish("stop"), "STOP"),
        (Finish("stop_sequence", "stop_sequence"), "STOP"),
        (Finish("tool_calls", "tool_use"), "STOP"),
        (Finish("length", "max_tokens"), "MAX_TOKENS"),
        (Finish("context_exceeded"), "MAX_TOKENS"),
        (Finish("content_filter"), "SAFETY"),
        (Finish("content_filter", "RECITATION"), "RECITATION"),
        (Finish("refusal"), "SAFETY"),
        (Finish("pause", "pause_turn"), "OTHER"),
        (Finish("malformed_tool_call"), "MALFORMED_FUNCTION_CALL"),
        (Finish("malformed_tool_call", "UNEXPECTED_TOOL_CALL"), "UNEXPECTED_TOOL_CALL"),
        (Finish("other", "weird"), "OTHER"),
        (Finish("tool_calls", "STOP"), "STOP"),
    ],
)
def test_finish_reasons(finish: Finish, word: str) -> None:
    assert candidate(reply(Text("a"), finish=finish))["finishReason"] == word
    (*_, last) = streamed(START, TextDelta("a"), Finished(finish), END)
    assert last["candidates"][0]["finishReason"] == word
    assert types.FinishReason(word)


def test_a_refusal_does_not_look_like_an_answer() -> None:
    assert candidate(reply(Refusal("No.")))["finishReason"] == "SAFETY"
    (_, last) = streamed(START, RefusalDelta("No."), STOP, END)
    assert last["candidates"][0]["finishReason"] == "SAFETY"


@pytest.mark.parametrize(
    ("reason", "word"),
    [("tool_calls", "MALFORMED_FUNCTION_CALL"), ("length", "MAX_TOKENS")],
)
@pytest.mark.parametrize("arguments", ['{"a":', "[1]", "nonsense"])
def test_a_call_that_is_no_call_is_told(reason: FinishReason, word: str, arguments: str) -> None:
    one = candidate(reply(Text("a"), ToolCall("c", "f", arguments), finish=Finish(reason)))
    told = {"finishReason": word, "finishMessage": f"Malformed function call: f({arguments})"}
    assert one["content"]["parts"] == [{"text": "a"}]
    assert told.items() <= one.items()
    call = ToolCallDelta(1, id="c", name="f", arguments=arguments)
    (_, last) = streamed(START, TextDelta("a"), call, Finished(Finish(reason)), END)
    assert told.items() <= last["candidates"][0].items()


def test_log_probabilities() -> None:
    logprobs = (
        TokenLogprob("a", -0.5, top=(TokenLogprob("a", -0.5), TokenLogprob("b", -1.5))),
        TokenLogprob("c", -1.0),
    )
    response = Response("r", "m", (Choice(Message("assistant", (Text("ac"),)), Finish("stop"), logprobs),))
    body = {
        "chosenCandidates": [
            {"token": "a", "logProbability": -0.5},
            {"token": "c", "logProbability": -1.0},
        ],
        "topCandidates": [
            {"candidates": [{"token": "a", "logProbability": -0.5}, {"token": "b", "logProbability": -1.5}]},
            {"candidates": []},
        ],
    }
    assert candidate(response)["logprobsResult"] == body
    assert candidate(response)["avgLogprobs"] == -0.75
    one, two = (TextDelta("ac"[n], logprobs=logprobs[n : n + 1]) for n in (0, 1))
    first, _, last = streamed(START, one, two, STOP, END)
    assert first["candidates"][0]["logprobsResult"]["chosenCandidates"] == body["chosenCandidates"][:1]
    assert last["candidates"][0]["avgLogprobs"] == -0.75


def test_what_a_gemini_upstream_said_beside_stands_where_it_stood() -> None:
    aside = {"groundingMetadata": {"webSearchQueries": ["q"]}, "avgLogprobs": -0.1}
    told = {"candidates": [aside], "usageMetadata": {"trafficType": "ON_DEMAND"}}
    extra = Extra("gemini", {**told, "modelStatus": {"message": "m"}})
    bodies = [
        written(reply(Text("a"), usage=USAGE, extra=extra)),
        streamed(START, TextDelta("a"), STOP, Ended(USAGE, extra=extra))[-1],
        streamed(Started("r1", "m", extra=extra), TextDelta("a"), STOP, END)[-1],
    ]
    for body in bodies:
        assert aside.items() <= body["candidates"][0].items()
        assert body["usageMetadata"] == {"trafficType": "ON_DEMAND", **USAGE_BODY}
        assert body["modelStatus"] == {"message": "m"}
    assert written(reply(Text("a"), extra=Extra("openai", {"system_fingerprint": "x"}))).keys() == {
        "candidates",
        "modelVersion",
        "responseId",
    }


def test_a_blocked_prompt_has_no_candidates() -> None:
    feedback = {"promptFeedback": {"blockReason": "SAFETY"}}
    extra = Extra("gemini", feedback)
    finish = Finish("content_filter", "SAFETY")
    assert written(reply(finish=finish, extra=extra)) == {**feedback, "modelVersion": "m", "responseId": "r1"}
    (only,) = streamed(Started("r1", "m", extra=extra), Finished(finish), Ended())
    assert only == {**feedback, "modelVersion": "m", "responseId": "r1"}


# --- streamed ------------------------------------------------------------------------------------


def test_the_stream() -> None:
    common = {"modelVersion": "m", "responseId": "r1"}
    assert streamed(START, TextDelta("Hel"), TextDelta("lo."), STOP, END) == [
        {"candidates": [{"content": {"parts": [{"text": "Hel"}], "role": "model"}, "index": 0}], **common},
        {"candidates": [{"content": {"parts": [{"text": "lo."}], "role": "model"}, "index": 0}], **common},
        {
            "candidates": [
                {
                    "content": {"parts": [{"text": ""}], "role": "model"},
                    "index": 0,
                    "finishReason": "STOP",
                }
            ],
            "usageMetadata": USAGE_BODY,
            **common,
        },
    ]


def test_the_sdk_reads_the_stream_and_keeps_it_in_a_chat() -> None:
    events = (
        START,
        ReasoningDelta("Hm."),
        TextDelta("Hello.", 1),
        ToolCallDelta(2, id="c", name="f", arguments="{}"),
        Finished(Finish("tool_calls")),
        END,
    )
    seen = seen_by_sdk(run(STREAM_SSE.stream(THINKING), *events))
    assert [chunk.text for chunk in seen[:2]] == [None, "Hello."]
    assert seen[-1].function_calls is not None and seen[-1].function_calls[0].id == "c"
    assert seen[-1].usage_metadata is not None
    assert all(chunk.candidates and chunk.candidates[0].content for chunk in seen)
    assert all(chunk.candidates[0].content.parts for chunk in seen)  # type: ignore[index,union-attr]


def test_calls_come_whole() -> None:
    chunks = streamed(
        START,
        ToolCallDelta(0, id="c1", name="f", arguments='{"a'),
        ToolCallDelta(1, id="c2", name="g", signature="c2ln"),
        ToolCallDelta(0, arguments='":1}'),
        ToolCallDelta(1, arguments="{}"),
        Finished(Finish("tool_calls")),
        END,
    )
    calls = [part["functionCall"] for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
    assert calls == [
        {"id": "c1", "name": "f", "args": {"a": 1}},
        {"id": "c2", "name": "g", "args": {}},
    ]
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


def test_a_call_is_not_held_back_once_the_next_part_begins() -> None:
    first = ToolCallDelta(0, id="c1", name="f", arguments='{"a":1}')
    encoder = STREAM_SSE.stream(None)
    assert run(encoder, START, first) == b""
    assert b'"functionCall":{"id":"c1"' in encoder.encode(ToolCallDelta(1, id="c2", name="g"))


def test_a_call_that_says_nothing_yet_is_waited_for() -> None:
    *_, last = streamed(
        START,
        ToolCallDelta(0, id="c1", name="f"),
        TextDelta("a", 1),
        ToolCallDelta(0, arguments='{"a":1}'),
        Finished(Finish("tool_calls")),
        END,
    )
    (part,) = last["candidates"][0]["content"]["parts"]
    assert part == {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}}


def test_a_thought_signed_twice_is_said_once() -> None:
    twice = (ReasoningDelta("a"), ReasoningDelta(signature="c2ln"), ReasoningDelta(signature="YQ=="))
    chunks = streamed(START, *twice, STOP, END, options=None)
    texts = [part["text"] for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
    assert "".join(texts) == "a"


def test_thoughts_of_a_stream() -> None:
    events = (
        START,
        ReasoningDelta("a"),
        ReasoningDelta("b"),
        ReasoningDelta(signature="c2ln"),
        ReasoningDelta("x", 1),
        TextDelta("c", 2),
        STOP,
        END,
    )

    def thoughts(options: Options | None) -> list[tuple[str, str | None]]:
        parts = [
            part
            for chunk in streamed(*events, options=options)
            for part in chunk["candidates"][0]["content"]["parts"]
        ]
        return [(part["text"], part.get("thoughtSignature")) for part in parts if part.get("thought")]

    assert thoughts(THINKING) == [("a", None), ("b", None), ("", "c2ln"), ("x", None)]
    assert thoughts(None) == [("ab", "c2ln")]


def test_sound_and_parts_of_its_own_in_a_stream() -> None:
    code = {"executableCode": {"code": "1", "language": "PYTHON"}}
    chunks = streamed(
        START,
        AudioDelta(0, data=b"a", media_type="audio/L16"),
        AudioDelta(0, transcript="hi"),
        OpaqueDelta(1, Opaque("gemini", code)),
        STOP,
        END,
    )
    parts = [part for chunk in chunks[:-1] for part in chunk["candidates"][0]["content"]["parts"]]
    assert parts == [{"inlineData": {"mimeType": "audio/L16", "data": "YQ=="}}, code]


def test_candidates_of_a_stream_end_together() -> None:
    chunks = streamed(
        START, TextDelta("a"), TextDelta("b", choice=1), STOP, Finished(Finish("length"), 1), Ended()
    )
    assert [chunk["candidates"][0]["index"] for chunk in chunks[:-1]] == [0, 1]
    assert [one["finishReason"] for one in chunks[-1]["candidates"]] == ["STOP", "MAX_TOKENS"]
    assert "usageMetadata" not in chunks[-1]


def test_a_whole_reply_to_a_streaming_caller_is_one_chunk() -> None:
    response = reply(Text("a"), Image(Inline("image/png", b"a")), usage=USAGE)
    assert streamed(Completed(response)) == [written(response)]


@pytest.mark.parametrize(
    "event", [OpaqueDelta(0, Opaque("openai", {})), ToolCallDelta(0, id="c", name="f", kind="custom")]
)
def test_what_has_no_place_in_a_stream_is_refused(event: Event) -> None:
    for dialect in (STREAM_SSE, STREAM_ARRAY):
        with pytest.raises(UnsupportedFeature):
            run(dialect.stream(None), START, event)


def test_only_conversations_stream() -> None:
    for dialect in (EMBED, BATCH_EMBED, COUNT_TOKENS):
        with pytest.raises(UnsupportedFeature):
            dialect.stream(None)


# --- framing -------------------------------------------------------------------------------------


def test_content_types() -> None:
    assert STREAM_ARRAY.stream(None).content_type == b"application/json"
    assert STREAM_SSE.stream(None).content_type.startswith(b"text/event-stream")


@pytest.mark.parametrize("events", [(), (START,), (START, TextDelta("a")), (START, TextDelta("a"), STOP)])
def test_a_stream_that_fails_says_so(events: tuple[Event, ...]) -> None:
    error = ProviderUnavailable("The upstream broke off")
    array = STREAM_ARRAY.stream(None)
    chunks = json.loads(run(array, *events) + array.error(error))
    assert chunks[-1]["error"]["status"] == "UNAVAILABLE"
    assert not any("finishReason" in json.dumps(chunk) for chunk in chunks)
    sse = STREAM_SSE.stream(None)
    with pytest.raises(errors.ServerError, match="The upstream broke off"):
        seen_by_sdk(run(sse, *events) + sse.error(error))


WIRE = b'data: {"a": "\xc3\xa4"}\r\n\r\ndata: {"b": 1,\ndata: "finishReason": "STOP"}\n\n'
FIRST = WIRE.index(b"data: ", 1)


def test_the_upstreams_own_bytes() -> None:
    assert STREAM_SSE.stream(None).wire(WIRE) == WIRE
    for end in range(len(WIRE)):
        array = STREAM_ARRAY.stream(None)
        data = array.wire(WIRE[:end]) + array.wire(WIRE[end:]) + array.close()
        assert json.loads(data) == [{"a": "ä"}, {"b": 1, "finishReason": "STOP"}]


def test_the_upstreams_array_is_closed_once() -> None:
    array = STREAM_ARRAY.stream(None)
    data = array.wire(WIRE[:FIRST]) + array.wire(b"") + array.wire(WIRE[FIRST:]) + array.close()
    assert len(json.loads(data)) == 2
    assert array.close() == b""
    broken = STREAM_ARRAY.stream(None)
    data = broken.wire(WIRE[:FIRST]) + broken.error(BadResponse("cut off"))
    assert [list(chunk) for chunk in json.loads(data)] == [["a"], ["error"]]
