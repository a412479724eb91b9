"""A Route: where a model's name leads, in which order its targets are tried, and what each is known to do.

Trying them is assay.gateway.tries; one try is assay.gateway.attempt.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal

from assay.gateway.attempt import DEFAULT_DEADLINE_S, Target
from assay.gateway.breaker import Breaker
from assay.gateway.cache import CacheRules
from assay.gateway.shadow import ShadowOf
from assay.types import Request, Value

Balance = Literal["order", "weighted", "latency"]

_SMOOTHING: Final = 0.2
"""The weight of the newest time to the first event in a target's average."""


class Route(Value):
    """`targets` in their order; `retries` are further tries at each. A model alone is a route of itself.

    `balance` says which is tried first: the first, one drawn by `weights` (the same for the same sticky key),
    or the one that began soonest of late. The others follow as fallbacks.
    """

    name: str
    targets: tuple[Target, ...]
    balance: Balance = "order"
    weights: tuple[float, ...] = ()
    retries: int = 0
    deadline_s: float = DEFAULT_DEADLINE_S
    cache: CacheRules | None = None
    shadow: ShadowOf | None = None


class Health:
    """What is known of one target: its circuit, and how soon it begins to answer (seconds, smoothed)."""

    __slots__ = ("breaker", "first_s")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.breaker = Breaker(clock)
        self.first_s: float | None = None

    def began(self, after_s: float) -> None:
        known = self.first_s
        self.first_s = after_s if known is None else known + _SMOOTHING * (after_s - known)


class Healths:
    """The health of every target of a process, by the target's name: several routes may share one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._known: dict[str, Health] = {}

    def known(self) -> list[tuple[str, Health]]:
        """Every target that was tried so far, by its name."""
        return list(self._known.items())

    def of(self, target: Target) -> Health:
        found = self._known.get(target.name)
        if found is None:
            found = self._known[target.name] = Health(self.clock)
        return found


def ordered(route: Route, request: Request, healths: Healths, draw: random.Random) -> Sequence[Target]:
    """The targets in the order in which this call tries them."""
    targets = route.targets
    if len(targets) == 1 or route.balance == "order":
        return targets
    if route.balance == "latency":
        # One that was never tried comes first: it can only be known by trying.
        return sorted(targets, key=lambda target: healths.of(target).first_s or 0.0)
    share = _share(route, request, draw)
    first = _drawn(route.weights or (1.0,) * len(targets), share)
    return (targets[first], *targets[:first], *targets[first + 1 :])


def _share(route: Route, request: Request, draw: random.Random) -> float:
    """A number in [0, 1): the same for the same sticky key on the same route."""
    sticky = request.context.sticky
    if sticky is None:
        return draw.random()
    digest = hashlib.blake2b(f"{route.name}\0{sticky}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _drawn(weights: Sequence[float], share: float) -> int:
    at = share * sum(weights)
    for number, weight in enumerate(weights):
        at -= weight
        if at < 0:
            return number
    return len(weights) - 1
