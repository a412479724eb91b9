"""`assay trace`: the newest traces, and one as a tree."""

from __future__ import annotations

import typer
from rich.markup import escape
from rich.tree import Tree

from assay.cli.shell import JSON_OPTION, Shell, ago, money, seconds
from assay.errors import NotFound
from assay.trace import Span, SpanNode
from assay.types import Cost, Message, Opaque, Reasoning, Refusal, Text, ToolCall, ToolResult

app = typer.Typer(no_args_is_help=True, help="See what was called, when, how long it took and what it cost.")


@app.command("list")
def list_traces(
    context: typer.Context,
    limit: int = typer.Option(20, "--limit", "-n", min=1, max=1000, help="How many."),
    model: str | None = typer.Option(None, help="Only traces with a call to this model."),
    purpose: str | None = typer.Option(None, help="Only of this purpose: call, eval, judge."),
    prompt: str | None = typer.Option(None, help="Only of this prompt: NAME or NAME@VERSION."),
    errors: bool = typer.Option(False, "--errors", help="Only traces in which something failed."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List the newest traces."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        found = stores.traces.latest(
            limit, model=model, purpose=purpose, prompt=prompt, status="error" if errors else None
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


def _grow(tree: Tree, node: SpanNode, traces: object | None) -> None:
    branch = tree.add(_line(node.span))
    if traces is not None and node.span.operation == "chat":
        whole = traces.span(node.span.span_id)  # type: ignore[attr-defined]
        for message in (*whole.input, *whole.output):
            branch.add(f"[dim]{message.role}[/dim] {escape(_text(message))}")
    for child in node.children:
        _grow(branch, child, traces)


def _line(span: Span) -> str:
    pieces = [f"[bold]{escape(span.name)}[/bold]", seconds(span.duration_s)]
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
