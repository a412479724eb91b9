"""`assay key budget`: what keys and teams may spend, have spent and have left."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Literal, cast

import typer
from rich.markup import escape

from assay.cli.shell import JSON_OPTION, Shell, money
from assay.errors import NotFound, RequestError
from assay.types import Value

if TYPE_CHECKING:
    from assay.gateway.spending import Per, Standing

_PERS = ("day", "month", "total")
_TEAM = "team:"


class BudgetLine(Value, omit_defaults=False):
    """A budget, in US dollars. `uncertain_usd` is the part of `spent_usd` whose cost nobody knows."""

    kind: Literal["key", "team"]
    name: str
    key_id: str | None
    per: str
    period: str
    limit_usd: Decimal
    spent_usd: Decimal
    uncertain_usd: Decimal
    reserved_usd: Decimal
    left_usd: Decimal
    resets_ns: int | None


def budget(
    context: typer.Context,
    of: str | None = typer.Argument(None, metavar="KEY|team:NAME", help="Whose; left out: list all budgets."),
    usd: str | None = typer.Option(None, help="How many US dollars."),
    per: str | None = typer.Option(None, help="day, month (both by UTC), or total."),
    remove: bool = typer.Option(False, "--remove", help="No longer limit it."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Set what a key or team may spend, or list budgets and what is left. Servers follow within a second."""
    shell: Shell = context.obj
    if of is None and (usd is not None or per is not None or remove):
        raise RequestError("Whose budget? Name a key, or a team as team:NAME")
    with shell.stores() as stores:
        names = {key.id: key.name for key in stores.keys.list(revoked=True)}
        kind, holder = (None, None) if of is None else _holder(stores, of)
        if kind is not None and (usd is not None or remove):
            for one in _wanted(per, remove=remove):
                stores.ledger.set(kind, holder, one, None if remove else _pico(usd))
        elif per is not None:
            raise RequestError("How much? Give --usd, or --remove")
        lines = [
            _line(standing, names)
            for standing in stores.ledger.standings()
            if kind is None or (standing.kind, standing.holder) == (kind, holder)
        ]
    if as_json:
        shell.json(lines)
        return
    columns = {"whose": "left", "budget": "right", "per": "left", "spent": "right", "reserved": "right"}
    columns |= {"left": "right", "begins anew": "left"}
    rows = [_row(line) for line in lines]
    nothing = "No budgets" if of is None else f"{of} has no budget"
    shell.table(columns, rows, f"{nothing}. Set one: assay key budget {of or 'KEY'} --usd 5 --per day")


def _holder(stores: object, of: str) -> tuple[str, str]:
    keys = stores.keys  # type: ignore[attr-defined]
    if not of.startswith(_TEAM):
        return "key", keys.get(of).id
    team = of.removeprefix(_TEAM)
    teams = sorted({key.team for key in keys.list(revoked=True) if key.team})
    if team not in teams:
        there = f"there are: {', '.join(teams)}" if teams else "no key has one"
        raise NotFound(
            f"There is no team {team[:100]!r} ({there}); a key gets one with 'assay key create --team'"
        )
    return "team", team


def _wanted(per: str | None, *, remove: bool) -> tuple[Per, ...]:
    if per is None and remove:
        return cast("tuple[Per, ...]", _PERS)
    if per not in _PERS:
        raise RequestError("Per what? Give --per day, month or total")
    return (cast("Per", per),)


def _pico(text: str | None) -> int:
    try:
        amount = Decimal(text or "")
        pico = int(amount * 10**12)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise RequestError(f"{text!r} is no amount of dollars; give a number such as 5 or 0.50") from error
    if not 0 <= amount <= 1_000_000:
        raise RequestError("A budget is from 0 to 1000000 dollars; --remove takes it away")
    return pico


def _line(standing: Standing, names: dict[str, str]) -> BudgetLine:
    from assay.gateway.spending.terms import usd

    is_key = standing.kind == "key"
    return BudgetLine(
        standing.kind,
        names.get(standing.holder, standing.holder) if is_key else standing.holder,
        standing.holder if is_key else None,
        standing.per,
        standing.period,
        usd(standing.limit_pico),
        usd(standing.spent_pico),
        usd(standing.uncertain_pico),
        usd(standing.reserved_pico),
        usd(standing.left_pico),
        standing.resets_ns,
    )


def _row(line: BudgetLine) -> list[str]:
    uncertain = f" ({money(line.uncertain_usd)} uncertain)" if line.uncertain_usd else ""
    colour = "red" if line.left_usd <= 0 else "green"
    name = line.name if line.kind == "key" else f"{_TEAM}{line.name}"
    return [
        escape(name),
        money(line.limit_usd),
        line.per,
        f"{money(line.spent_usd)}{uncertain}",
        money(line.reserved_usd),
        f"[{colour}]{money(line.left_usd)}[/{colour}]",
        "never" if line.resets_ns is None else _moment(line.resets_ns),
    ]


def _moment(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns / 1e9, UTC):%Y-%m-%d %H:%M} UTC"
