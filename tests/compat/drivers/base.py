"""What the tests ask of an SDK, in no SDK's words, and how its sync and its async half are driven alike."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

QUESTION = "How is the weather in Köln? ☂"
SYSTEM = "Answer in one sentence – briefly."
WEATHER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Its name"}},
    "required": ["city"],
    "additionalProperties": False,
}


class Capital(BaseModel):
    """The structured output that is asked for."""

    city: str
    population: int


@dataclass(frozen=True)
class Ask:
    """One request. `tools` offers get_weather, `forced` insists on it; `extra` is in the SDK's own words."""

    model: str
    text: str = QUESTION
    system: str | None = None
    image: bytes | None = None
    tools: bool = False
    forced: bool = False
    schema: type[BaseModel] | None = None
    thinking: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    id: str | None
    name: str
    arguments: dict[str, Any]


@dataclass
class Reply:
    """`finish` is stop, length, tools, filter or refusal. Usage: tokens in with cached ones, of these cached,
    tokens out with reasoning, of these reasoning (None where the dialect does not tell).

    `native` is what the SDK gave, for the second turn; `pieces` how many events carried text or arguments.
    """

    text: str = ""
    refusal: str = ""
    thoughts: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str = ""
    usage: tuple[int, int, int, int | None] | None = None
    parsed: Any = None
    pieces: int = 0
    native: Any = None
    id: str = ""
    model: str = ""


@dataclass(frozen=True)
class Failure:
    """An SDK's exception: its class, the HTTP status that it saw, and the words of the dialect in it."""

    kind: str
    status: int | None
    type: str | None
    message: str


class Driver(Protocol):
    name: str
    errors: tuple[type[Exception], ...]

    async def ask(self, ask: Ask) -> Reply: ...

    async def answer(self, ask: Ask, reply: Reply, results: list[str]) -> Reply:
        """The second turn: the results of the reply's calls, in their order."""
        ...

    async def first_piece(self, ask: Ask) -> Callable[[], Any]:
        """Reads a stream up to its first text, and gives what closes it."""
        ...

    def failure(self, error: Exception) -> Failure: ...


async def settle(value: Any) -> Any:
    """The value, whether the sync client gave it or the async one promised it."""
    return await value if inspect.isawaitable(value) else value


async def each(items: Any) -> AsyncIterator[Any]:
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


@asynccontextmanager
async def opened(
    manager: AbstractContextManager[Any] | AbstractAsyncContextManager[Any],
) -> AsyncIterator[Any]:
    if isinstance(manager, AbstractAsyncContextManager):
        async with manager as stream:
            yield stream
    else:
        with manager as stream:
            yield stream
