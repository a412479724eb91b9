"""`assay models` and `assay call`: what can be called, pulling weights, and one call from the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from assay.cli.shell import JSON_OPTION, Shell, money, seconds
from assay.errors import RequestError
from assay.types import Ended, Request, Sampling, TextDelta, closing, replace, system, user

if TYPE_CHECKING:
    from assay.app import App

app = typer.Typer(invoke_without_command=True, help="List the models that callers may name; pull weights.")


@app.callback()
def list_models(context: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """List the models, where they lead, and whether they can be called now."""
    if context.invoked_subcommand is not None:
        return
    shell: Shell = context.obj
    from assay.app import open_app

    async def work() -> list[object]:
        async with open_app(shell.config) as opened:
            return list(opened.models)

    found = shell.run(work)
    if as_json:
        shell.json(found)
        return
    columns = {"model": "left", "provider": "left", "dialect": "left", "upstream's name": "left", "": "left"}
    rows = [
        [
            escape(info.name),  # type: ignore[attr-defined]
            escape(info.provider),  # type: ignore[attr-defined]
            info.dialect,  # type: ignore[attr-defined]
            escape(info.model),  # type: ignore[attr-defined]
            f"[red]{escape(info.problem)}[/red]" if info.problem else "[green]ready[/green]",  # type: ignore[attr-defined]
        ]
        for info in found
    ]
    shell.table(columns, rows, "No models.")


@app.command("pull")
def pull_weights(
    context: typer.Context,
    name: str = typer.Argument("local", help="Which weights."),
    verify: bool = typer.Option(False, help="Check the digest of weights that are there already."),
) -> None:
    """Fetch a local model's weights into the cache, once."""
    from assay.providers.weights import find, pull

    shell: Shell = context.obj
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


def call(
    context: typer.Context,
    model: str = typer.Argument(help="A model's name: see 'assay models'."),
    text: str = typer.Argument(help="What to say; '-' reads standard input."),
    instructions: str | None = typer.Option(None, "--system", "-s", help="The system message."),
    max_tokens: int | None = typer.Option(None, min=1, help="The most tokens to write."),
    temperature: float | None = typer.Option(None, min=0.0, help="0 is the most predictable."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Call a model, and print its answer as it comes."""
    from assay.app import open_app

    shell: Shell = context.obj
    said = _standard_input() if text == "-" else text
    if not said.strip():
        raise RequestError("There is nothing to say; give a text, or '-' to read it from standard input")
    messages = ((system(instructions),) if instructions else ()) + (user(said),)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    request = Request(model, messages, sampling=sampling)

    async def work() -> None:
        async with open_app(shell.config) as opened:
            await print_answer(shell, opened, request, as_json=as_json)

    shell.run(work)


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"Standard input is not UTF-8 text ({error}); convert it first") from error


async def print_answer(shell: Shell, app: App, request: Request, *, as_json: bool) -> None:
    """The answer as it comes, with time, tokens and cost on standard error; or the whole reply as JSON."""
    if as_json:
        shell.json(await app.respond(request))
        return
    began = app.tracer.clock_ns()
    ended: Ended | None = None
    async with closing(app.stream(replace(request, stream=True))) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                shell.out.print(event.text, end="", markup=False, soft_wrap=True)
            elif isinstance(event, Ended):
                ended = event
    shell.out.print()
    took = seconds((app.tracer.clock_ns() - began) / 1e9)
    usage = ended.usage if ended else None
    cost = ended.cost if ended else None
    tokens = f"{usage.tokens_in}+{usage.tokens_out} tokens, " if usage else ""
    spent = "cost unknown" if cost is None or cost.usd is None else money(cost.usd)
    shell.err.print(f"[dim]{took}, {tokens}{spent}[/dim]")
