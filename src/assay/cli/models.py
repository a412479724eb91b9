"""`assay models`: what can be called, what it costs, and pulling weights. Calling lives in .call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from assay.cli.shell import JSON_OPTION, Shell

if TYPE_CHECKING:
    from assay.app import ModelInfo

app = typer.Typer(invoke_without_command=True, help="List the models that callers may name; pull weights.")


@app.callback()
def list_models(context: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """List the models, where they lead, and whether they can be called now."""
    if context.invoked_subcommand is not None:
        return
    shell: Shell = context.obj
    from assay.app import open_app

    async def work() -> list[ModelInfo]:
        async with open_app(shell.config) as opened:
            return list(opened.models)

    found = shell.run(work)
    if as_json:
        shell.json(found)
        return
    columns = {
        "model": "left",
        "provider": "left",
        "dialect": "left",
        "upstream's name": "left",
        "context": "right",
        "carries": "left",
        "$ a million tokens in/out": "right",
        "": "left",
    }
    rows = [
        [
            escape(info.name),
            escape(info.provider),
            info.dialect,
            escape(info.model),
            f"{info.context_tokens:,}" if info.context_tokens else "?",
            ", ".join(info.carries),
            _price(info),
            f"[red]{escape(info.problem)}[/red]" if info.problem else "[green]ready[/green]",
        ]
        for info in found
    ]
    shell.table(columns, rows, "No models.")


def _price(info: ModelInfo) -> str:
    """What is not known is never shown as nothing."""
    if info.usd_per_mtok_in is None and info.usd_per_mtok_out is None:
        return "?"
    told = (info.usd_per_mtok_in, info.usd_per_mtok_out)
    return "/".join("?" if usd is None else f"{usd.normalize():f}" for usd in told)


@app.command("pull")
def pull_weights(
    context: typer.Context,
    name: str | None = typer.Argument(None, help="Which weights: local or local-embeddings; left out: all."),
    verify: bool = typer.Option(False, help="Check the digests of weights that are there already."),
) -> None:
    """Fetch the weights of the local models into the cache, once."""
    from assay.providers.weights import KNOWN

    shell: Shell = context.obj
    for each in KNOWN if name is None else (name,):
        _pull(shell, each, verify=verify)


def _pull(shell: Shell, name: str, *, verify: bool) -> None:
    from assay.providers.weights import find, pull

    cache: Path = shell.config.cache_dir
    if not verify and (there := find(name, cache)):
        shell.out.print(f"The weights of {escape(name)} are in {escape(str(there))}")
        return
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shell.err, transient=True) as progress:
        task = progress.add_task(f"Pulling the weights of {name}", total=None)
        path = pull(
            name,
            cache_dir=cache,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
            verify=verify,
        )
    shell.out.print(f"The weights of {escape(name)} are in {escape(str(path))}")
