"""`assay reload`: has running servers read assay.toml again. How they do that: assay.main and assay.app."""

from __future__ import annotations

import os
import signal
import time
from typing import Final

import typer
from rich.markup import escape

from assay.cli.shell import EXIT_ERROR, Shell
from assay.errors import NotFound

_PATIENCE_S: Final = 30.0
_LOOK_S: Final = 0.02


def reload(context: typer.Context) -> None:
    """Have the servers of this folder read assay.toml again. Calls under way are not disturbed.

    A file with a mistake in it is refused as a whole, here and by the servers, which go on with the old one.
    """
    from assay.storage.serving import Serving, running

    shell: Shell = context.obj
    folder = shell.config.run_folder
    before = {server.pid: server for server in running(folder)}
    if not before:
        raise NotFound(f"No server runs with {shell.config.file or shell.config.root}; start one: assay up")
    for pid in before:
        os.kill(pid, signal.SIGHUP)
    until = time.monotonic() + _PATIENCE_S
    told: dict[int, Serving] = {}
    while len(told) < len(before) and time.monotonic() < until:
        live = {server.pid: server for server in running(folder)}
        told |= {pid: one for pid, one in live.items() if pid in before and one.reloads > before[pid].reloads}
        time.sleep(_LOOK_S)
    for pid, server in before.items():
        if pid not in told:
            shell.err.print(f"[red]{server.url} did not answer; see its log[/red]")
        elif problem := told[pid].problem:
            shell.err.print(f"[red]{server.url} goes on as it was:[/red] {escape(problem)}")
        else:
            shell.out.print(f"{server.url} reloaded {escape(str(shell.config.file or 'the defaults'))}")
    if len(told) < len(before) or any(server.problem for server in told.values()):
        raise typer.Exit(EXIT_ERROR)
