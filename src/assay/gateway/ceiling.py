"""The most that a call can cost, before it is made. What it did cost is its span's to say.

Text is counted as a token for each byte of the request: no tokenizer makes more of it. A reply is counted as
the caller's max_tokens, or as a cap where he names none; the dearest target counts. What no caller can know,
the size of pictures, sounds and files as the provider counts them, is estimated high.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from itertools import product
from typing import Final

import msgspec

from assay.gateway.attempt import Target
from assay.gateway.route import Route
from assay.gateway.spending.terms import pico
from assay.gateway.tiers import tier_of
from assay.types import (
    Audio,
    File,
    Image,
    Inline,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    TextOutput,
    ToolCall,
    ToolResult,
    Usage,
    Value,
)

MAX_TOKENS_OUT: Final = 16_384
MESSAGE_TOKENS: Final = 16
"""What a chat template may put around a message."""
TOOLS_TOKENS: Final = 1_000
"""What providers say to a model about how tools are called."""
THINKING_TOKENS: Final = 24_576
"""What a reply whose caller names no limit may think, besides what it says."""
IMAGE_TOKENS: Final = 5_000
AUDIO_TOKENS: Final = 2_000
"""The least that a sound is taken for; a longer one for a token every 64 bytes."""
FILE_TOKENS: Final = 20_000
"""The least that a file is taken for; a larger one for a token every 8 bytes."""


class Counting(Value):
    """How calls are counted before they are made.

    `caps` are, by a model's name, the tokens of a reply whose caller names no limit; `max_tokens_out` is for
    models that are not among them. `bytes_per_token` above 1 reserves less, and no longer the most.
    """

    bytes_per_token: float = 1.0
    max_tokens_out: int = MAX_TOKENS_OUT
    caps: Mapping[str, int] = {}


_TEXT: Final = TextOutput()


class NoPrice(Exception):
    """A model has no price, so that nobody knows what a call may cost."""


class Ceiling:
    """The most that a call to one route can cost.

    `free`: whatever it is, it costs nothing.
    """

    def __init__(self, route: Route, counting: Counting) -> None:
        self._targets = route.targets
        self._counting = counting
        probe = Usage(input=1_000, output=1_000)
        self.free = all(target.pricing(target.model, probe).usd == 0 for target in route.targets)

    def most(self, request: Request) -> int:
        """Picodollars of one try at the dearest target. Raises NoPrice."""
        tokens_in, marks = read_tokens(request, self._counting.bytes_per_token)
        return max(self._most(target, request, tokens_in, marks) for target in self._targets)

    def _most(self, target: Target, request: Request, tokens_in: int, marks: bool) -> int:
        written = 0
        if request.operation == "chat":
            counting = self._counting
            cap = counting.caps.get(target.name, counting.max_tokens_out)
            if request.thinking is not None:
                cap += max(THINKING_TOKENS, request.thinking.budget_tokens or 0)
            written = (asked_tokens(request) or cap) * max(1, request.choices)
        worst = [Usage(input=tokens_in, output=written)]
        if marks:
            # To put into a cache costs more than to read.
            worst.append(Usage(cache_write_1h=tokens_in, output=written))
        if "audio" in request.modalities:
            worst.append(Usage(input=tokens_in, output_audio=written))
        if _has(request.messages, Audio):
            worst.append(Usage(input_audio=tokens_in, output=written))
        # A tier may be asked for in the field of its API, too; one that is cheaper may not be had.
        tiers = {tier.name for told in (None, request.extra) if (tier := tier_of(request, (), told))}
        dearest = Decimal(0)
        for usage, named in product(worst, (None, *tiers)):
            cost = target.pricing(target.model, usage, named)
            if cost.usd is None:
                raise NoPrice(f"no price is known for the model {target.name!r} ({cost.source})")
            dearest = max(dearest, cost.usd)
        return pico(dearest)


def asked_tokens(request: Request) -> int | None:
    """The most that the caller wants written; also of a call that Assay does not understand."""
    if request.sampling.max_tokens is not None:
        return request.sampling.max_tokens
    wire = request.wire
    if wire is None or wire.problem is None:
        return None
    body = request.messages[0].parts[0] if request.messages and request.messages[0].parts else None
    fields = body.body if isinstance(body, Opaque) and isinstance(body.body, dict) else {}
    named = [fields.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")]
    return max((value for value in named if isinstance(value, int) and value > 0), default=None)


def read_tokens(request: Request, bytes_per_token: float = 1.0) -> tuple[int, bool]:
    """The most tokens that the model reads, and whether some of them may be put into a provider's cache."""
    media = sum(_media(message.parts) for message in request.messages)
    wire = request.wire
    said = wire.request if wire is not None else None
    if wire is not None and said is not None and said.messages is request.messages and not media:
        # The caller's own bytes hold everything, and are longer than what they say.
        size, marks = len(wire.body), b"cache_control" in wire.body
    else:
        size, marks = _size(request), _marked(request)
    overhead = MESSAGE_TOKENS * len(request.messages) + (TOOLS_TOKENS if request.tools else 0)
    return int(size / bytes_per_token) + media + overhead, marks


def _media(parts: tuple[Part, ...]) -> int:
    tokens = 0
    for part in parts:
        match part:
            case Text():
                pass
            case Image():
                tokens += IMAGE_TOKENS
            case Audio(source=source):
                tokens += max(AUDIO_TOKENS, len(source.data) // 64 if isinstance(source, Inline) else 0)
            case File(source=source):
                tokens += max(FILE_TOKENS, len(source.data) // 8 if isinstance(source, Inline) else 0)
            case ToolResult(parts=inner):
                tokens += _media(inner)
            case _:
                pass
    return tokens


def _size(request: Request) -> int:
    """Bytes of everything that is text."""
    size = sum(_bytes(part) for message in request.messages for part in message.parts)
    return size + sum(_told(one) for one in (request.tools, request.extra, request.output)) + 64


def _told(value: object) -> int:
    return len(msgspec.json.encode(value)) if value and value != _TEXT else 0


def _bytes(part: Part) -> int:
    match part:
        case Text(text=text) | Refusal(text=text):
            return _length(text)
        case Reasoning(text=text, encrypted=encrypted, summary=summary):
            return _length(text) + len(encrypted or "") + sum(map(_length, summary))
        case ToolCall(name=name, arguments=arguments):
            return _length(name) + _length(arguments) + 32
        case ToolResult(parts=parts):
            return sum(map(_bytes, parts)) + 32
        case Opaque(body=body):
            return len(msgspec.json.encode(body))
        case Audio(transcript=transcript):
            return _length(transcript or "")
        case _:
            return 0


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _marked(request: Request) -> bool:
    """Whether a part or tool carries a cache mark, or may."""
    parts = (part for message in request.messages for part in message.parts)
    return any(getattr(one, "cache", None) is not None for one in (*parts, *request.tools))


def _has(messages: tuple[Message, ...], kind: type[Part]) -> bool:
    return any(isinstance(part, kind) for message in messages for part in message.parts)
