"""`assay prompt`: versions, labels, differences and rendering."""

from __future__ import annotations

from pathlib import Path

import msgspec
import typer
from rich.markup import escape
from rich.syntax import Syntax

from assay.cli.call import print_answer
from assay.cli.shell import JSON_OPTION, Shell, ago
from assay.errors import PromptError, RequestError

app = typer.Typer(no_args_is_help=True, help="Prompts: immutable versions, movable labels.")

REF = typer.Argument(help="NAME (its latest version), NAME@LABEL or NAME@VERSION.")


@app.command("list")
def list_prompts(context: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """List the prompts, after taking in the files of prompts/."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        stores.sync_prompts()
        found = stores.prompts.list()
    if as_json:
        shell.json(found)
        return
    rows = [
        [
            escape(prompt.name),
            str(prompt.versions),
            ago(prompt.newest_ns),
            "  ".join(
                f"{escape(label)}=[dim]{version}[/dim]" for label, version in sorted(prompt.labels.items())
            ),
        ]
        for prompt in found
    ]
    columns = {"prompt": "left", "versions": "right", "newest": "left", "labels": "left"}
    shell.table(columns, rows, "No prompts yet. Write one to prompts/NAME.prompt beside assay.toml.")


@app.command("show")
def show_prompt(context: typer.Context, ref: str = REF, as_json: bool = JSON_OPTION) -> None:
    """Show a prompt's source and its versions."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        prompt = stores.prompt(ref)
        versions = stores.prompts.versions(prompt.name)
    if as_json:
        shell.json({"ref": prompt.ref, "source": prompt.source, "versions": versions})
        return
    shell.out.print(f"[bold]{escape(prompt.ref)}[/bold]")
    if shell.out.is_terminal:
        shell.out.print(Syntax(prompt.source, "handlebars", background_color="default", word_wrap=True))
    else:
        shell.out.print(prompt.source, markup=False)
    rows = [[one.version, ago(one.created_ns), escape(", ".join(one.labels))] for one in versions]
    shell.table({"version": "left", "first seen": "left", "labels": "left"}, rows, "")


@app.command("diff")
def diff_prompts(
    context: typer.Context,
    old: str = typer.Argument(help="NAME@LABEL or NAME@VERSION."),
    new: str = typer.Argument(help="NAME@LABEL or NAME@VERSION."),
) -> None:
    """Show what changed from one version to another."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        stores.sync_prompts()
        difference = stores.prompts.diff(old, new)
    if not difference:
        shell.out.print("They are the same.")
    elif shell.out.is_terminal:
        shell.out.print(Syntax(difference, "diff", background_color="default", word_wrap=True))
    else:
        shell.out.print(difference, markup=False, end="")


@app.command("label")
def label_prompt(
    context: typer.Context,
    ref: str = REF,
    label: str = typer.Argument(help="For example: production."),
    reason: str = typer.Option("", "--reason", "-m", help="Why; kept in the label's history."),
    undo: bool = typer.Option(False, "--undo", help="Put the label back where it stood before."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Move a label to a version, or back. Callers that ask for NAME@LABEL get it from then on."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        stores.sync_prompts()
        if undo:
            if "@" in ref:
                raise RequestError(f"--undo takes the prompt's name alone: {ref.split('@')[0]}")
            move = stores.prompts.undo_label(ref, label)
        else:
            move = stores.prompts.set_label(ref, label, reason=reason)
    if as_json:
        shell.json(move)
        return
    shell.out.print(f"{escape(move.name)}@{escape(move.label)} is now {move.version}")


@app.command("render")
def render_prompt(
    context: typer.Context,
    ref: str = REF,
    variables: list[str] = typer.Option([], "--var", "-v", help="NAME=VALUE, or NAME=@FILE; JSON for lists."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show the messages that a prompt becomes with these variables. No model is called."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        prompt = stores.prompt(ref)
    messages = prompt.render(parse_variables(variables, prompt.input_schema))
    if as_json:
        shell.json(messages)
        return
    for message in messages:
        shell.out.print(f"[bold]{message.role}[/bold]")
        shell.out.print(message.text, markup=False)


@app.command("run")
def run_prompt(
    context: typer.Context,
    ref: str = REF,
    variables: list[str] = typer.Option([], "--var", "-v", help="NAME=VALUE, or NAME=@FILE; JSON for lists."),
    model: str | None = typer.Option(None, help="The model, if not the prompt's own."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Call a model with a prompt, and print its answer. The call is recorded with prompt and variables."""
    from assay.app import open_app

    shell: Shell = context.obj

    async def work() -> None:
        async with open_app(shell.config) as opened:
            prompt = opened.stores.prompt(ref)
            request = prompt.request(parse_variables(variables, prompt.input_schema), model=model)
            await print_answer(shell, opened, request, as_json=as_json)

    shell.run(work)


def parse_variables(pairs: list[str], schema: object = None) -> dict[str, object]:
    """`NAME=VALUE` pairs; a value is text unless the prompt's schema wants another type, then it is JSON."""
    found: dict[str, object] = {}
    wanted = schema.get("properties", {}) if isinstance(schema, dict) else {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise PromptError(f"{pair!r} is not of the form NAME=VALUE")
        if value.startswith("@"):
            value = _read(Path(value[1:]))
        kind = wanted.get(name, {}).get("type", "string")
        if kind == "string" or (isinstance(kind, list) and "string" in kind):
            found[name] = value
            continue
        try:
            found[name] = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise PromptError(f"{name} wants {kind}, and {value!r} is not JSON: {error}") from error
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{file} cannot be read as UTF-8 text: {error}") from error
