"""`assay trace`: the newest traces, and one as a tree."""

from __future__ import annotations

import re

import typer
from rich.markup import escape
from rich.tree import Tree

from assay.cli.shell import JSON_OPTION, Shell, ago, money, seconds
from assay.errors import NotFound, RequestError
from assay.trace import Pruned, Span, SpanNode, days_ago, delete_trace, prune
from assay.types import Cost, Message, Opaque, Reasoning, Refusal, Text, ToolCall, ToolResult

app = typer.Typer(no_args_is_help=True, help="See what was called, when, how long it took and what it cost.")


@app.command("list")
def list_traces(
    context: typer.Context,
    limit: int = typer.Option(20, "--limit", "-n", min=1, max=1000, help="How many."),
    model: str | None = typer.Option(None, help="Only traces with a call to this model."),
    purpose: str | None = typer.Option(None, help="Only of this purpose: call, eval, judge."),
    prompt: str | None = typer.Option(None, help="Only of this prompt: NAME or NAME@VERSION."),
    key: str | None = typer.Option(None, help="Only of calls with this key: its name or id."),
    errors: bool = typer.Option(False, "--errors", help="Only traces in which something failed."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List the newest traces."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        found = stores.traces.latest(
            limit,
            model=model,
            purpose=purpose,
            prompt=prompt,
            key_id=None if key is None else stores.keys.get(key).id,
            status="error" if errors else None,
        )
    if as_json:
        shell.json(found)
        return
    columns = {"trace": "left", "when": "left", "what": "left", "spans": "right", "took": "right"}
    columns |= {"tokens": "right", "cost": "right", "errors": "right"}
    rows = [
        [
            row.trace_id[:12],
            ago(row.start_ns),
            escape(row.name),
            str(row.spans),
            seconds(row.duration_s),
            f"{row.tokens_in}+{row.tokens_out}",
            money(row.cost_usd, row.unpriced, row.estimated),
            f"[red]{row.errors}[/red]" if row.errors else "",
        ]
        for row in found
    ]
    shell.table(columns, rows, "No traces yet. Make a call: assay call local 'What is an assay?'")


@app.command("show")
def show_trace(
    context: typer.Context,
    trace_id: str = typer.Argument(help="A trace's id, or a span's, or the first 4 or more digits of it."),
    messages: bool = typer.Option(False, "--messages", "-m", help="Show what was said in each call."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show one trace as a tree with times, tokens and cost; or one span with its messages."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        try:
            roots = stores.traces.trace(trace_id)
        except NotFound as no_trace:
            try:
                _show_span(shell, stores.traces.span(trace_id), as_json)
            except NotFound:
                raise no_trace from None
            return
        if as_json:
            shell.json(roots)
            return
        tree = Tree(f"[bold]trace {roots[0].span.trace_id}[/bold]  {ago(roots[0].span.start_ns)}")
        for root in roots:
            _grow(tree, root, stores.traces if messages else None)
    # In a pipe lines are not wrapped, and a tree whose lines are not wrapped is cut off.
    shell.out.print(tree, soft_wrap=False)


@app.command("prune")
def prune_traces(
    context: typer.Context,
    older_than: str = typer.Option(..., "--older-than", help="An age: 30d, 12h or 2w."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would be deleted."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Delete old spans, and the messages that only they referred to. Assay may go on serving meanwhile."""
    shell: Shell = context.obj
    days = _days(older_than)
    with shell.stores() as stores:
        pruned = prune(stores.store, days_ago(days), dry_run=dry_run)
    _say_deleted(shell, pruned, as_json=as_json, dry_run=dry_run)


@app.command("delete")
def delete_one(
    context: typer.Context,
    trace_id: str = typer.Argument(help="A trace's id, or the first 4 or more digits of it."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Delete one trace for good, and the messages that only it referred to."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        whole = stores.traces.trace(trace_id)[0].span.trace_id
        pruned = delete_trace(stores.store, whole)
    _say_deleted(shell, pruned, as_json=as_json, dry_run=False)


def _days(age: str) -> float:
    found = re.fullmatch(r"(\d+)([hdw])", age)
    if found is None:
        raise RequestError(
            f"{age!r} is not an age; give a number with h, d or w, such as 30d", param="older-than"
        )
    return int(found[1]) * {"h": 1 / 24, "d": 1, "w": 7}[found[2]]


def _say_deleted(shell: Shell, pruned: Pruned, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        shell.json(pruned)
        return
    said = "Would delete" if dry_run else "Deleted"
    shell.out.print(
        f"{said} {pruned.spans:,} spans and {pruned.messages:,} messages ({pruned.bytes:,} bytes)"
    )


def _grow(tree: Tree, node: SpanNode, traces: object | None) -> None:
    branch = tree.add(_line(node.span))
    if traces is not None and node.span.operation == "chat":
        whole = traces.span(node.span.span_id)  # type: ignore[attr-defined]
        for message in (*whole.input, *whole.output):
            branch.add(f"[dim]{message.role}[/dim] {escape(_text(message))}")
    for child in node.children:
        _grow(branch, child, traces)


def _line(span: Span) -> str:
    led = span.attributes.get("assay.route.model")
    name = f"{span.name} → {led}" if isinstance(led, str) else span.name
    pieces = [f"[bold]{escape(name)}[/bold]", seconds(span.duration_s)]
    if span.attributes.get("assay.cache") == "hit":
        pieces.append("cache hit")
    if span.usage is not None:
        pieces.append(f"{span.usage.tokens_in}+{span.usage.tokens_out} tokens")
    if span.cost is not None:
        pieces.append(_cost(span.cost))
    if span.prompt:
        pieces.append(escape(span.prompt))
    pieces.append(f"[dim]{span.span_id}[/dim]")
    if span.status == "error":
        pieces.append(f"[red]{escape(span.error_type or 'error')}: {escape(span.error_message or '')}[/red]")
    return "  ".join(pieces)


def _cost(cost: Cost) -> str:
    if cost.usd is None:
        return "cost unknown"
    return money(cost.usd, estimated=cost.kind == "estimated")


def _show_span(shell: Shell, span: Span, as_json: bool) -> None:
    if as_json:
        shell.json(span)
        return
    shell.out.print(_line(span))
    shell.out.print(f"trace {span.trace_id}  {ago(span.start_ns)}")
    for name, value in sorted(span.otel_attributes().items()):
        shell.out.print(f"[dim]{name}[/dim] = {escape(str(value))}")
    for message in (*span.input, *span.output):
        shell.out.print(f"\n[bold]{message.role}[/bold]\n{escape(_text(message))}")


def _text(message: Message) -> str:
    """A message for reading: texts as they are, other parts named."""
    pieces = []
    for part in message.parts:
        match part:
            case Text() | Refusal() | Reasoning():
                pieces.append(part.text)
            case ToolCall():
                pieces.append(f"→ {part.name}({part.arguments})")
            case ToolResult():
                pieces.append("← " + " ".join(p.text for p in part.parts if isinstance(p, Text)))
            case Opaque():
                pieces.append(f"[{part.dialect} part]")
            case _:
                pieces.append(f"[{type(part).__name__.lower()}]")
    return "\n".join(pieces)
