"""The command line: one module a noun; this file joins them. Starting a server is assay.main's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from assay import __version__
from assay.cli import (
    backup,
    budgets,
    cache,
    call,
    cost,
    datasets,
    demo,
    doctor,
    experiments,
    keys,
    models,
    prompts,
    reload,
    traces,
)
from assay.cli.shell import EXIT_ERROR, Shell

__all__ = ["EXIT_ERROR", "Shell", "build"]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"assay {__version__}")
        raise typer.Exit


def build(up: Callable[..., None]) -> typer.Typer:
    """The commands; `up` is the one that serves."""
    cli = typer.Typer(
        name="assay",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        help="Gateway, prompts, evaluation, traces and cost control: one record, one loop.",
    )

    @cli.callback()
    def root(
        context: typer.Context,
        config: Path | None = typer.Option(
            None,
            "--config",
            "-c",
            help="The assay.toml to use; by default the nearest at or above this folder.",
        ),
        version: bool = typer.Option(
            False, "--version", callback=_version, is_eager=True, help="Say which version this is."
        ),
    ) -> None:
        context.obj = Shell(config)

    cli.command("up")(up)
    cli.command("backup")(backup.backup)
    cli.command("call")(call.call)
    cli.command("compare")(experiments.compare)
    cli.command("cost")(cost.cost)
    cli.command("demo")(demo.demo)
    cli.command("doctor")(doctor.doctor)
    cli.command("reload")(reload.reload)
    cli.add_typer(cache.app, name="cache")
    cli.add_typer(models.app, name="models")
    cli.add_typer(prompts.app, name="prompt")
    cli.add_typer(datasets.app, name="dataset")
    cli.add_typer(experiments.app, name="eval")
    cli.add_typer(traces.app, name="trace")
    keys.app.command("budget")(budgets.budget)
    cli.add_typer(keys.app, name="key")
    return cli
