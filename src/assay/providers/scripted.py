"""A model that answers from a script: deterministic replies, faults and waits, for tests and for dry runs.

No clock and no chance: a delay is something to await. A real model in this process is assay.providers.local.

    Scripted("fake", ["first", RateLimited("slow down"), "from now on"])         # the last one is repeated
    Scripted("fake", lambda request: request.messages[-1].text.upper())          # a function, async or not
    Scripted("fake", [[*tape("one two three")[:3], BadResponse("gone")]])        # breaks in the middle
    Scripted("fake", [tape("one two three")[:3]])                                # ends early, without Ended
    Scripted("fake", [[gate, *tape("one two")]])                                 # waits for an asyncio.Event
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from inspect import isawaitable
from typing import TypeAlias

from assay.errors import ConfigError, UnsupportedFeature
from assay.types import (
    Choice,
    Completed,
    Event,
    Finish,
    Part,
    Request,
    Response,
    Text,
    TextDelta,
    ToolResult,
    Usage,
    assistant,
    stream_of,
)

Wait: TypeAlias = asyncio.Event | Callable[[], Awaitable[object]]
"""A delay: an event to wait for, or a function to call and await."""

Step: TypeAlias = Event | BaseException | Wait
"""One place on a tape: an event to send, an error to raise, or a delay."""

Answer: TypeAlias = str | Response | BaseException | Iterable[Step]
"""A text, a whole reply, an error in place of a reply, or a tape, which is played exactly as it is."""

Script: TypeAlias = Sequence[Answer] | Callable[[Request], Answer | Awaitable[Answer]]

MAX_RECORDED = 1_000
"""How many requests are remembered; older ones are forgotten."""


class Scripted:
    """An Upstream that gives one answer of `script` per call, in the order in which the calls begin.

    When the script is used up, its last answer is repeated. A text becomes a reply whose usage counts words,
    streamed word by word when the request asks for a stream. Raises ConfigError when the script is empty.
    """

    def __init__(self, name: str, script: Script) -> None:
        if isinstance(script, str):
            script = (script,)
        if not callable(script) and not script:
            raise ConfigError(
                f'[providers.{name}] has nothing to say; give it replies = ["..."] in assay.toml'
            )
        self.name = name
        self._script = script if callable(script) else tuple(map(_replayable, script))
        self._calls = 0
        self._running = 0
        self._requests: deque[Request] = deque(maxlen=MAX_RECORDED)

    @property
    def requests(self) -> list[Request]:
        """The requests seen, oldest first, at most MAX_RECORDED."""
        return list(self._requests)

    @property
    def running(self) -> int:
        """How many calls are under way: 0 again once every reader has finished, or has gone away."""
        return self._running

    @property
    def problem(self) -> None:
        """Nothing: a script can always be played."""

    @property
    def dialects(self) -> frozenset[str]:
        """None: a script answers the canonical request."""
        return frozenset()

    async def __call__(self, request: Request) -> AsyncIterator[Event]:
        """Counts words where tokens are to be counted; the script goes on only for chats."""
        if request.operation == "count_tokens":
            yield Completed(Response("", request.model, (), usage=Usage(input=_words_in(request))))
            return
        if request.operation == "embeddings":
            raise UnsupportedFeature(
                f"{self.name} plays a script and has no vectors; use the model local-embeddings",
                param="model",
            )
        number = self._calls
        self._calls += 1
        self._requests.append(request)
        self._running += 1
        try:
            for step in self._steps(await self._answer(request, number), request, number):
                if isinstance(step, BaseException):
                    raise step.with_traceback(None)
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif callable(step):
                    await step()
                else:
                    yield step
        finally:
            self._running -= 1

    async def aclose(self) -> None:
        """Nothing is held open."""

    async def _answer(self, request: Request, number: int) -> Answer:
        if not callable(self._script):
            return self._script[min(number, len(self._script) - 1)]
        answer = self._script(request)
        return await answer if isawaitable(answer) else answer

    def _steps(self, answer: Answer, request: Request, number: int) -> Iterable[Step]:
        if isinstance(answer, BaseException):
            return (answer,)
        if isinstance(answer, str):
            usage = Usage(input=_words_in(request), output=_words(answer) * request.choices)
            choices = (Choice(assistant(answer), Finish("stop")),) * request.choices
            answer = Response(f"scripted-{number}", request.model, choices, usage=usage, provider=self.name)
            return _by_words(answer) if request.stream else (Completed(answer),)
        if isinstance(answer, Response):
            return stream_of(answer) if request.stream else (Completed(answer),)
        return answer


def tape(text: str, *, model: str = "scripted", usage: Usage | None = None) -> list[Event]:
    """The stream of a text, word by word, to cut, to mend and to put into a script.

    Without `usage` the words of the text are the output, and the input is 0: the request is not known.

    >>> [type(event).__name__ for event in tape("Good morning")]
    ['Started', 'TextDelta', 'TextDelta', 'Finished', 'Ended']
    """
    counted = Usage(output=_words(text)) if usage is None else usage
    reply = Response("scripted", model, (Choice(assistant(text), Finish("stop")),), usage=counted)
    return list(_by_words(reply))


def _by_words(response: Response) -> Iterable[Event]:
    for event in stream_of(response):
        if isinstance(event, TextDelta):
            for word in re.findall(r"\S+\s*|\s+", event.text) or [event.text]:
                yield TextDelta(word, event.part, event.choice)
        else:
            yield event


def _replayable(answer: Answer) -> Answer:
    return answer if isinstance(answer, str | Response | BaseException) else tuple(answer)


def _words_in(request: Request) -> int:
    return sum(_part_words(part) for message in request.messages for part in message.parts)


def _part_words(part: Part) -> int:
    if isinstance(part, ToolResult):
        return sum(map(_part_words, part.parts))
    return _words(part.text) if isinstance(part, Text) else 0


def _words(text: str) -> int:
    return len(text.split())
