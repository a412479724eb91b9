"""The scripted model: what it answers, in which order, and the faults and waits it can be told to show."""

from __future__ import annotations

import asyncio

import pytest

from assay.errors import BadResponse, ConfigError, ProviderUnavailable, RateLimited
from assay.providers.scripted import MAX_RECORDED, Scripted, tape
from assay.types import (
    Assembly,
    Choice,
    Completed,
    Ended,
    Event,
    Finish,
    Message,
    Request,
    Response,
    Started,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
    assistant,
    closing,
    replace,
    system,
    user,
)

pytestmark = pytest.mark.anyio

ASK = Request("m", (system("Be brief."), user("What is it")))
ASK_STREAMED = replace(ASK, stream=True)


async def events_of(model: Scripted, request: Request = ASK) -> list[Event]:
    async with closing(model(request)) as events:
        return [event async for event in events]


async def reply_of(model: Scripted, request: Request = ASK) -> Response:
    assembly = Assembly()
    for event in await events_of(model, request):
        assembly.add(event)
    assert assembly.complete
    return assembly.response()


async def test_answers_in_order_and_repeats_the_last() -> None:
    model = Scripted("fake", ["one", "two"])
    assert [(await reply_of(model)).text for _ in range(4)] == ["one", "two", "two", "two"]


async def test_a_text_is_one_event_or_a_stream_of_words_as_asked() -> None:
    model = Scripted("fake", ["It is  a test.\n"])
    whole = await events_of(model)
    assert [type(event) for event in whole] == [Completed]
    streamed = await events_of(model, ASK_STREAMED)
    assert [event.text for event in streamed if isinstance(event, TextDelta)] == [
        "It ",
        "is  ",
        "a ",
        "test.\n",
    ]
    reply = await reply_of(model, ASK_STREAMED)
    assert reply.text == "It is  a test.\n"
    assert (reply.provider, reply.model) == ("fake", "m")


async def test_usage_counts_words_and_is_not_an_estimate() -> None:
    asked = replace(
        ASK, messages=(*ASK.messages, Message("tool", (ToolResult("c", (Text("three more words"),)),)))
    )
    for request in (asked, replace(asked, stream=True)):
        reply = await reply_of(Scripted("fake", ["a b c d"]), request)
        assert reply.usage == Usage(input=2 + 3 + 3, output=4)


async def test_as_many_choices_as_asked_for() -> None:
    reply = await reply_of(Scripted("fake", ["a b"]), replace(ASK_STREAMED, choices=3))
    assert [choice.message.text for choice in reply.choices] == ["a b"] * 3
    assert reply.usage is not None
    assert reply.usage.output == 6


async def test_a_response_is_given_as_it_is() -> None:
    call = Message("assistant", (ToolCall("c1", "look", "{}"),))
    given = Response("r", "m", (Choice(call, Finish("tool_calls", "tool_calls")),))
    model = Scripted("fake", [given])
    assert await reply_of(model) == given
    assert await reply_of(model, ASK_STREAMED) == given


async def test_a_function_sees_the_request_and_may_be_async() -> None:
    async def later(request: Request) -> Response:
        return Response("r", request.model, (Choice(assistant("later"), Finish("stop")),))

    assert (
        await reply_of(Scripted("fake", lambda request: request.messages[-1].text.upper()))
    ).text == "WHAT IS IT"
    assert (await reply_of(Scripted("fake", later))).text == "later"


async def test_an_error_comes_before_the_first_event_and_then_the_next_answer() -> None:
    refused = RateLimited("slow down", retry_after_s=3)
    model = Scripted("fake", [refused, "fine"])
    with pytest.raises(RateLimited) as caught:
        await events_of(model)
    assert caught.value is refused
    assert (await reply_of(model)).text == "fine"


async def test_a_repeated_error_does_not_grow_its_traceback() -> None:
    model = Scripted("fake", [ProviderUnavailable("down")])
    depths = []
    for _ in range(3):
        with pytest.raises(ProviderUnavailable) as caught:
            await events_of(model)
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1


async def test_a_tape_breaks_in_the_middle() -> None:
    model = Scripted("fake", [[*tape("one two three")[:3], BadResponse("gone")]])
    seen: list[Event] = []
    with pytest.raises(BadResponse, match="gone"):
        async with closing(model(ASK_STREAMED)) as events:
            async for event in events:
                seen.append(event)
    assert [type(event) for event in seen] == [Started, TextDelta, TextDelta]
    assert model.running == 0


async def test_a_tape_may_end_early_and_is_played_again() -> None:
    model = Scripted("fake", [iter(tape("one two")[:2])])
    for _ in range(2):
        events = await events_of(model, ASK_STREAMED)
        assert [type(event) for event in events] == [Started, TextDelta]


async def test_a_tape_waits_until_it_is_let_go() -> None:
    gate, called = asyncio.Event(), []

    async def before() -> None:
        called.append("before")

    first, *rest = tape("one two")
    model = Scripted("fake", [[before, first, gate, *rest]])
    seen: list[Event] = []
    begun = asyncio.Event()

    async def read() -> None:
        async with closing(model(ASK_STREAMED)) as events:
            async for event in events:
                seen.append(event)
                begun.set()

    reader = asyncio.create_task(read())
    await begun.wait()
    assert called == ["before"]
    assert [type(event) for event in seen] == [Started]
    assert model.running == 1
    gate.set()
    await reader
    assert isinstance(seen[-1], Ended)
    assert model.running == 0


async def test_a_reader_who_goes_away_ends_the_call() -> None:
    started, never = asyncio.Event(), asyncio.Event()

    async def tell() -> None:
        started.set()

    model = Scripted("fake", [[tell, never, *tape("late")]])
    reader = asyncio.create_task(events_of(model, ASK_STREAMED))
    await started.wait()
    assert model.running == 1
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert model.running == 0


async def test_requests_are_recorded_and_bounded() -> None:
    model = Scripted("fake", ["yes"])
    for number in range(MAX_RECORDED + 2):
        await events_of(model, replace(ASK, model=str(number)))
    assert len(model.requests) == MAX_RECORDED
    assert (model.requests[0].model, model.requests[-1].model) == ("2", str(MAX_RECORDED + 1))


async def test_a_single_text_is_a_script_of_one() -> None:
    assert (await reply_of(Scripted("fake", "hello"))).text == "hello"


def test_an_empty_script_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[providers.fake\] has nothing to say"):
        Scripted("fake", ())


@pytest.mark.parametrize("text", ["", "  ", " a  b ", "x"])
def test_a_tape_keeps_every_character(text: str) -> None:
    assembly = Assembly()
    for event in tape(text):
        assembly.add(event)
    assert assembly.response().text == text
