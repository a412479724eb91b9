"""The policy of guards: what is said to a model and what it says, refused, changed or told of by rules.

What a rule looks for lives in the other files of this folder; here is what becomes of it. Whoever writes a
guard of his own makes a `Guard`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from assay.errors import BadResponse, GuardRejected, UnsupportedFeature
from assay.gateway.guards.content import Seen, Sifter, strings_in
from assay.gateway.guards.injection import THRESHOLD, foreign_texts, score
from assay.gateway.guards.judge import Judge
from assay.gateway.guards.shape import Lengths, Schema, texts
from assay.gateway.guards.stream import Screen
from assay.gateway.guards.window import Plan, Rule, Wanted
from assay.types import (
    Assembly,
    Completed,
    Cost,
    Ended,
    Event,
    Handler,
    Policy,
    ReasoningDelta,
    RefusalDelta,
    Request,
    Response,
    TextDelta,
    ToolCallDelta,
    Usage,
    closing,
    replace,
)

Side = Literal["input", "output"]
Action = Literal["block", "redact", "flag"]

_BLOB_CHARS: Final = 1024
# Data in base64 or the like, perhaps as a data URL: nobody can read in it.
_BLOB: Final = re.compile(r"(?:data:[^,\s]{0,200},)?[A-Za-z0-9+/=_\r\n-]+")


class Said(NamedTuple):
    """What a guard judges: a request and, on output, the whole reply. Both as other guards left them."""

    request: Request
    reply: Response | None = None


class Guard(Protocol):
    """A rule on content.

    `rules` are found in texts, wherever they stand, and may be hidden. `check` judges the whole of what was
    said and gives an objection, in words that do not quote it, or None. A guard that never objects leaves
    `whole` False: a streamed reply is held back to its end for one that may.
    """

    @property
    def rules(self) -> Sequence[Rule]: ...

    @property
    def whole(self) -> bool: ...

    async def check(self, said: Said, /) -> str | None: ...


@dataclass(frozen=True)
class Patterns:
    """The Guard of rules alone."""

    rules: tuple[Rule, ...]
    whole: bool = False

    async def check(self, said: Said, /) -> str | None:
        return None


@dataclass(frozen=True)
class Length:
    """The Guard of length. A streamed reply ends where it becomes too long."""

    limits: Lengths
    rules: tuple[Rule, ...] = ()
    whole: bool = True

    async def check(self, said: Said, /) -> str | None:
        return self.limits.objection(said.request.messages)


@dataclass(frozen=True)
class Injection:
    """The Guard of injection, on what users say and what tools and files hold: a heuristic."""

    threshold: float = THRESHOLD
    rules: tuple[Rule, ...] = ()
    whole: bool = True
    seen: Seen = field(default_factory=Seen, compare=False)

    async def check(self, said: Said, /) -> str | None:
        for text in foreign_texts(said.request.messages):
            if text in self.seen:
                continue
            points, signs = score(text)
            if points >= self.threshold:
                return f"it looks like a prompt injection ({', '.join(signs)}: {points:g})"
            self.seen.add(text)
        return None


@dataclass(frozen=True)
class Shaped:
    """The Guard of a schema, on replies."""

    schema: Schema
    rules: tuple[Rule, ...] = ()
    whole: bool = True

    async def check(self, said: Said, /) -> str | None:
        return None if said.reply is None else self.schema.objection(said.request, said.reply)


@dataclass(frozen=True)
class Judged:
    """The Guard of a judge."""

    judge: Judge
    rules: tuple[Rule, ...] = ()
    whole: bool = True

    async def check(self, said: Said, /) -> str | None:
        return await self.judge.objection(said.request, said.reply)


@dataclass(frozen=True)
class Posted:
    """A guard at its post: its name in the configuration, the sides it stands on, and what it does."""

    name: str
    guard: Guard
    sides: frozenset[Side]
    action: Action


Posts = Callable[[Handler], Mapping[str, tuple[Posted, ...]]]
"""The guards of each model and route, given the handler by which judges are asked."""


class Tally:
    """How often each guard found something, for whoever counts: by guard, side and action."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, Side, Action]] = Counter()


def hides(posted: Iterable[Posted]) -> bool:
    """Whether what callers write may have to be hidden from whoever records it."""
    return any("input" in post.sides and post.action != "flag" for post in posted)


def guards(posted: Sequence[Posted], tally: Tally) -> Policy:
    """Raises GuardRejected for what a guard refuses: before the reply, or in the midst of a stream.

    A request in which nothing is hidden goes on in its caller's bytes, unless a guard must see the reply.
    """
    entry, exit_ = _side(posted, "input"), _side(posted, "output")

    def policy(handler: Handler) -> Handler:
        if exit_:
            return _guarded(handler, _Entry(entry, tally), exit_, tally)
        checked = _Entry(entry, tally)
        if any(post.guard.whole for post in entry):
            return _checked(handler, checked)
        return lambda request: handler(checked.sifted(request))

    return policy


def _side(posted: Sequence[Posted], side: Side) -> tuple[Posted, ...]:
    return tuple(post for post in posted if side in post.sides)


def _checked(handler: Handler, entry: _Entry) -> Handler:
    async def checked(request: Request) -> AsyncIterator[Event]:
        async with closing(handler(await entry.passed(request))) as events:
            async for event in events:
                yield event

    return checked


def _guarded(handler: Handler, entry: _Entry, posted: tuple[Posted, ...], tally: Tally) -> Handler:
    wanted = _wanted(posted)

    async def guarded(request: Request) -> AsyncIterator[Event]:
        request = await entry.passed(request)
        if request.operation != "chat":
            async with closing(handler(request)) as events:
                async for event in events:
                    yield event
            return
        if any(one.keeps for one in wanted) and request.sampling.top_logprobs is not None:
            raise UnsupportedFeature(
                f"Log probabilities spell out what the guard {posted[0].name!r} may have to hide; "
                "leave them out",
                param="logprobs",
            )
        book = _Book("output", tally, request, posted)
        screen = Screen(wanted, request, book.found) if wanted else None
        bench = _Bench(posted, request, book)
        answered = False
        try:
            async with closing(handler(_in_our_words(request))) as events:
                async for event in events:
                    answered = True
                    if type(event) is Ended or type(event) is Completed:
                        book.paid(event)
                    for told in (event,) if screen is None else screen.events(event):
                        for passed in await bench.hear(told):
                            yield passed
        except GuardRejected:
            if answered:
                book.refused()
            raise

    return guarded


class _Bench:
    """The guards that judge a reply as a whole, or by its length. Where one may refuse, all waits for it."""

    def __init__(self, posted: Sequence[Posted], request: Request, book: _Book) -> None:
        self._meters = [(post, post.guard.limits) for post in posted if isinstance(post.guard, Length)]
        self._judges = [post for post in posted if post.guard.whole and not isinstance(post.guard, Length)]
        self._waits = any(post.action == "block" for post in self._judges)
        self._request = request
        self._book = book
        self._assembly = Assembly()
        self._waiting: list[Event] = []
        self._chars = self._bytes = 0

    async def hear(self, event: Event) -> Sequence[Event]:
        """What may be let out. Raises GuardRejected."""
        if self._meters:
            self._measure(event)
        if not self._judges:
            return (event,)
        try:
            self._assembly.add(event)
        except ValueError as error:
            raise BadResponse(f"The provider broke the order of a reply: {error}") from error
        if type(event) is Ended or type(event) is Completed:
            await _judged(self._judges, Said(self._request, self._assembly.response()), self._book)
            return (*self._waiting, event)
        if self._waits:
            self._waiting.append(event)
            return ()
        return (event,)

    def _measure(self, event: Event) -> None:
        for text in _texts(event):
            self._chars += len(text)
            self._bytes += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        for post, limits in tuple(self._meters):
            objection = limits.too_long(self._chars, self._bytes)
            if objection is not None:
                self._meters.remove((post, limits))
                self._book.objected(post, objection)


def _texts(event: Event) -> Sequence[str]:
    match event:
        case TextDelta(text) | RefusalDelta(text) | ReasoningDelta(text):
            return (text,)
        case ToolCallDelta():
            return (event.arguments,)
        case Completed(response):
            return [
                text for choice in response.choices for part in choice.message.parts for text in texts(part)
            ]
        case _:
            return ()


async def _judged(posted: Sequence[Posted], said: Said, book: _Book) -> None:
    for post in posted:
        objection = await post.guard.check(said)
        if objection is not None:
            book.objected(post, objection)


def _in_our_words(request: Request) -> Request:
    """The request without its caller's bytes: its reply is to come as events that can be changed."""
    wire = request.wire
    if wire is None:
        return request
    if wire.problem is not None:
        raise wire.problem.with_traceback(None)
    # Which of its APIs a provider is called by goes on being the caller's.
    return replace(request, wire=replace(wire, request=None, body=b""))


def _wanted(posted: Iterable[Posted]) -> Plan:
    return Plan(
        Wanted(rule, post.name, hides=post.action != "flag", keeps=post.action != "flag")
        for post in posted
        for rule in post.guard.rules
    )


class _Entry:
    """The guards on input. What they hide or refuse is not what is recorded."""

    def __init__(self, posted: tuple[Posted, ...], tally: Tally) -> None:
        self._posted = posted
        self._wanted = _wanted(posted)
        self._judges = [post for post in posted if post.guard.whole]
        self._secret = hides(posted)
        self._tally = tally
        self._seen = Seen()

    async def passed(self, request: Request) -> Request:
        """The request as it may go on. One that is refused as a whole is not recorded at all."""
        book = self._book(request)
        clean = self._sifted(request, book)
        await _judged(self._judges, Said(clean), book)
        if self._secret:
            book.show(clean)
        return clean

    def sifted(self, request: Request) -> Request:
        """As `passed`, where there are rules only."""
        book = self._book(request)
        clean = self._sifted(request, book)
        if self._secret:
            book.show(clean)
        return clean

    def _book(self, request: Request) -> _Book:
        return _Book("input", self._tally, request, self._posted)

    def _sifted(self, request: Request, book: _Book) -> Request:
        if not self._wanted:
            return request
        sifter = Sifter(self._wanted, self._seen)
        clean = sifter.request(request)
        if clean is request and not sifter.found:
            self._beside(request, sifter)
        if not sifter.found:
            return clean
        try:
            book.found(sifter.found)
        except GuardRejected:
            book.show(clean)
            raise
        return _in_our_words(clean) if any(one.hides for one in sifter.found) else clean

    def _beside(self, request: Request, sifter: Sifter) -> None:
        """What the caller's bytes hold that Assay has no name for goes with them, and is looked at, too."""
        wire = request.verbatim
        if wire is None:
            return
        try:
            body: Any = msgspec.json.decode(wire.body)
        except (ValueError, RecursionError):
            return
        for text in strings_in(body):
            if len(text) < _BLOB_CHARS or not _BLOB.fullmatch(text):
                sifter.text(text)


class _Book:
    """What the guards of one side found in one call: counted, told to the span, and refused."""

    def __init__(self, side: Side, tally: Tally, request: Request, posted: Sequence[Posted]) -> None:
        self._side = side
        self._tally = tally
        self._notes = request.context.notes
        self._actions: dict[str, Action] = {post.name: post.action for post in posted}
        self._entries: dict[str, dict[str, Any]] = {}
        self._usage: Usage | None = None
        self._cost: Cost | None = None

    def found(self, found: Sequence[Wanted]) -> None:
        """Raises GuardRejected where a guard that blocks has found something."""
        for one in found:
            kinds = self._entry(one.guard).setdefault("found", {})
            kinds[one.rule.kind] = kinds.get(one.rule.kind, 0) + 1
        for one in found:
            if self._actions[one.guard] == "block":
                what = "reply" if self._side == "output" else "request"
                raise self._refusal(one.guard, f"the {what} has what looks like: {one.rule.kind}")

    def objected(self, post: Posted, objection: str) -> None:
        """Raises GuardRejected where the guard blocks."""
        self._entry(post.name)["objection"] = objection
        if post.action == "block":
            raise self._refusal(post.name, objection)

    def paid(self, event: Ended | Completed) -> None:
        """What the reply has cost, should its caller not get it."""
        said = event.response if isinstance(event, Completed) else event
        self._usage, self._cost = said.usage, said.cost

    def refused(self) -> None:
        """The provider has answered, and the caller gets an error: the answer is to be paid for."""
        if self._notes is not None:
            self._notes.usage = self._usage
            self._notes.cost = self._cost or Cost("unknown", None, "a guard ended the reply in its midst")

    def show(self, request: Request) -> None:
        """What may be recorded in place of the request."""
        if self._notes is not None:
            self._notes.shown = request

    def _entry(self, guard: str) -> dict[str, Any]:
        self._tally.counts[guard, self._side, self._actions[guard]] += 1
        entry = self._entries.get(guard)
        if entry is None:
            entry = {"guard": guard, "on": self._side, "action": self._actions[guard]}
            self._entries[guard] = entry
            if self._notes is not None:
                self._notes.attributes.setdefault("assay.guards", []).append(entry)
        return entry

    def _refusal(self, guard: str, why: str) -> GuardRejected:
        if self._side == "output":
            return GuardRejected(f"The guard {guard!r} refuses the reply: {why}; ask in another way")
        return GuardRejected(
            f"The guard {guard!r} refuses the request: {why}; change it and send it again", param="messages"
        )
