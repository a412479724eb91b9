"""The cache: an equal call gets the reply of before, or follows the one that is under way.

Replies are kept in .replies, calls under way are .flight's. Equal are calls of one tenant for one name that
say the same: everything that shapes the answer is in the key, and so is the repeat of an experiment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol, TypeAlias

import msgspec

from assay.gateway.flight import Flight, Follower
from assay.gateway.replies import Entry, Place, Replies
from assay.keys import Key
from assay.types import (
    Assembly,
    Cached,
    Completed,
    Cost,
    Ended,
    Event,
    Handler,
    Policy,
    Request,
    Response,
    Started,
    Value,
    WireData,
    closing,
    replace,
    stream_of,
)

NOTHING_PAID: Final = Cost("exact", Decimal(0), "cache")
"""What a reply costs that another call has paid for."""
Tenant: TypeAlias = Callable[[str | None], str]
"""Whose the replies are, by a key's id: only calls of the same tenant share them."""

_OFF, _MISS, _JOINED = Cached("off"), Cached("miss"), Cached("hit")
_WHOLE = frozenset({"stop", "stop_sequence", "tool_calls"})
"""Why a reply that may be given again has ended: whole, and with what the model had to say."""
_MARKED = frozenset({Started, Ended, Completed, WireData})
# Neither the answer nor who may have it depends on these. What is not named here is part of the key.
_ASIDE = frozenset({"model", "stream", "context", "wire", "metadata", "user", "service_tier"})
_SAID = tuple(name for name in Request.__struct_fields__ if name not in _ASIDE)
_FORMAT = 1
_json = msgspec.json.Encoder().encode


class SemanticRules(Value):
    """How alike two questions must be, from 0 to 1 (the cosine of their embeddings), and by which model."""

    threshold: float
    model: str = "local-embeddings"


class CacheRules(Value):
    """How long a reply of this name may be given again, in seconds; and to questions how alike, if at all."""

    ttl_s: float = 3600.0
    semantic: SemanticRules | None = None


def tenant_of(find: Callable[[str], Key]) -> Tenant:
    """The keys of a team are one tenant, one without is its own, and calls without a key are another."""

    def tenant(key_id: str | None) -> str:
        if key_id is None:
            return ""
        team = find(key_id).team
        return f"key {key_id}" if team is None else f"team {team}"

    return tenant


class Hit(NamedTuple):
    """A reply of before, and how alike its question was, where another one was asked."""

    entry: Entry
    similarity: float | None = None


class Lookup(Protocol):
    """Looks for the reply to a question that is alike: see .semantic. One for each call; never raises."""

    place: Place | None
    """Where the question lies, once it was looked for."""

    async def find(self, ttl_s: float) -> Hit | None: ...

    async def locate(self) -> None:
        """Only finds out where it lies."""


Alike: TypeAlias = Callable[[Request, str], Lookup]
"""The Lookup for a request of a tenant."""


class Cache:
    """What is kept and what is under way, for all names of a process. `tenant` says whose a call is."""

    def __init__(self, replies: Replies, tenant: Tenant = lambda key_id: key_id or "") -> None:
        self.replies = replies
        self.tenant = tenant
        self._flights: dict[tuple[str, bool], Flight[Hit]] = {}

    @property
    def flights(self) -> int:
        """How many calls are under way that others may follow."""
        return len(self._flights)

    def under_way(self, key: str, *, stream: bool) -> Flight[Hit] | None:
        """A call to follow. Who wants a whole reply may follow a stream, not the other way round."""
        return self._flights.get((key, stream)) or (None if stream else self._flights.get((key, True)))

    def take_off(self, key: str, flight: Flight[Hit], *, stream: bool) -> None:
        self._flights.setdefault((key, stream), flight)

    def land(self, key: str, flight: Flight[Hit], *, stream: bool) -> None:
        if self._flights.get((key, stream)) is flight:
            del self._flights[key, stream]


def cached(name: str, rules: CacheRules, cache: Cache, alike: Alike | None = None) -> Policy:
    """The policy for one model or route; counts of tokens go past it."""

    def policy(handler: Handler) -> Handler:
        kept = _Kept(name, rules, cache, alike, handler)

        def dispatch(request: Request) -> AsyncIterator[Event]:
            if request.operation == "count_tokens":
                return handler(request)
            if request.context.cache == "off":
                return _past(handler, request)
            tenant = cache.tenant(request.context.key_id)
            key = key_of(request, name, tenant)
            return _past(handler, request) if key is None else kept(request, key, tenant)

        return dispatch

    return policy


async def _past(handler: Handler, request: Request) -> AsyncIterator[Event]:
    async with closing(handler(request)) as events:
        async for event in events:
            yield event if type(event) not in _MARKED else _marked(event, _OFF, None)


class _Kept:
    """One name's calls: answered from before, followed, or made."""

    def __init__(
        self, name: str, rules: CacheRules, cache: Cache, alike: Alike | None, handler: Handler
    ) -> None:
        self._name = name
        self._ttl_s = rules.ttl_s
        self._cache = cache
        self._replies = cache.replies
        self._alike = alike
        self._handler = handler

    async def __call__(self, request: Request, key: str, tenant: str) -> AsyncIterator[Event]:
        fresh = request.context.cache == "refresh"
        twin = twin_of(request)
        entry = None if fresh else self._replies.near(key, self._ttl_s)
        if entry is not None:
            for event in replayed(Hit(entry), request, twin, self._replies.clock()):
                yield event
            return
        flight = None if fresh else self._cache.under_way(key, stream=request.stream)
        leads = flight is None
        if flight is None:
            flight = self._begin(request, key, tenant, twin)
        own_bytes = leads or (twin != b"" and twin == flight.twin)
        note = _MISS if leads else _JOINED
        follower = flight.join(until=_until(request))
        try:
            while await follower.more():
                for event in follower.there():
                    for told in (event,) if own_bytes or type(event) is not WireData else event.events:
                        yield told if type(told) not in _MARKED else _told(told, note, flight, follower)
            if flight.found is not None:
                for event in replayed(flight.found, request, twin, self._replies.clock()):
                    yield event
        finally:
            await flight.leave(follower)

    def _begin(self, request: Request, key: str, tenant: str, twin: bytes) -> Flight[Hit]:
        """The call itself, for whoever follows: each follower sees to its own deadline."""
        shared = replace(request, context=replace(request.context, deadline_s=None))
        lookup = None if self._alike is None else self._alike(request, tenant)

        async def find() -> Hit | None:
            if request.context.cache == "refresh":
                if lookup is not None:
                    await lookup.locate()
                return None
            entry = await self._replies.find(key, self._ttl_s)
            if entry is not None:
                return Hit(entry)
            return None if lookup is None else await lookup.find(self._ttl_s)

        def landed(flight: Flight[Hit]) -> None:
            self._cache.land(key, flight, stream=request.stream)
            entry = entry_of(self._name, flight, request, self._replies.clock())
            if entry is not None:
                self._replies.keep(key, entry, self._ttl_s, None if lookup is None else lookup.place)

        flight = Flight(find, partial(self._handler, shared), landed, twin=twin)
        self._cache.take_off(key, flight, stream=request.stream)
        return flight


def _until(request: Request) -> float | None:
    deadline_s = request.context.deadline_s
    return None if deadline_s is None else asyncio.get_running_loop().time() + deadline_s


# --- which calls are equal -----------------------------------------------------------------------


def key_of(request: Request, name: str, tenant: str) -> str | None:
    """The digest of everything that shapes the answer; None for a call that cannot be told by its content.

    A call that Assay does not understand is told by its caller's own bytes.
    """
    digest = blake2b(digest_size=20)
    wire = request.wire
    headers: tuple[tuple[str, str], ...] = ()
    if wire is not None:
        # Which version of its API a caller speaks is about words; features go by other headers.
        headers = tuple(pair for pair in wire.headers if not pair[0].endswith("-version"))
    try:
        digest.update(_json((_FORMAT, tenant, name, request.context.repeat, headers)))
        for field in _SAID:
            digest.update(_json(getattr(request, field)))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    if wire is not None and wire.problem is not None:
        twin = twin_of(request)
        if not twin:
            return None
        digest.update(twin)
    return digest.hexdigest()


def twin_of(request: Request) -> bytes:
    """The digest of the caller's own bytes, as far as the reply's bytes depend on them; b"" without them."""
    wire = request.verbatim
    if wire is None:
        return b""
    digest = blake2b(_json((wire.dialect, request.stream, wire.headers)), digest_size=20)
    digest.update(wire.body)
    return digest.digest()


# --- which replies are kept, and how they are given again ----------------------------------------------


def entry_of(name: str, flight: Flight[Hit], request: Request, now_s: float) -> Entry | None:
    """What is to be kept of a call; None where it failed, was cut short, or was held back from speaking."""
    events = flight.whole
    if events is None or not flight.ended or flight.broken:
        return None
    assembly = Assembly()
    try:
        for event in events:
            assembly.add(event)
    except ValueError:
        # The trace tells the caller that the provider broke the order of events.
        return None
    response = assembly.response()
    if not _may_be_given_again(response, request):
        return None
    wire = None
    if flight.complete and flight.twin and all(type(event) is WireData for event in events):
        wire = b"".join(event.data for event in events if type(event) is WireData)
    if wire is None and request.wire is not None and request.wire.problem is not None:
        return None
    return Entry(name, replace(response, cost=None, cached=None), now_s, wire, flight.twin if wire else b"")


def _may_be_given_again(response: Response, request: Request) -> bool:
    if request.operation == "embeddings":
        return len(response.vectors) == len(request.messages)
    return bool(response.choices) and all(choice.finish.reason in _WHOLE for choice in response.choices)


def replayed(hit: Hit, request: Request, twin: bytes, now_s: float) -> list[Event]:
    """The reply again: as a stream where one is wanted, in its own bytes for who sends the same ones."""
    entry = hit.entry
    note = Cached("hit", round(max(0.0, now_s - entry.made_s), 3), hit.similarity)
    response = replace(entry.response, cost=NOTHING_PAID, cached=note)
    events: list[Event] = [Completed(response)]
    if request.stream:
        # A part that has no streamed form is told in one piece.
        with suppress(ValueError):
            events = stream_of(response)
    if entry.wire is not None and twin and twin == entry.twin:
        return [WireData(entry.wire, tuple(events))]
    return events


def _told(event: Event, note: Cached, flight: Flight[Hit], follower: Follower[Hit]) -> Event:
    """The event as this follower may count it."""
    free = _ends(event) and not flight.settle(follower)
    return _marked(event, note, NOTHING_PAID if free else None)


def _ends(event: Event) -> bool:
    return any(map(_ends, event.events)) if type(event) is WireData else type(event) in {Ended, Completed}


def _marked(event: Event, note: Cached, cost: Cost | None) -> Event:
    match event:
        case Started():
            return replace(event, cached=note)
        case Ended():
            return event if cost is None else replace(event, cost=cost)
        case Completed(response):
            return Completed(replace(response, cached=note, cost=cost or response.cost))
        case WireData(data, events):
            if not any(type(inner) in _MARKED for inner in events):
                return event
            return WireData(data, tuple(_marked(inner, note, cost) for inner in events))
        case _:
            return event
