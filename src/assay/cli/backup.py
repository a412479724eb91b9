"""`assay backup`: a copy of the store while it is in use. How it is made is assay.storage.backup's."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.markup import escape

from assay.cli.shell import JSON_OPTION, Shell


def backup(
    context: typer.Context,
    path: Path = typer.Argument(help="The new file; one that exists is not overwritten."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Copy the store, consistent and verified, while Assay goes on serving."""
    from assay.storage.backup import backup as copy

    shell: Shell = context.obj
    health = copy(shell.config.store_file, path)
    if as_json:
        shell.json(health)
        return
    shell.out.print(f"{escape(health.path)}: {health.bytes:,} bytes, schema {health.revision}, checked")
