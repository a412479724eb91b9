"""`assay call`: one call from the terminal, with files, a schema or tools, and its answer as it comes."""

from __future__ import annotations

import mimetypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer
from rich.markup import escape

from assay.cli.shell import JSON_OPTION, Shell, money, seconds
from assay.errors import RequestError
from assay.types import (
    Assembly,
    Audio,
    Completed,
    Ended,
    Event,
    File,
    FunctionTool,
    Image,
    Inline,
    Message,
    Part,
    ReasoningDelta,
    RefusalDelta,
    Request,
    Sampling,
    SchemaOutput,
    Text,
    TextDelta,
    TextOutput,
    Thinking,
    closing,
    replace,
    stream_of,
    system,
)

if TYPE_CHECKING:
    from assay.app import App

_TEXT_TYPES = frozenset({"application/json", "application/toml", "application/xml", "application/yaml"})


def call(
    context: typer.Context,
    model: str = typer.Argument(help="A model's name: see 'assay models'."),
    text: str = typer.Argument(help="What to say; '-' reads standard input."),
    instructions: str | None = typer.Option(None, "--system", "-s", help="The system message."),
    attach: list[Path] = typer.Option(
        [], "--attach", "-a", help="A file to send along: text, a picture, sound, a PDF. May be repeated."
    ),
    schema: str | None = typer.Option(
        None, help="A JSON Schema that the answer keeps to: a file, or the JSON itself."
    ),
    tool: list[str] = typer.Option(
        [], help='A tool that the model may ask for: a file, or JSON: {"name", "description", "parameters"}.'
    ),
    max_tokens: int | None = typer.Option(None, min=1, help="The most tokens to write."),
    temperature: float | None = typer.Option(None, min=0.0, help="0 is the most predictable."),
    seed: int | None = typer.Option(None, help="The same seed gives the same answer, where the model can."),
    stop: list[str] = typer.Option([], help="Where to stop writing. May be repeated."),
    effort: str | None = typer.Option(None, help="How much to reason: none, low, medium, high."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Call a model, and print its answer as it comes.

    Tools are not run: what the model asks for is printed, as name(arguments).
    """
    from assay.app import open_app

    shell: Shell = context.obj
    said = _standard_input() if text == "-" else text
    if not said.strip():
        raise RequestError("There is nothing to say; give a text, or '-' to read it from standard input")
    parts = (*map(_attachment, attach), Text(said))
    request = Request(
        model,
        ((system(instructions),) if instructions else ()) + (Message("user", parts),),
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed, stop=tuple(stop)),
        tools=tuple(found for given in tool for found in _tools(given)),
        output=TextOutput() if schema is None else SchemaOutput(_schema(schema)),
        thinking=None if effort is None else Thinking(enabled=effort != "none", effort=effort),
    )

    async def work() -> None:
        async with open_app(shell.config) as opened:
            await print_answer(shell, opened, request, as_json=as_json)

    shell.run(work)


# --- what is given -------------------------------------------------------------------------------


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"Standard input is not UTF-8 text ({error}); convert it first") from error


def _attachment(path: Path) -> Part:
    """A file as the part of a message that its name says it is."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}); check --attach") from error
    media_type = mimetypes.guess_type(path.name)[0]
    kind = (media_type or "").partition("/")[0]
    if kind == "image":
        return Image(Inline(media_type or "", data))
    if kind == "audio":
        return Audio(Inline(media_type or "", data))
    if media_type is None or kind == "text" or media_type in _TEXT_TYPES:
        try:
            return Text(f"{path.name}:\n\n{data.decode()}\n\n")
        except UnicodeDecodeError as error:
            if media_type is None:
                raise RequestError(
                    f"{path} is neither text nor of a kind that its name tells; give it a suffix such as "
                    ".png, .wav or .pdf"
                ) from error
    return File(Inline(media_type or "application/octet-stream", data), path.name)


def _json(given: str, option: str) -> Any:
    """JSON itself, or the file that holds it."""
    text = given
    if not given.lstrip().startswith(("{", "[")):
        try:
            text = Path(given).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"{option}: {given!r} is neither JSON nor a file that can be read") from error
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{option}: not valid JSON ({error})") from error


def _schema(given: str) -> dict[str, Any]:
    schema = _json(given, "--schema")
    if not isinstance(schema, dict):
        raise RequestError('--schema takes a JSON object, for example {"type": "object", "properties": {}}')
    return schema


def _tools(given: str) -> list[FunctionTool]:
    """One tool or a list of them, each as it is or wrapped as {"type": "function", "function": {...}}."""
    found = _json(given, "--tool")
    tools = []
    for item in found if isinstance(found, list) else [found]:
        inner = item.get("function", item) if isinstance(item, dict) else item
        try:
            tools.append(msgspec.convert(inner, FunctionTool))
        except msgspec.ValidationError as error:
            raise RequestError(
                f"--tool: {error}; a tool is "
                '{"name": "...", "description": "...", "parameters": {a JSON Schema}}'
            ) from error
    return tools


# --- what comes back -----------------------------------------------------------------------------


async def print_answer(shell: Shell, app: App, request: Request, *, as_json: bool) -> None:
    """The answer as it comes, with time, tokens and cost on standard error; or the whole reply as JSON."""
    from assay.trace import new_trace_id

    trace_id = request.context.trace_id or new_trace_id()
    request = replace(request, context=replace(request.context, trace_id=trace_id))
    if as_json:
        shell.json({**msgspec.to_builtins(await app.respond(request)), "trace_id": trace_id})
        return
    began = app.tracer.clock_ns()
    assembly = Assembly()
    async with closing(app.stream(replace(request, stream=True))) as events:
        async for event in events:
            for piece in stream_of(event.response) if isinstance(event, Completed) else (event,):
                assembly.add(piece)
                _print(shell, piece)
    reply = assembly.response()
    for asked in reply.tool_calls:
        shell.out.print(f"{asked.name}({asked.arguments})", markup=False, soft_wrap=True)
    if reply.text:
        shell.out.print()
    if reply.dropped:
        shell.err.print(f"[yellow]not carried: {escape(', '.join(reply.dropped))}[/yellow]")
    reason = reply.choices[0].finish.reason
    stopped = "" if reason in {"stop", "stop_sequence", "tool_calls"} else f", stopped by {reason}"
    took = seconds((app.tracer.clock_ns() - began) / 1e9)
    tokens = f"{reply.usage.tokens_in}+{reply.usage.tokens_out} tokens, " if reply.usage else ""
    spent = "cost unknown" if reply.cost is None or reply.cost.usd is None else money(reply.cost.usd)
    shell.err.print(f"[dim]{took}, {tokens}{spent}{stopped}, trace {trace_id[:12]}[/dim]")


def _print(shell: Shell, event: Event) -> None:
    match event:
        case TextDelta(text=text) | RefusalDelta(text=text):
            shell.out.print(text, end="", markup=False, soft_wrap=True)
        case ReasoningDelta():
            shell.err.print(event.text or event.summary or "", end="", markup=False, style="dim")
        case Ended():
            if shell.out.file.isatty():
                shell.out.file.flush()
        case _:
            return
