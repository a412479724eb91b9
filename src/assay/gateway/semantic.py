"""The semantic cache: a question that is very like one of before gets its reply. Exact hits are .cache's.

Only the last thing that the user says may differ. Everything else is the partition, and must be the same: the
tenant, the name, all parameters, the system prompt and the conversation before; and, since embeddings hardly
tell them apart, every number in the question. Only text is compared, and no call that may use tools.
"""

from __future__ import annotations

import logging
import re
from hashlib import blake2b
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from assay.errors import AssayError, ContextExceeded
from assay.gateway.cache import Hit, Lookup, SemanticRules, key_of
from assay.gateway.replies import Place, Replies
from assay.types import Assembly, Context, Handler, Message, Request, Text, closing, replace, user

log = logging.getLogger("assay.cache")

NEAREST_OF: Final = 1_000
"""How many questions of a partition are compared: the newest."""
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_json = msgspec.json.Encoder().encode

Vector = NDArray[np.float32]


class Semantic:
    """The lookups of one name. `call` is the gateway's own handler, so that embeddings are traced, too."""

    def __init__(self, name: str, rules: SemanticRules, replies: Replies, call: Handler) -> None:
        self._name = name
        self._rules = rules
        self._replies = replies
        self._call = call

    def __call__(self, request: Request, tenant: str) -> Lookup:
        return _Lookup(self._name, self._rules, self._replies, self._call, request, tenant)


class _Lookup:
    def __init__(
        self,
        name: str,
        rules: SemanticRules,
        replies: Replies,
        call: Handler,
        request: Request,
        tenant: str,
    ) -> None:
        self.place: Place | None = None
        self._rules = rules
        self._replies = replies
        self._call = call
        self._context = request.context
        self._text = question_of(request)
        self._partition = partition_of(request, name, tenant, rules.model)

    async def locate(self) -> None:
        """Finds where the question lies. Where that fails it lies nowhere: the call is made all the same."""
        if self._text is None or self._partition is None:
            return
        try:
            (vector,) = await embedded(self._call, self._rules.model, [self._text], self._context)
        except ContextExceeded:
            return
        except AssayError as error:
            log.warning("no question is compared with others: %s", error.message)
            return
        self.place = Place(self._partition, vector.tobytes())

    async def find(self, ttl_s: float) -> Hit | None:
        await self.locate()
        place = self.place
        if place is None:
            return None
        others = await self._replies.others(place.partition, NEAREST_OF)
        same_size = [(key, vector) for key, vector in others if len(vector) == len(place.vector)]
        if not same_size:
            return None
        matrix = np.frombuffer(b"".join(vector for _, vector in same_size), np.float32)
        alike = matrix.reshape(len(same_size), -1) @ np.frombuffer(place.vector, np.float32)
        for number in np.argsort(-alike):
            similarity = float(alike[number])
            if similarity < self._rules.threshold:
                return None
            key = same_size[number][0]
            entry = self._replies.near(key, ttl_s) or await self._replies.find(key, ttl_s)
            if entry is not None:
                return Hit(entry, round(similarity, 4))
        return None


def question_of(request: Request) -> str | None:
    """What the user said last, where nothing but text was said and no tool may be called; else None."""
    if request.operation != "chat" or request.tools or request.choices != 1 or not request.messages:
        return None
    if request.wire is not None and request.wire.problem is not None:
        return None
    if any(type(part) is not Text for message in request.messages for part in message.parts):
        return None
    last = request.messages[-1]
    return last.text.strip() or None if last.role == "user" else None


def partition_of(request: Request, name: str, tenant: str, model: str) -> str | None:
    """The digest of what must be the same; None where there is no question to compare."""
    text = question_of(request)
    if text is None:
        return None
    without = replace(request, messages=(*request.messages[:-1], Message("user", (Text(""),))))
    key = key_of(without, name, tenant)
    if key is None:
        return None
    return blake2b(_json((key, model, numbers_in(text))), digest_size=20).hexdigest()


def numbers_in(text: str) -> tuple[str, ...]:
    """The numbers, dates and times of a text, in order.

    >>> numbers_in("From 3 May, 10:30, for 1,200.50 CHF")
    ('3', '10:30', '1,200.50')
    """
    return tuple(_NUMBER.findall(text))


async def embedded(
    call: Handler, model: str, texts: list[str], context: Context | None = None
) -> list[Vector]:
    """The texts' vectors, of length 1, as a call of the gateway's own. Raises what the call raises."""
    whose = Context() if context is None else context
    request = Request(
        model,
        tuple(map(user, texts)),
        operation="embeddings",
        context=Context(whose.trace_id, whose.parent_span_id, purpose="cache"),
    )
    assembly = Assembly()
    async with closing(call(request)) as events:
        async for event in events:
            assembly.add(event)
    return [_unit(np.asarray(vector, np.float32)) for vector in assembly.response().vectors]


def _unit(vector: Vector) -> Vector:
    length = float(np.linalg.norm(vector))
    return vector if length == 0.0 else (vector / length).astype(np.float32)
