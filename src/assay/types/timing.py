"""Where the time of a call goes: each part notes what it alone knows, whoever records or tells it asks here.

A Timing is found by the task that the call runs in, not handed through every layer, because it says nothing
about what is asked or answered. Times are seconds of `time.perf_counter`. A note costs some 0.1 us.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import perf_counter


class Timing:
    """One call. Of a call that is tried several times, the last try; what went before counts as policies.

    `received`: its bytes are here. `understood`: they are parsed. `asked`: an upstream's turn. `sent`: its
    request is written, and goes out as soon as there is a connection, which took `waited_s`. `head`: the
    upstream has begun to answer. `read`: it has said everything. `decoded`: that is understood. `over`: the
    call is recorded, and what the task does next is another one.
    """

    __slots__ = (
        "asked",
        "decoded",
        "head",
        "over",
        "read",
        "received",
        "sent",
        "trace_id",
        "understood",
        "waited_s",
    )

    def __init__(self) -> None:
        self.received = self.understood = perf_counter()
        self.asked: float | None = None
        self.sent: float | None = None
        self.head: float | None = None
        self.read: float | None = None
        self.decoded: float | None = None
        self.waited_s = 0.0
        self.over = False
        self.trace_id: str | None = None

    def ask(self) -> None:
        """A try begins; nothing is known of it yet."""
        self.asked = perf_counter()
        self.sent = self.head = self.read = self.decoded = None
        self.waited_s = 0.0

    def phases(self, now: float) -> dict[str, float]:
        """Seconds by phase, as far as the call got until `now`; together they are the time since `received`.

        translation: parsing, and the way into the upstream's dialect and back. policies: everything else that
        Assay does, earlier tries included. queue: waiting for a connection, opening it included. head: until
        the upstream began to answer. body: until it had said everything.
        """
        translation = self.understood - self.received
        if self.asked is None:
            return {"translation": translation, "policies": now - self.understood}
        found = {"translation": translation, "policies": self.asked - self.understood}
        if self.sent is None:
            # An upstream in this process: there is nothing to translate or to connect to.
            return {**found, "body": now - self.asked}
        found["translation"] += self.sent - self.asked
        found["queue"] = self.waited_s
        found["head"] = (self.head or now) - self.sent - self.waited_s
        if self.head is None:
            return found
        found["body"] = (self.read or now) - self.head
        if self.read is not None and self.decoded is not None:
            found["translation"] += self.decoded - self.read
            found["policies"] += now - self.decoded
        return found


_current: ContextVar[Timing | None] = ContextVar("assay_timing", default=None)


def timing() -> Timing | None:
    """That of the call which this task works on."""
    return _current.get()


def ongoing() -> Timing:
    """That of the call which this task works on, or a new one where that call is recorded already."""
    found = _current.get()
    return begin() if found is None or found.over else found


def begin() -> Timing:
    """A new one, for the call that this task begins."""
    begun = Timing()
    _current.set(begun)
    return begun
