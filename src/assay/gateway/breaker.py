"""A circuit breaker for one target: who keeps failing is left alone for a while. No I/O, no timers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

FAILURES: Final = 5
"""Failures in a row that open the circuit."""
COOLDOWN_S: Final = 10.0
"""How long it stays open before one call may probe."""
MAX_COOLDOWN_S: Final = 300.0
"""Each probe that fails doubles the wait, up to this."""

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Closed: calls pass. Open: none does. Half-open: one probe at a time decides.

    `clock` gives seconds that only grow.

    >>> now = 0.0
    >>> breaker = Breaker(lambda: now, failures=1)
    >>> breaker.failed(); breaker.allows()
    False
    >>> now = 10.0
    >>> breaker.allows(), breaker.allows()
    (True, False)
    >>> breaker.succeeded(); breaker.state
    'closed'
    """

    __slots__ = ("_clock", "_cooldown_s", "_failures", "_in_a_row", "_probing", "_until", "_wait_s")

    def __init__(
        self, clock: Callable[[], float], *, failures: int = FAILURES, cooldown_s: float = COOLDOWN_S
    ) -> None:
        self._clock = clock
        self._failures = failures
        self._cooldown_s = cooldown_s
        self._wait_s = cooldown_s
        self._in_a_row = 0
        self._until: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        if self._until is None:
            return "closed"
        return "half-open" if self._clock() >= self._until else "open"

    def allows(self) -> bool:
        """Whether a call may go now. Half-open, it is the probe, and has to report how it ended."""
        match self.state:
            case "closed":
                return True
            case "open":
                return False
            case "half-open":
                if self._probing:
                    return False
                self._probing = True
                return True

    def succeeded(self) -> None:
        self._in_a_row = 0
        self._until = None
        self._probing = False
        self._wait_s = self._cooldown_s

    def failed(self, after_s: float | None = None) -> None:
        """`after_s`: the provider itself said when to come again."""
        self._in_a_row += 1
        if self._until is not None:
            self._wait_s = min(self._wait_s * 2, MAX_COOLDOWN_S)
        elif self._in_a_row < self._failures:
            return
        self._probing = False
        self._until = self._clock() + max(self._wait_s, after_s or 0.0)

    def abandoned(self) -> None:
        """The call was given up by its caller: it says nothing of the provider."""
        self._probing = False
