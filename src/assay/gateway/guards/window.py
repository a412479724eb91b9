"""Finding by rules in a text that may come in pieces: the same result however it is cut.

A rule says how far it looks (`reach`). A place where it may begin is decided once the text goes that far, or
once what stands there can no longer become a match; text is released up to the first place that is not.
What a rule means (kinds, checksums) lives in .patterns and .deny; what becomes of a finding in .guard.
"""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

_BEHIND: Final = 3
"""How many characters before a place a rule may look at."""
_TRIM: Final = 512
"""So much decided text is kept before the buffer is cut: cutting it at each piece would cost more."""

Span = tuple[int, int]
Unfinished = Callable[[str, int], int | None]
"""Takes a text and the first place to look at."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What to find. `start` matches at most `reach` characters, looking ahead included, and is what counts.

    `mark` is a text that every match has in it, or a pattern that is found fast in one. `accept` gives the
    span of a match that counts, None for one that does not. Behind the match goes on what `run` matches,
    without bound, or all up to a match of `until` within `limit` characters. `unfinished` says where, at the
    end of a text, something begins that may yet become a match; where `word` is set it need not know of what
    is in the last word, which is held back by itself.
    """

    kind: str
    start: re.Pattern[str]
    reach: int
    mark: str | re.Pattern[str] = ""
    accept: Callable[[re.Match[str]], Span | None] | None = None
    run: re.Pattern[str] | None = None
    until: re.Pattern[str] | None = None
    limit: int = 0
    unfinished: Unfinished | None = None
    word: bool = False


class Wanted(NamedTuple):
    """A rule and what is done about it: `keeps` text back until it is decided, and `hides` what it finds."""

    rule: Rule
    guard: str
    hides: bool
    keeps: bool


class Plan(tuple[Wanted, ...]):
    """Rules made ready once for many windows; those for words with a fixed mark are looked for at once."""

    plain: tuple[int, ...]
    others: tuple[int, ...]
    marks: re.Pattern[str]
    reach: int
    keeps: bool

    def __new__(cls, wanted: Iterable[Wanted]) -> Self:
        plan = super().__new__(cls, wanted)
        numbers = range(len(plan))
        plan.plain = tuple(number for number in numbers if _is_plain(plan[number].rule))
        plan.others = tuple(number for number in numbers if number not in plan.plain)
        marks = {str(plan[number].rule.mark) for number in plan.plain}
        plan.marks = re.compile("|".join(map(re.escape, sorted(marks))) or "(?!)")
        plan.reach = max((plan[number].rule.reach for number in plan.plain), default=0)
        plan.keeps = any(plan[number].keeps for number in plan.plain)
        return plan


def _is_plain(rule: Rule) -> bool:
    return rule.word and rule.unfinished is None and isinstance(rule.mark, str) and bool(rule.mark)


@dataclass(eq=False, slots=True)
class _Hit:
    wanted: Wanted
    start: int
    end: int
    number: int
    told: bool = False
    key: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.key = (self.start, self.number)


class Window:
    """One text under some rules. Feed it in pieces, the last one with `final`.

    Each `feed` gives what may be released, with `[kind]` in the place of what is hidden, and the findings
    that were decided. Findings that overlap are replaced as one, under the kind that begins first.
    """

    __slots__ = ("_buffer", "_calm", "_covered", "_hits", "_out", "_pos", "_runs", "_wanted", "changed")

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = wanted if isinstance(wanted, Plan) else Plan(wanted)
        # Where all plain rules stand while none has anything to look at; None while one has.
        self._calm: int | None = 0
        self._buffer = ""
        self._pos = [0] * len(wanted)
        self._runs: list[_Hit | None] = [None] * len(wanted)
        self._hits: list[_Hit] = []
        self._out = 0
        self._covered = 0
        self.changed = False

    def feed(self, text: str, *, final: bool = False) -> tuple[str, list[Wanted]]:
        buffer = self._buffer = self._buffer + text if self._buffer else text
        end = len(buffer)
        word = 0 if final else 1 + max(buffer.rfind(" "), buffer.rfind("\n"), buffer.rfind("\t"))
        found: list[Wanted] = []
        plan = self._wanted
        release = end
        if plan.plain:
            low = end + 1 if final else max(0, word, end - plan.reach + 1)
            if plan.keeps:
                release = min(end, low)
            self._plain(low, found, final=final)
        for number in plan.others:
            wanted = plan[number]
            decided = end + 1 if final else _decided(wanted.rule, buffer, end, word)
            if wanted.keeps and decided < release:
                release = decided
            self._look(number, wanted, decided, found, settled=min(decided, end), final=final)
        released = self._release(release)
        if not final:
            self._trim()
        return released, found

    def flush(self) -> tuple[str, list[Wanted]]:
        """Releases all, with what is a match as it stands hidden: what follows in the reply stands elsewhere.

        Should the text go on after all, so does a match under way. Of one that is cut in two this way the
        second piece is hidden; the first is out.
        """
        found: list[Wanted] = []
        self._stir()
        for number, wanted in enumerate(self._wanted):
            self._look(number, wanted, len(self._buffer) + 1, found, settled=0)
        return self._release(len(self._buffer)), found

    def _plain(self, decided: int, found: list[Wanted], *, final: bool) -> None:
        """The plain rules: one search while the text has none of their marks."""
        buffer, plan = self._buffer, self._wanted
        settled = min(decided, len(buffer))
        if self._calm is not None:
            if plan.marks.search(buffer, self._calm) is None:
                self._calm = max(self._calm, settled)
                return
            self._stir()
        for number in plan.plain:
            self._look(number, plan[number], decided, found, settled=settled, final=final)
        if all(self._runs[number] is None and self._pos[number] == settled for number in plan.plain):
            self._calm = settled

    def _stir(self) -> None:
        if self._calm is not None:
            for number in self._wanted.plain:
                self._pos[number] = self._calm
            self._calm = None

    def _look(
        self,
        number: int,
        wanted: Wanted,
        decided: int,
        found: list[Wanted],
        *,
        settled: int,
        final: bool = False,
    ) -> None:
        """Findings of one rule that begin before `decided`; before `settled` none can begin any more."""
        rule, buffer = wanted.rule, self._buffer
        going = self._runs[number]
        if going is not None and not self._went_on(number, going, final=final):
            return
        pos = self._pos[number]
        if rule.mark and not _marked(rule.mark, buffer, pos):
            self._pos[number] = max(pos, settled)
            return
        while True:
            match = rule.start.search(buffer, pos)
            if match is None or match.start() >= decided:
                self._pos[number] = max(self._pos[number], settled)
                return
            span = match.span() if rule.accept is None else rule.accept(match)
            if span is None:
                pos = match.start() + 1
                continue
            hit = _Hit(wanted, span[0], span[1], number)
            found.append(wanted)
            if wanted.hides:
                insort(self._hits, hit, key=lambda one: one.key)
            pos = self._pos[number] = span[1]
            if rule.run is not None or rule.until is not None:
                self._runs[number] = hit
                if not self._went_on(number, hit, final=final):
                    return
                pos = self._pos[number]

    def _went_on(self, number: int, hit: _Hit, *, final: bool) -> bool:
        """Whether the finding that had no end yet has one now."""
        rule, buffer, pos = hit.wanted.rule, self._buffer, self._pos[number]
        end = len(buffer)
        if rule.run is not None:
            match = rule.run.match(buffer, pos)
            stop = pos if match is None else match.end()
            ended = stop < end or final
            self._pos[number] = stop
        else:
            assert rule.until is not None
            last = hit.start + rule.limit
            match = rule.until.search(buffer, max(pos - rule.reach, hit.end, 0), max(0, min(end, last)))
            stop = min(end, last) if match is None else match.end()
            ended = match is not None or end >= last or final
            self._pos[number] = stop
            if not ended:
                # The text before is needed for an end mark that is under way.
                self._grow(hit, stop, until=True)
                return False
        self._grow(hit, stop, until=False)
        if ended:
            self._runs[number] = None
        return ended

    def _grow(self, hit: _Hit, stop: int, *, until: bool) -> None:
        if not until:
            hit.end = max(hit.end, stop)
        if hit.told:
            self._covered = max(self._covered, stop)

    def _release(self, limit: int) -> str:
        buffer, hits, pieces, taken = self._buffer, self._hits, [], 0
        self._out = max(self._out, min(self._covered, len(buffer)))
        for hit in hits:
            if hit.start >= limit:
                break
            taken += 1
            if hit.start >= self._covered:
                if hit.start > self._out:
                    pieces.append(buffer[self._out : hit.start])
                pieces.append(f"[{hit.wanted.rule.kind}]")
                self.changed = True
            hit.told = True
            going = self._runs[hit.number]
            self._covered = max(self._covered, self._pos[hit.number] if going is hit else hit.end)
            self._out = max(self._out, min(self._covered, len(buffer)))
        del hits[:taken]
        if limit > self._out:
            pieces.append(buffer[self._out : limit])
            self._out = limit
        return "".join(pieces)

    def _trim(self) -> None:
        """Forgets what no rule will look at again."""
        if self._out < _TRIM:
            return
        kept = _BEHIND + max((hit.wanted.rule.reach for hit in self._runs if hit is not None), default=0)
        others = [self._pos[number] for number in self._wanted.others]
        plain = [self._pos[number] for number in self._wanted.plain] if self._calm is None else [self._calm]
        cut = min(self._out, *others, *plain) - kept
        if cut < _TRIM:
            return
        self._buffer = self._buffer[cut:]
        self._pos = [pos - cut for pos in self._pos]
        if self._calm is not None:
            self._calm -= cut
        self._out -= cut
        self._covered -= cut
        for hit in {*self._hits, *(hit for hit in self._runs if hit is not None)}:
            hit.start -= cut
            hit.end -= cut
            hit.key = (hit.start, hit.number)


def _marked(mark: str | re.Pattern[str], buffer: str, pos: int) -> bool:
    if type(mark) is str:
        return buffer.find(mark, pos) >= 0
    return mark.search(buffer, pos) is not None  # type: ignore[union-attr]


def _decided(rule: Rule, buffer: str, end: int, word: int) -> int:
    """Where the first place is at which the rule may still find something, depending on what follows."""
    low = end - rule.reach + 1
    if low < 0:
        low = 0
    if rule.unfinished is None:
        return word if rule.word and word > low else low
    held = rule.unfinished(buffer, low)
    if held is None:
        held = end
    if rule.word and word < held:
        held = word
    return held if held > low else low
