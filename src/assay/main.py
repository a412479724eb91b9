"""The process: joins the command line, the server and the console, and decides how errors end it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer
from rich.markup import escape
from typer.rich_utils import rich_format_error

from assay.cli import EXIT_ERROR, Shell, build
from assay.config import Config, is_loopback, load
from assay.errors import AssayError, ConfigError
from assay.types import Value, replace

if TYPE_CHECKING:
    from assay.app import App
    from assay.server.asgi import ASGIApp
    from assay.server.workers import Worker

log = logging.getLogger("assay.server")


def up(
    context: typer.Context,
    host: str | None = typer.Option(None, help="The address to listen on; the default is 127.0.0.1."),
    port: int | None = typer.Option(None, min=0, max=65535, help="The port; the default is 8700."),
    workers: int = typer.Option(1, min=1, max=64, help="How many processes serve, each with its own models."),
    log_format: str = typer.Option("text", "--log-format", help="text, or json: one object a line."),
) -> None:
    """Serve the platform until Ctrl-C: the API, and the console in the browser."""
    if log_format not in ("text", "json"):
        raise ConfigError(f"--log-format is text or json, not {log_format!r}")
    serve(context.obj, Listening(host, port, workers, log_format))  # type: ignore[arg-type]


class Listening(Value):
    """What the command line says of a server; what it leaves out is for assay.toml to say."""

    host: str | None = None
    port: int | None = None
    workers: int = 1
    log_format: Literal["text", "json"] = "text"

    def over(self, config: Config) -> Config:
        """The configuration as it is in force."""
        server = config.server
        host = server.host if self.host is None else self.host
        port = server.port if self.port is None else self.port
        return replace(config, server=replace(server, host=host, port=port))


def serve(shell: Shell, asked: Listening) -> None:
    """Serves until SIGINT or SIGTERM, then finishes the calls in flight and stores every span."""
    from assay.server import logs
    from assay.server.workers import Workers, close, listen
    from assay.storage.serving import serving
    from assay.trace import Redactor

    # Who is told to reload before it can is not to end by it.
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)
    config = asked.over(shell.config)
    logs.set_up(asked.log_format, Redactor(config.secrets))
    _check_reachable(shell, config)
    sockets = listen(config.server.host, config.server.port, asked.workers)
    address = f"http://{_in_url(config.server.host)}:{sockets[0].getsockname()[1]}"
    current = [config]

    def reread() -> Config:
        return asked.over(load(shell.config_file))

    with serving(config.run_folder, address) as notice:

        def reload() -> Callable[[], object] | None:
            """In the parent: what to say when the workers have followed; None where they shall not."""
            try:
                new = reread()
                config.check_reload(new)
            except ConfigError as error:
                log.error("the configuration is not taken, and the one before stays: %s", error.message)
                notice.reloaded(error.message)
                return None
            current[0] = new
            return partial(notice.reloaded, None)

        outcome: Worker | int | None = None
        if asked.workers > 1:
            outcome = Workers(asked.workers, say=log.error, reload=reload).run()
        if isinstance(outcome, int):
            close(sockets)
            if outcome:
                raise typer.Exit(outcome)
            shell.err.print("Stopped; every span is stored.")
            return
        told = notice.reloaded if outcome is None else partial(_tell_parent, outcome)
        _work(shell, current[0], sockets, address, reread, told, outcome, notice.figures)
        if outcome is None:
            shell.err.print("Stopped; every span is stored.")
    if outcome is not None:
        # What follows in the parent is not for its workers.
        raise typer.Exit(0)


def _tell_parent(worker: Worker, _problem: str | None) -> None:
    """That this worker has reloaded, or has logged why not."""
    from assay.server.workers import RELOADED

    os.write(worker.ready, RELOADED)


def _work(
    shell: Shell,
    config: Config,
    sockets: list[socket.socket],
    address: str,
    reread: Callable[[], Config],
    told: Callable[[str | None], object],
    worker: Worker | None,
    figures: Path,
) -> None:
    """In the one process that serves, or in each of several."""
    from assay.server.process import Process

    def begun(app: App) -> ASGIApp | None:
        pages = _pages(shell, app)
        if worker is None or (worker.first and not worker.number):
            _announce(shell, app, address)
        return pages

    number = 0 if worker is None else worker.number
    folder = None if worker is None else figures
    process = Process(config, sockets[number], reread=reread, told=told, worker=worker, figures=folder)
    try:
        shell.run(lambda: process.run(begun), fast=True)
    finally:
        for one in sockets:
            one.close()


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


def _in_url(host: str) -> str:
    return f"[{host.strip('[]')}]" if ":" in host else host


def _announce(shell: Shell, app: App, address: str) -> None:
    shell.out.print(f"Assay serves [bold]{address}[/bold]  (Ctrl-C stops it)")
    keyed = app.keys.exist()
    key = "a key of 'assay key create'" if keyed else "any api_key, as there are no keys yet"
    shell.out.print(f"  OpenAI SDKs: base_url={address}/v1; Anthropic and Google SDKs: {address}; {key}")
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
