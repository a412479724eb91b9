"""A worker's journal: what it reserved and settled since the ledger heard of it last. Survives a kill -9.

One line a change, written with one call into the kernel and not synced: it outlives the process, and what a
loss of power takes away is made good from what the worker holds in the ledger.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from assay.gateway.spending.terms import Line, Sums

MAX_BYTES: Final = 1 << 20
"""A longer one is begun anew."""


class Entry(NamedTuple):
    """After it, `open_pico` is reserved for the call (0: nothing), and `line` has become more by the sums."""

    call_id: str
    open_pico: int
    line: Line
    settled: int = 0
    uncertain: int = 0
    calls: int = 0
    unknown: int = 0

    @property
    def sums(self) -> Sums:
        return Sums(self.settled, self.uncertain, self.calls, self.unknown)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


class Journal:
    """The file of one worker, being written. Raises OSError where the disk refuses."""

    def __init__(self, path: Path, opened: Iterable[Entry] = ()) -> None:
        self.path = path
        self.size = 0
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        for entry in opened:
            self.write(entry)

    def write(self, entry: Entry) -> None:
        line = _encode(entry) + b"\n"
        written = os.write(self._file, line)
        if written != len(line):
            # A torn line would swallow the next one.
            os.ftruncate(self._file, self.size)
            raise OSError(28, "the disk is full")
        self.size += written

    def close(self) -> None:
        """Ends it, and takes it away: the ledger knows everything."""
        os.close(self._file)
        self.path.unlink(missing_ok=True)


class Left(NamedTuple):
    """What a dead worker left behind: what was reserved for calls under way, and sums that nobody stored."""

    opened: list[tuple[Line, int]]
    sums: dict[Line, Sums]


def successor(path: Path) -> Path:
    """The journal that follows a long one.

    >>> successor(Path("17-ab-9.jsonl")).name
    '17-ab-10.jsonl'
    """
    base, _, number = path.stem.rpartition("-")
    return path.with_name(f"{base}-{int(number) + 1}{path.suffix}")


def read(path: Path, position: int) -> Left | None:
    """What stands in a journal and the one that follows it, if the ledger has not heard of that yet.

    Sums count from that position on. None where the journal is not there to be read.
    """
    try:
        text = path.read_bytes()
        following = successor(path)
        if following.exists():
            # What is torn there is not followed by anything.
            text = text[: text.rfind(b"\n") + 1] + following.read_bytes()
    except OSError:
        return None
    opened: dict[str, tuple[Line, int]] = {}
    sums: dict[Line, Sums] = {}
    at = 0
    for row in text.split(b"\n")[:-1]:
        here, at = at, at + len(row) + 1
        try:
            entry = _decode(row)
        except msgspec.DecodeError:
            continue
        if entry.open_pico:
            opened[entry.call_id] = entry.line, entry.open_pico
        else:
            opened.pop(entry.call_id, None)
        if here >= position and entry.calls:
            sums.setdefault(entry.line, Sums()).add(entry.sums)
    return Left(list(opened.values()), sums)
