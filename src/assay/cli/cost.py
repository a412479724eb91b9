"""`assay cost`: what calls have cost, by whom and for what."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal

import typer
from rich.markup import escape

from assay.cli.keys import seconds_of
from assay.cli.shell import JSON_OPTION, Shell, money
from assay.errors import RequestError

if TYPE_CHECKING:
    from assay.trace.costs import CostSum


class By(StrEnum):
    """What costs are summed by."""

    KEY = "key"
    TEAM = "team"
    MODEL = "model"
    PROMPT = "prompt"
    ROUTE = "route"
    PURPOSE = "purpose"
    DAY = "day"


_BY: Final[dict[By, Literal["key", "model", "prompt", "route", "purpose", "day"]]] = {
    By.KEY: "key",
    By.MODEL: "model",
    By.PROMPT: "prompt",
    By.ROUTE: "route",
    By.PURPOSE: "purpose",
    By.DAY: "day",
}


def cost(
    context: typer.Context,
    by: By = typer.Option(By.MODEL, help="Sum by this."),
    since: str | None = typer.Option(None, help="From then on: 7d, 12h, or a date (UTC) such as 2030-01-31."),
    until: str | None = typer.Option(None, help="Until then, in the same ways; a date is not part of it."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Sum what calls have cost, tries that failed included. What is unknown is counted, never taken for 0."""
    from assay.trace.costs import costs

    shell: Shell = context.obj
    since_ns, until_ns = _moment(since), _moment(until)
    with shell.stores() as stores:
        if by is By.TEAM:
            found = _by_team(costs(stores.store, "key", since_ns=since_ns, until_ns=until_ns), stores)
        else:
            found = costs(stores.store, _BY[by], since_ns=since_ns, until_ns=until_ns)
        names = {key.id: key.name for key in stores.keys.list(revoked=True)} if by is By.KEY else {}
    if as_json:
        shell.json(_as_json(by, found, names))
        return
    columns = {by.value: "left", "calls": "right", "tries that failed": "right", "tokens in": "right"}
    columns |= {"tokens out": "right", "exact": "right", "estimated": "right", "unknown": "right"}
    rows = [_row(names.get(one.name or "", one.name), one) for one in found]
    if len(found) > 1:
        rows.append(_row("together", _together(found)))
    shell.table(columns, rows, "No calls with a cost in that time.")


def _together(found: list[CostSum]) -> CostSum:
    whole = found[0]
    for one in found[1:]:
        whole = whole.plus(one)
    return whole


def _by_team(found: list[CostSum], stores: Any) -> list[CostSum]:
    from assay.types import replace

    teams = {key.id: key.team for key in stores.keys.list(revoked=True)}
    summed: dict[str | None, CostSum] = {}
    for one in found:
        team = teams.get(one.name)
        mine = replace(one, name=team)
        summed[team] = summed[team].plus(mine) if team in summed else mine
    return sorted(summed.values(), key=lambda one: -one.known_usd)


def _as_json(by: By, found: list[CostSum], names: dict[str, str]) -> dict[str, Any]:
    def told(name: str | None, one: CostSum) -> dict[str, Any]:
        return {
            "name": name,
            "calls": one.calls,
            "tries": one.tries,
            "usd": None if one.unknown else one.known_usd,
            "exact_usd": one.exact_usd,
            "estimated_usd": one.estimated_usd,
            "estimated": one.estimated,
            "unknown": one.unknown,
            "tokens_in": one.tokens_in,
            "tokens_out": one.tokens_out,
        }

    rows = []
    for one in found:
        row = told(names.get(one.name or "", one.name), one)
        rows.append({**row, "key_id": one.name} if by is By.KEY else row)
    return {"by": by.value, "rows": rows, "together": told(None, _together(found)) if found else None}


def _row(name: str | None, one: CostSum) -> list[str]:
    return [
        escape(name) if name else "[dim]none[/dim]",
        f"{one.calls:,}",
        f"{one.tries:,}" if one.tries else "",
        f"{one.tokens_in:,}",
        f"{one.tokens_out:,}",
        money(one.exact_usd),
        f"~{money(one.estimated_usd)} ({one.estimated:,})" if one.estimated else "",
        f"[yellow]{one.unknown:,} calls[/yellow]" if one.unknown else "",
    ]


def _moment(text: str | None) -> int | None:
    """Nanoseconds since 1970. A span of time counts back from now; a date without a time is its beginning."""
    if text is None:
        return None
    ago_s = seconds_of(text)
    if ago_s is not None:
        return int((datetime.now(UTC).timestamp() - ago_s) * 1e9)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise RequestError(
            f"{text[:50]!r} is no time: use a number with s, m, h, d or w (7d), or a date (2030-01-31)"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(Decimal(str(moment.timestamp())) * 10**9)
