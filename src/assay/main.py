"""The process: joins the command line, the server and the console, and decides how errors end it."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from typer.rich_utils import rich_format_error

from assay.cli import EXIT_ERROR, Shell, build
from assay.config import Config, ServerSettings, is_loopback
from assay.errors import AssayError, ConfigError
from assay.types import replace

if TYPE_CHECKING:
    from assay.app import App
    from assay.server.asgi import ASGIApp

_GRACE_S = 10
"""How long calls in flight may take to finish after the first signal; a second Ctrl-C ends them."""


def up(
    context: typer.Context,
    host: str | None = typer.Option(None, help="The address to listen on; the default is 127.0.0.1."),
    port: int | None = typer.Option(None, min=0, max=65535, help="The port; the default is 8700."),
) -> None:
    """Serve the platform until Ctrl-C: the API, and the console in the browser."""
    shell: Shell = context.obj
    config = shell.config
    server = replace(
        config.server,
        host=config.server.host if host is None else host,
        port=config.server.port if port is None else port,
    )
    serve(shell, replace(config, server=server))


def serve(shell: Shell, config: Config) -> None:
    """Serves until SIGINT or SIGTERM, then finishes the calls in flight and stores every span."""
    import uvicorn

    from assay.app import open_app
    from assay.server.app import Server
    from assay.server.upkeep import upkeep

    _check_reachable(shell, config)
    listener = _listen(config.server)
    port = listener.getsockname()[1]

    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)

    async def work() -> None:
        async with open_app(config) as app:
            pages = _pages(shell, app)
            # What is loaded by now stays: the collector need not look at it again for each new object.
            gc.collect()
            gc.freeze()
            gc.set_threshold(20_000, 50, 50)
            _announce(shell, app, f"http://{_in_url(config.server.host)}:{port}")
            settings = uvicorn.Config(
                Server(app, pages=pages),
                lifespan="off",
                access_log=False,
                proxy_headers=False,
                log_level="warning",
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=_GRACE_S,
            )
            # A signal that came while everything was opened ends it before it begins.
            if not noted:
                async with upkeep(app):
                    await uvicorn.Server(settings).serve(sockets=[listener])
        shell.err.print("Stopped; every span is stored.")

    # uvicorn raises the signal that ended it once more at its end, when the spans are still to be stored.
    previous = {name: signal.signal(name, note) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        shell.run(work, fast=True)
    finally:
        listener.close()
        for name, handler in previous.items():
            signal.signal(name, handler)


def _check_reachable(shell: Shell, config: Config) -> None:
    """Nobody is reached by other machines without keys that tell callers apart."""
    host = config.server.host
    if is_loopback(host):
        return
    with shell.stores() as stores:
        if not stores.keys.exist():
            raise ConfigError(
                f"host {host!r} can be reached from other machines, and there are no keys to tell callers "
                f"apart; make one first: assay key create NAME"
            )


def _listen(settings: ServerSettings) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {host}:{port} ({error.strerror}); choose another port with --port, "
            f"or stop what listens there"
        ) from error


def _in_url(host: str) -> str:
    return f"[{host.strip('[]')}]" if ":" in host else host


def _announce(shell: Shell, app: App, address: str) -> None:
    shell.out.print(f"Assay serves [bold]{address}[/bold]  (Ctrl-C stops it)")
    keyed = app.keys.exist()
    key = "a key of 'assay key create'" if keyed else "any api_key, as there are no keys yet"
    shell.out.print(f"  the OpenAI API: base_url={address}/v1, {key}")
    if not is_loopback(app.config.server.host):
        shell.err.print("  Keys cross the network as they are: let others in through a proxy with TLS.")
    for info in app.models:
        if info.problem:
            shell.err.print(f"  [yellow]{escape(info.name)}: {escape(info.problem)}[/yellow]")


def _pages(shell: Shell, app: App) -> ASGIApp | None:
    from assay.console import console

    try:
        return console(app)
    except ConfigError as error:
        shell.err.print(f"[yellow]No console: {escape(error.message)}[/yellow]")
        return None


def main() -> None:
    """The command `assay`. What goes wrong ends with EXIT_ERROR: 1 and 2 are verdicts and nothing else."""
    try:
        sys.exit(build(up)(standalone_mode=False))
    except AssayError as error:
        Shell().err.print(f"[red]error:[/red] {escape(error.message)}")
        sys.exit(EXIT_ERROR)
    except typer.TyperException as wrong_usage:
        rich_format_error(wrong_usage)  # type: ignore[arg-type]
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has seen enough.
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        sys.exit(0)
    except Exception:  # noqa: BLE001  (a defect of Assay: shown whole, and never taken for a verdict)
        traceback.print_exc()
        sys.exit(EXIT_ERROR)


if __name__ == "__main__":
    main()
