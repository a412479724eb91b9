"""The policy of budgets: before a call the most that it can cost is reserved. The money is in .spending.

What a call has cost in the end is told to the purses by its span, failed tries included, so that the ledger
and the spans say the same. A call that may go ahead at once gets no layer of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal

from anyio import to_thread

from assay.errors import BudgetExceeded
from assay.gateway.ceiling import Ceiling, Counting, NoPrice
from assay.gateway.route import Route
from assay.gateway.spending import Account, Exceeded, Purses
from assay.gateway.spending.terms import usd
from assay.gateway.tries import Again
from assay.keys import Key
from assay.types import Event, Handler, Policy, Request, closing


def budgets(
    purses: Purses, find: Callable[[str], Key], routes: Mapping[str, Route], counting: Counting
) -> Policy:
    """Holds keys and their teams to their budgets. Calls without a key pass untouched.

    Raises BudgetExceeded naming the budget, what is left of it, and when it begins anew; also where a call
    cannot be counted because a price is not known.
    """
    door = _Door(purses, find, routes, counting)

    def policy(handler: Handler) -> Handler:
        def budgeted(request: Request) -> AsyncIterator[Event]:
            if request.context.key_id is None or (purses.ready() and door.passes(request)):
                return handler(request)
            return waiting(request)

        async def waiting(request: Request) -> AsyncIterator[Event]:
            await door.wait(request)
            async with closing(handler(request)) as events:
                async for event in events:
                    yield event

        return budgeted

    return policy


class _Door:
    """Lets a call in once there is money reserved for it, where it is under a budget at all."""

    def __init__(
        self, purses: Purses, find: Callable[[str], Key], routes: Mapping[str, Route], counting: Counting
    ) -> None:
        self._purses = purses
        self._find = find
        self._ceilings = {name: Ceiling(route, counting) for name, route in routes.items()}

    def passes(self, request: Request) -> bool:
        """Whether it may go ahead, with what it needs reserved."""
        accounts, pico = self._need(request)
        return not pico or self._draw(request, accounts, pico)

    async def wait(self, request: Request) -> None:
        """Returns when it may go ahead. Raises BudgetExceeded, StorageError."""
        while True:
            while not self._purses.ready():
                await to_thread.run_sync(self._purses.prepare)
            accounts, pico = self._need(request)
            if not pico or self._draw(request, accounts, pico):
                return
            await _topped_up(self._purses, self._find, accounts, pico)

    def _draw(self, request: Request, accounts: tuple[Account, ...], pico: int) -> bool:
        context = request.context
        assert context.key_id is not None
        assert context.parent_span_id is not None, "the trace is outside"
        now = self._purses.ledger.clock_ns()
        return self._purses.draw(context.parent_span_id, context.key_id, accounts, pico, now)

    def _need(self, request: Request) -> tuple[tuple[Account, ...], int]:
        """The budgets of who calls, and how much of each it may take: 0 where nothing is to be reserved."""
        key = self._find(request.context.key_id or "")
        accounts = self._purses.accounts(key.id, key.team, self._purses.ledger.clock_ns())
        ceiling = self._ceilings.get(request.model)
        if not accounts or ceiling is None or ceiling.free or request.operation == "count_tokens":
            return (), 0
        try:
            return accounts, ceiling.most(request)
        except NoPrice as error:
            raise BudgetExceeded(
                f"{_whose(accounts[0], self._find)} has a budget, and {error}; name its price list with "
                "prices at its provider, or say how it is to be counted: assumed_price under its model, or "
                "unknown_usd_per_mtok_in and unknown_usd_per_mtok_out under [budget] in assay.toml",
                code="price_unknown",
                param="model",
            ) from None


def further_tries(purses: Purses, find: Callable[[str], Key]) -> Again:
    """Reserves for a further try of a call, where the one before it may have been billed.

    Raises BudgetExceeded.
    """

    async def again(request: Request) -> None:
        call_id = request.context.parent_span_id
        while call_id is not None and not purses.again(call_id):
            await _topped_up(purses, find, *purses.need(call_id))

    return again


async def _topped_up(
    purses: Purses, find: Callable[[str], Key], accounts: tuple[Account, ...], pico: int
) -> None:
    try:
        await to_thread.run_sync(purses.top_up, accounts, pico)
    except Exceeded as error:
        raise _exceeded(error, pico, find) from None


def _exceeded(error: Exceeded, pico: int, find: Callable[[str], Key]) -> BudgetExceeded:
    standing = error.standing
    account = Account(standing.kind, standing.holder, standing.period)
    per = "in total" if standing.per == "total" else f"a {standing.per}"
    if standing.resets_ns is None:
        when = "It does not begin anew"
    else:
        moment = datetime.fromtimestamp(standing.resets_ns / 1e9, UTC)
        when = f"It begins anew at {moment:%Y-%m-%d %H:%M} UTC"
    under_way = f", {_dollars(standing.reserved_pico)} reserved" if standing.reserved_pico else ""
    target = f"team:{standing.holder}" if standing.kind == "team" else find(standing.holder).name
    return BudgetExceeded(
        f"{_whose(account, find)} may spend {_dollars(standing.limit_pico)} {per}, of which "
        f"{_dollars(max(0, standing.left_pico))} is left ({_dollars(standing.spent_pico)} spent{under_way}); "
        f"this call may cost up to {_dollars(pico)}. {when}; ask for less (max_tokens), or raise it: "
        f"assay key budget '{target}' --per {standing.per} --usd ..."
    )


def _whose(account: Account, find: Callable[[str], Key]) -> str:
    if account.kind == "team":
        return f"The team {account.holder!r}"
    return f"The key {find(account.holder).name!r}"


def _dollars(picodollars: int) -> str:
    """To six digits where it is little, never rounded up.

    >>> _dollars(12_345_678_901_234), _dollars(1_234_567_890), _dollars(5_000_000_000_000)
    ('$12.34', '$0.001234', '$5.00')
    """
    amount = usd(picodollars)
    digits = Decimal("0.01") if amount >= 1 or not amount else Decimal("0.000001")
    return f"${amount.quantize(digits, ROUND_DOWN)}"
