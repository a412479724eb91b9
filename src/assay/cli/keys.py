"""`assay key`: who may call, which models, until when."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

import typer
from rich.markup import escape

from assay.cli.shell import JSON_OPTION, Shell, ago
from assay.errors import RequestError

if TYPE_CHECKING:
    from assay.keys import Issued, Key
    from assay.types.limits import Limits

app = typer.Typer(no_args_is_help=True, help="Keys: who may call, which models, until when.")

REF = typer.Argument(help="A key's name, or its id.")
EXPIRES = typer.Option(
    None, help="When it ends: 90d, 12h, 30m, or a date such as 2030-01-31; left out: never."
)

REQUESTS = typer.Option(None, min=1, help="Calls a minute; left out: as many as it likes.")
TOKENS = typer.Option(None, min=1, help="Tokens a minute; left out: as many as it likes.")
AT_ONCE = typer.Option(None, min=1, help="Calls at the same time; left out: as many as it likes.")

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@app.command("create")
def create_key(
    context: typer.Context,
    name: str = typer.Argument(help="Who or what calls with it: a person, a service."),
    team: str | None = typer.Option(None, help="Whose it is, for cost and budgets."),
    models: list[str] = typer.Option(
        ["*"], "--model", "-m", help="A model or route that it may use, or a glob; may be repeated."
    ),
    expires: str | None = EXPIRES,
    console: bool = typer.Option(
        False, "--console", help="It also opens the console, with everybody's calls, from other machines."
    ),
    requests_per_minute: int | None = REQUESTS,
    tokens_per_minute: int | None = TOKENS,
    at_once: int | None = AT_ONCE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Make a key, and show it this once. From the first key on, callers need one."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        issued = stores.keys.create(
            name,
            team=team,
            models=models,
            expires_s=None if expires is None else seconds_until(expires, time.time()),
            console=console,
            limits=_limits(requests_per_minute, tokens_per_minute, at_once),
        )
    _show(shell, issued, as_json)


@app.command("list")
def list_keys(
    context: typer.Context,
    revoked: bool = typer.Option(False, "--all", help="Those that were revoked, too."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List the keys, by what is public of them: never the keys themselves."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        found = stores.keys.list(revoked=revoked)
    if as_json:
        shell.json(found)
        return
    now_ns = time.time_ns()
    rows = [
        [
            f"ask-{key.id}-…",
            escape(key.name),
            escape(key.team or ""),
            escape(", ".join(key.models)) + (" + console" if key.console else ""),
            _told(key.limits),
            ago(key.created_ns),
            "never" if key.last_used_ns is None else ago(key.last_used_ns),
            _state(key, now_ns),
        ]
        for key in found
    ]
    columns = {"key": "left", "name": "left", "team": "left", "may use": "left", "may make": "left"}
    columns |= {"created": "left", "last used": "left", "": "left"}
    shell.table(
        columns, rows, "No keys. Callers on this machine need none until you make one: assay key create NAME"
    )


@app.command("revoke")
def revoke_key(context: typer.Context, ref: str = REF, as_json: bool = JSON_OPTION) -> None:
    """End a key for good. Servers that run refuse it within a second."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        key = stores.keys.revoke(ref)
    if as_json:
        shell.json(key)
        return
    shell.out.print(f"The key {escape(key.name)} ({key.id}) is revoked.")


@app.command("rotate")
def rotate_key(
    context: typer.Context,
    ref: str = REF,
    grace: str | None = typer.Option(
        None, help="How long the key of before still works: 24h, 7d, or until a date; left out: not at all."
    ),
    expires: str | None = typer.Option(None, help="When it ends from now on; left out: as before."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Give a key a new secret, and show it this once. Its id, name, team, models and budgets stay."""
    shell: Shell = context.obj
    now_s = time.time()
    with shell.stores() as stores:
        issued = stores.keys.rotate(
            ref,
            grace_s=0.0 if grace is None else seconds_until(grace, now_s),
            expires_s=None if expires is None else seconds_until(expires, now_s),
        )
    _show(shell, issued, as_json)


@app.command("limit")
def limit_key(
    context: typer.Context,
    ref: str = REF,
    requests_per_minute: int | None = REQUESTS,
    tokens_per_minute: int | None = TOKENS,
    at_once: int | None = AT_ONCE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Set what a key may ask, in place of what was set before. Servers that run hold it within a second."""
    shell: Shell = context.obj
    limits = _limits(requests_per_minute, tokens_per_minute, at_once)
    with shell.stores() as stores:
        key = stores.keys.limit(ref, limits)
    if as_json:
        shell.json(key)
        return
    shell.out.print(f"The key {escape(key.name)} ({key.id}) may make: {_told(key.limits)}.")


def _limits(requests_per_minute: int | None, tokens_per_minute: int | None, at_once: int | None) -> Limits:
    # The value's own module is light; the store's are not.
    from assay.types.limits import Limits

    return Limits(requests_per_minute, tokens_per_minute, at_once)


def _told(limits: Limits) -> str:
    """What of it is limited, for people."""
    found = (
        (limits.requests_per_minute, "requests a minute"),
        (limits.tokens_per_minute, "tokens a minute"),
        (limits.at_once, "at once"),
    )
    return ", ".join(f"{most:,} {what}" for most, what in found if most is not None) or "any calls"


def seconds_of(text: str) -> float | None:
    """`90d` and the like in seconds; None for anything else."""
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text.strip(), re.ASCII)
    return float(int(found[1]) * _UNITS[found[2]]) if found else None


def seconds_until(text: str, now_s: float) -> float:
    """`90d` and the like, or the time until a date, in seconds. Raises RequestError for anything else."""
    if (found := seconds_of(text)) is not None:
        return found
    try:
        moment = datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, OSError) as error:
        raise RequestError(
            f"{text[:50]!r} is no time: use a number with s, m, h, d or w (90d), or a date (2030-01-31)"
        ) from error
    left = moment.timestamp() - now_s
    if left <= 0:
        raise RequestError(f"{text!r} is over already; give a time to come")
    return left


def _show(shell: Shell, issued: Issued, as_json: bool) -> None:
    key = issued.key
    if as_json:
        shell.json(issued)
        return
    # The key alone goes to standard output, so that it can be piped to where it is kept.
    shell.err.print(f"The key {escape(key.name)} ({key.id}), shown this once and stored nowhere:")
    shell.out.print(issued.token, markup=False, soft_wrap=True)
    if key.old_until_ns is not None:
        shell.err.print(f"The one before works until {ago(key.old_until_ns)}.")


def _state(key: Key, now_ns: int) -> str:
    match key.state(now_ns):
        case "revoked":
            return f"[red]revoked {ago(key.revoked_ns or 0)}[/red]"
        case "expired":
            return f"[red]expired {ago(key.expires_ns or 0)}[/red]"
        case "active":
            ends = "" if key.expires_ns is None else f" until {ago(key.expires_ns)}"
            return f"[green]active[/green]{ends}"
