"""The Upstream of an embedding model in this process: loaded once, at the first call; one text at a time.

Calls share one worker, in turns of some TURN_TOKENS tokens each: the one question of a search waits for a
turn, not for the thousand documents before it. A call that is cancelled ends with its turn.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, ParamSpec, TypeAlias, TypeVar, assert_never

from assay.errors import ContextExceeded, ProviderError, ProviderUnavailable, RequestError, UnsupportedFeature
from assay.providers.local_embeddings.encoder import Encoder, missing, open_encoder
from assay.providers.translation import Drops
from assay.types import Completed, Event, Message, Request, Response, Text, Usage

MAX_TOKENS: Final = 512
"""The longest input, with its two marks: the model has that many positions. It was trained on shorter texts
(128 tokens) and is at its best up to 256: cut documents into chunks of that size."""

MAX_INPUTS: Final = 2048
"""The most inputs of a call, as in OpenAI's API."""

TURN_TOKENS: Final = 1024
TURN_TEXTS: Final = 64

P = ParamSpec("P")
T = TypeVar("T")

Opener: TypeAlias = Callable[[Path | None, int], Encoder]


class LocalEmbeddings:
    """The model in `folder` (model.int8.onnx and tokenizer.json); None says that no weights were found.

    `threads` compute at once, by default one. Nothing is opened before the first call. The same text gets the
    same vector, whatever stands beside it.
    """

    def __init__(
        self,
        name: str,
        folder: Path | None,
        *,
        threads: int | None = None,
        opener: Opener = open_encoder,
    ) -> None:
        self.name = name
        self.dialects: frozenset[str] = frozenset()
        self._folder = folder
        self._threads = 1 if threads is None else threads
        self._opener = opener
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"assay-{name}")
        self._opened: Encoder | None = None
        self._closed = threading.Event()

    @property
    def problem(self) -> ProviderUnavailable | None:
        """That weights or a library are missing; nothing is loaded to find out."""
        return missing(self._folder)

    async def __call__(self, request: Request) -> AsyncIterator[Event]:
        """Raises as every Upstream does. Each message of the request is one input."""
        try:
            yield Completed(await self._answer(request))
        except ProviderError as error:
            error.provider = error.provider or self.name
            raise

    async def aclose(self) -> None:
        """Ends the calls under way after their turn, and frees the model."""
        self._closed.set()
        await asyncio.to_thread(self._worker.shutdown, wait=True, cancel_futures=True)
        self._opened = None

    async def _answer(self, request: Request) -> Response:
        match request.operation:
            case "chat":
                raise UnsupportedFeature(
                    f"The model '{request.model}' makes embeddings and writes no text; call another model "
                    "(see 'assay models')",
                    param="model",
                )
            case "embeddings" | "count_tokens":
                pass
            case _:
                assert_never(request.operation)
        drops = Drops("onnx", "The local embedding model")
        texts = _texts(request, drops)
        encoder = await self._turn(self._encoder)
        inputs = await self._tokens(encoder, texts)
        usage = Usage(input=sum(map(len, inputs)))
        if request.operation == "count_tokens":
            return Response("", request.model, (), usage, provider=self.name, dropped=drops.paths)
        _check(request, encoder, inputs)
        return Response(
            f"embd-{secrets.token_hex(12)}",
            request.model,
            (),
            usage,
            provider=self.name,
            vectors=await self._vectors(encoder, inputs),
            dropped=drops.paths,
        )

    async def _tokens(self, encoder: Encoder, texts: list[str]) -> list[list[int]]:
        inputs: list[list[int]] = []
        for start in range(0, len(texts), TURN_TEXTS):
            inputs += await self._turn(_tokens_of, encoder, texts, start)
        return inputs

    async def _vectors(self, encoder: Encoder, inputs: list[list[int]]) -> tuple[tuple[float, ...], ...]:
        vectors: list[tuple[float, ...]] = []
        for several in _turns(inputs):
            vectors += await self._turn(_vectors_of, encoder, several)
        return tuple(vectors)

    def _encoder(self) -> Encoder:
        """In the worker's thread, which is the only one. A load that failed is tried again."""
        if self._opened is None:
            self._opened = self._opener(self._folder, self._threads)
        return self._opened

    async def _turn(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed.is_set():
            raise self._gone()
        turn = asyncio.wrap_future(self._worker.submit(work, *args, **kwargs))
        try:
            return await turn
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed.is_set() and task is not None and not task.cancelling():
                raise self._gone() from None
            raise

    def _gone(self) -> ProviderUnavailable:
        return ProviderUnavailable(
            f"The model of provider '{self.name}' has been closed; open it again to call it",
            provider=self.name,
            retryable=False,
        )


def _texts(request: Request, drops: Drops) -> list[str]:
    """One text a message. Raises UnsupportedFeature for what is no text, RequestError for too many."""
    count = len(request.messages)
    if not 1 <= count <= MAX_INPUTS:
        raise RequestError(f"There are {count} inputs; a call takes 1 to {MAX_INPUTS}", param="messages")
    texts = [_text(message, f"messages[{number}]", drops) for number, message in enumerate(request.messages)]
    drops.enter("")
    for field in ("user", "metadata", "service_tier"):
        if getattr(request, field) is not None:
            drops.add(field)
    drops.take({}, request.extra, "")
    return texts


def _text(message: Message, place: str, drops: Drops) -> str:
    drops.enter(place)
    drops.take({}, message.extra, "")
    texts = []
    for number, part in enumerate(message.parts):
        if not isinstance(part, Text):
            raise UnsupportedFeature(
                f"The local embedding model takes text, not a part of type {type(part).__name__}; leave it "
                "out or choose another model",
                param=f"{place}.parts[{number}]",
            )
        if part.cache is not None:
            drops.part(number, "cache")
        drops.take({}, part.extra, f".parts[{number}]")
        texts.append(part.text)
    return "".join(texts)


def _check(request: Request, encoder: Encoder, inputs: list[list[int]]) -> None:
    if request.dimensions not in {None, encoder.width}:
        raise UnsupportedFeature(
            f"The model '{request.model}' gives vectors of {encoder.width} dimensions, which mean nothing "
            f"when cut to {request.dimensions}; leave dimensions out or choose another model",
            param="dimensions",
        )
    for number, tokens in enumerate(inputs):
        if len(tokens) > MAX_TOKENS:
            raise ContextExceeded(
                f"Input {number} has {len(tokens)} tokens and the model '{request.model}' takes "
                f"{MAX_TOKENS}; shorten it, or cut it into several inputs",
                param=f"messages[{number}]",
            )


def _tokens_of(encoder: Encoder, texts: list[str], start: int) -> list[list[int]]:
    inputs = []
    for number, text in enumerate(texts[start : start + TURN_TEXTS], start):
        try:
            inputs.append(encoder.tokens(text))
        except ValueError as error:
            raise RequestError(
                f"Input {number} is not Unicode text ({error}); send it whole", param=f"messages[{number}]"
            ) from error
    return inputs


def _vectors_of(encoder: Encoder, inputs: Sequence[Sequence[int]]) -> list[tuple[float, ...]]:
    return [tuple(encoder.vector(tokens)) for tokens in inputs]


def _turns(inputs: list[list[int]]) -> Iterator[list[list[int]]]:
    """The inputs in their order, as many at a time as make up a turn; at least one."""
    turn: list[list[int]] = []
    size = 0
    for tokens in inputs:
        if turn and size + len(tokens) > TURN_TOKENS:
            yield turn
            turn, size = [], 0
        turn.append(tokens)
        size += len(tokens)
    yield turn
