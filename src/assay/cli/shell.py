"""What every command shares: the configuration, output for people and for programs, and how errors end."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, TextIO, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from assay.config import Config, load
from assay.evals.costs import dollars
from assay.types import JSON

Result = TypeVar("Result")

EXIT_ERROR = 3
"""An error's exit status. 1 and 2 are verdicts of `assay compare --gate`."""

JSON_OPTION = typer.Option(False, "--json", help="Print JSON, for programs.")


_NEVER_WRAPPED = frozenset({"id", "trace", "version", "when", "begun", "newest", "saved", "first seen"})
_UNWRAPPED = 10_000


def _width(stream: TextIO) -> int | None:
    """A terminal has its own width; what goes into a pipe or a file is never wrapped."""
    return None if stream.isatty() else _UNWRAPPED


class _Output(Console):
    """A console whose reader may leave: the command goes on, and ends with the status it would have had."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _to_nowhere(self.file)


def _to_nowhere(stream: IO[str]) -> None:
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


class Shell:
    """One invocation of the command line."""

    def __init__(self, config_file: Path | None = None) -> None:
        self._config_file = config_file
        self._config: Config | None = None
        self.out = _Output(highlight=False, width=_width(sys.stdout))
        self.err = _Output(highlight=False, width=_width(sys.stderr), stderr=True)

    @property
    def config_file(self) -> Path | None:
        """The file that --config names."""
        return self._config_file

    @property
    def config(self) -> Config:
        if self._config is None:
            self._config = load(self._config_file)
        return self._config

    @contextmanager
    def stores(self) -> Iterator[Any]:
        """The stores on disk, without models. Typed as assay.app.Stores, which is slow to import."""
        from assay.app import Stores

        stores = Stores(self.config)
        try:
            yield stores
        finally:
            stores.close()

    def run(self, work: Callable[[], Coroutine[Any, Any, Result]], *, fast: bool = False) -> Result:
        """Runs async work to its end; Ctrl-C cancels it and lets it clean up. `fast` is for serving."""
        with asyncio.Runner(loop_factory=_fast_loop() if fast else None) as runner:
            return runner.run(work())

    def json(self, value: object) -> None:
        """One JSON value on standard output."""
        text = msgspec.json.format(msgspec.json.encode(value, enc_hook=_plain)).decode()
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            _to_nowhere(sys.stdout)

    def table(self, columns: dict[str, str], rows: list[list[str]], empty: str) -> None:
        """Rows under their headings (heading to justification), or what to do when there are none."""
        if not rows:
            self.out.print(empty)
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading, justify in columns.items():
            whole = heading in _NEVER_WRAPPED
            table.add_column(heading, justify=justify, overflow="fold", no_wrap=whole)  # type: ignore[arg-type]
        for row in rows:
            table.add_row(*row)
        self.out.print(table)


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not made for Windows
        return None
    return uvloop.new_event_loop


def _plain(value: object) -> JSON:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def ago(at_ns: int) -> str:
    """A moment in local time, to the second."""
    return datetime.fromtimestamp(at_ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def seconds(value: float) -> str:
    """A duration, in the unit that reads well."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 60 else f"{value / 60:.1f} min"


def money(usd: Decimal, unknown: int = 0, estimated: int = 0) -> str:
    """Dollars; a part that is unknown or estimated is said, never counted as 0."""
    text = dollars(usd)
    if unknown:
        text = f"{text} + {unknown} of unknown cost" if usd else "cost unknown"
    return f"~{text}" if estimated else text


def shorten(value: object, width: int = 100) -> str:
    """A value on one line: text as it is, anything else as JSON."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
