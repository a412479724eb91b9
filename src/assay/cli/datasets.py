"""`assay dataset`: cases in files and versions, and cases out of traces."""

from __future__ import annotations

from pathlib import Path

import msgspec
import typer
from rich.markup import escape

from assay.cli.shell import JSON_OPTION, Shell, ago, shorten
from assay.errors import DatasetError
from assay.evals.dataset import Example, diff, example_from_call
from assay.evals.jsonl import read_dataset, write_dataset
from assay.trace import Span
from assay.types import JSON

app = typer.Typer(no_args_is_help=True, help="Datasets: cases with inputs and expected outputs, by version.")

NAME = typer.Argument(help="A file (x.jsonl), a name in datasets/, or NAME@VERSION of the store.")


@app.command("list")
def list_datasets(context: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """List the datasets in datasets/ and in the store."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        folder = stores.dataset_file("x").parent
        for file in sorted(folder.glob("*.jsonl")):
            stores.datasets.save(read_dataset(file))
        found = stores.datasets.list()
    if as_json:
        shell.json(found)
        return
    rows = [[escape(one.ref), str(one.size), ago(one.saved_ns)] for one in found]
    columns = {"dataset": "left", "examples": "right", "saved": "left"}
    shell.table(
        columns, rows, "No datasets yet. Write datasets/NAME.jsonl, or: assay dataset from-traces NAME"
    )


@app.command("show")
def show_dataset(
    context: typer.Context,
    name: str = NAME,
    limit: int = typer.Option(10, "--limit", "-n", min=1, help="How many examples."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show a dataset's version, size, clusters and first examples."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        dataset = stores.dataset(name)
        stores.datasets.save(dataset)
    if as_json:
        shell.json({"name": dataset.name, "digest": dataset.digest, "examples": dataset.examples})
        return
    clusters = {example.cluster for example in dataset.examples} - {None}
    grouped = f", {len(clusters)} clusters" if clusters else ""
    shell.out.print(f"[bold]{escape(dataset.ref)}[/bold]  {len(dataset)} examples{grouped}")
    rows = [
        [escape(shorten(example.input)), escape(shorten(example.expected)), escape(example.cluster or "")]
        for example in dataset.examples[:limit]
    ]
    shell.table({"input": "left", "expected": "left", "cluster": "left"}, rows, "")
    if len(dataset) > limit:
        shell.out.print(f"[dim]... and {len(dataset) - limit} more (--limit)[/dim]")


@app.command("diff")
def diff_datasets(
    context: typer.Context,
    old: str = NAME,
    new: str = NAME,
    as_json: bool = JSON_OPTION,
) -> None:
    """Show what changed from one version to another."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        change = diff(stores.dataset(old), stores.dataset(new))
    if as_json:
        shell.json(change)
        return
    for sign, colour, examples in (("+", "green", change.added), ("-", "red", change.removed)):
        for example in examples:
            shell.out.print(f"[{colour}]{sign} {escape(shorten(example.input))}[/{colour}]")
    for before, after in change.changed:
        shell.out.print(f"[yellow]~ {escape(shorten(after.input))}[/yellow]")
        shell.out.print(f"    {escape(shorten(before.expected))} -> {escape(shorten(after.expected))}")
    shell.out.print(f"[dim]{change.unchanged} unchanged[/dim]")


@app.command("from-traces")
def from_traces(
    context: typer.Context,
    name: str = typer.Argument(help="The dataset; its file is datasets/NAME.jsonl."),
    prompt: str | None = typer.Option(None, help="Only calls of this prompt: NAME or NAME@VERSION."),
    model: str | None = typer.Option(None, help="Only calls to this model."),
    limit: int = typer.Option(100, "--limit", "-n", min=1, max=100_000, help="The newest so many."),
) -> None:
    """Add recorded calls to a dataset's file, expecting what was answered: correct it where it was wrong."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        file = stores.dataset_file(name)
        calls = stores.traces.calls(limit, prompt=prompt, model=model)
        added = _append(file, [example_of(call) for call in reversed(calls)])
    shell.out.print(
        f"Added {added} examples to {escape(str(file))}. They expect what was answered: mend the wrong ones."
        if added
        else "Nothing to add: no such call is recorded that the dataset lacks (experiments' are left out)."
    )


@app.command("add")
def add_example(
    context: typer.Context,
    name: str = typer.Argument(help="The dataset; its file is datasets/NAME.jsonl."),
    span: str = typer.Option(..., "--span", help="The recorded call: a span's id, or its first digits."),
    expected: str | None = typer.Option(
        None, "--expected", "-e", help="The right answer, if it was not given."
    ),
    cluster: str | None = typer.Option(None, help="What the example belongs with: a topic, a user."),
) -> None:
    """Add one recorded call to a dataset's file, with the answer that was right."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        file = stores.dataset_file(name)
        example = example_of(stores.traces.span(span), expected=expected, cluster=cluster)
        added = _append(file, [example])
    shell.out.print(
        f"Added to {escape(str(file))}" if added else f"{escape(str(file))} has this example already."
    )


def example_of(call: Span, *, expected: JSON = None, cluster: str | None = None) -> Example:
    """A recorded call as an example: the prompt's variables are its input, else what the user said last."""
    variables = call.attributes.get("assay.prompt.variables")
    asked = next((message.text for message in reversed(call.input) if message.role == "user"), None)
    given = variables if variables is not None else asked
    if given is None:
        raise DatasetError(f"Span {call.span_id} has no recorded input; is [trace] capture_content off?")
    answer = call.output[0].text if call.output else ""
    metadata = {"prompt": call.prompt} if call.prompt else {}
    example = example_from_call(
        given, answer, trace_id=call.trace_id, span_id=call.span_id, metadata=metadata, cluster=cluster
    )
    return example if expected is None else msgspec.structs.replace(example, expected=expected)


def _append(file: Path, fresh: list[Example]) -> int:
    """Adds the examples of calls that the file does not have; gives how many."""
    there = list(read_dataset(file).examples) if file.exists() else []
    known = {example.metadata.get("span_id") for example in there}
    new = [example for example in fresh if example.metadata["span_id"] not in known]
    if new:
        write_dataset(file, [*there, *new])
    return len(new)
