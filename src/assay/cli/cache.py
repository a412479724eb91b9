"""`assay cache`: what is kept, forgetting it, how alike questions must be. The cache is the gateway's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.markup import escape

from assay.cli.shell import JSON_OPTION, Shell, ago
from assay.config import Config
from assay.errors import ContextExceeded, DatasetError, NotFound
from assay.types import JSON

if TYPE_CHECKING:
    from assay.evals.dataset import Example
    from assay.gateway.semantic import Vector
    from assay.gateway.tuning import Point, Question
    from assay.stats import Interval
    from assay.types import Handler

app = typer.Typer(no_args_is_help=True, help="Replies that may be given again: what is kept, and tuning.")

_DEFAULT_MODEL = "local-embeddings"
_BATCH = 64
_SHOWN = (0.70, 0.75, 0.80, 0.85, 0.90, 0.92, 0.94, 0.96, 0.98, 0.99)


@app.command("stats")
def stats(context: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """Show how many replies are kept in the store for each name, and how much room they take."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        found = stores.replies.kept()
    if as_json:
        shell.json(found)
        return
    rows = [[escape(one.model), f"{one.replies:,}", f"{one.bytes:,}", ago(one.oldest_ns)] for one in found]
    columns = {"name": "left", "replies": "right", "bytes": "right", "oldest": "left"}
    shell.table(columns, rows, "Nothing is kept. Give a model or route a cache table in assay.toml.")


@app.command("clear")
def clear(
    context: typer.Context,
    name: str | None = typer.Argument(None, help="A model's or route's name; left out: all of them."),
) -> None:
    """Forget the replies that are kept. Servers that run forget theirs within a second or so."""
    shell: Shell = context.obj
    with shell.stores() as stores:
        gone = stores.replies.clear(name, time.time_ns())
    shell.out.print(f"Forgot {gone:,} replies.")


@app.command("tune")
def tune(
    context: typer.Context,
    dataset: str = typer.Option(..., "--dataset", "-d", help="Questions with their expected answers."),
    route: str | None = typer.Option(None, "--route", "-r", help="The model or route to tune it for."),
    precision: float = typer.Option(0.95, min=0.5, max=0.9999, help="The share of hits that must be right."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Measure how often a semantic cache would answer, and how often rightly, and propose a threshold.

    The examples are asked one after the other, as the cache would see them. Those with the same expected
    answer are equals; those without one are compared by their cluster.
    """
    from assay.gateway.tuning import curve, propose

    shell: Shell = context.obj
    model = _model_of(shell.config, route)
    with shell.stores() as stores:
        data = stores.dataset(dataset)
    questions = [question for example in data.examples if (question := _question(example))]
    asked, vectors = shell.run(lambda: _embed(shell.config, model, questions))
    if len(asked) < 2:
        raise DatasetError(
            f"{data.ref} has {len(asked)} examples with a text and an answer; a pair at least is needed"
        )
    points = curve(asked, vectors)
    proposed = propose(points, precision)
    if as_json:
        told = [_json(point) for point in points]
        best = None if proposed is None else proposed.threshold
        shell.json({"dataset": data.ref, "model": model, "points": told, "proposed": best})
        return
    _show(shell, data.ref, model, points, proposed)
    _say(shell, route, len(asked), precision, proposed)


def _model_of(config: Config, route: str | None) -> str:
    if route is None:
        return _DEFAULT_MODEL
    named = config.routes.get(route) or config.models.get(route)
    if named is None:
        raise NotFound(f"There is no model or route {route!r}; 'assay models' shows what there is")
    cache = named.cache
    return _DEFAULT_MODEL if cache is None or cache.semantic is None else cache.semantic.model


def _question(example: Example) -> Question | None:
    """What is asked and the word for its answer; None where one is missing."""
    from assay.gateway.tuning import Question

    given: JSON = example.input
    if isinstance(given, dict) and len(given) == 1:
        given = next(iter(given.values()))
    text = given if isinstance(given, str) else msgspec.json.encode(given).decode()
    if example.expected is not None:
        return Question(text, "= " + msgspec.json.encode(example.expected, order="sorted").decode())
    return None if example.cluster is None else Question(text, f"in {example.cluster}")


async def _embed(
    config: Config, model: str, questions: list[Question]
) -> tuple[list[Question], list[Vector]]:
    """Those that the model can take, and their vectors: longer ones are never compared."""
    from assay.app import open_app

    asked: list[Question] = []
    vectors: list[Vector] = []
    async with open_app(config) as opened:
        for start in range(0, len(questions), _BATCH):
            batch = questions[start : start + _BATCH]
            for part in await _those_that_fit(opened.handler, model, batch):
                asked.append(part[0])
                vectors.append(part[1])
    return asked, vectors


async def _those_that_fit(call: Handler, model: str, batch: list[Question]) -> list[tuple[Question, Vector]]:
    from assay.gateway.semantic import embedded

    try:
        vectors = await embedded(call, model, [one.text for one in batch])
    except ContextExceeded:
        if len(batch) == 1:
            return []
        half = len(batch) // 2
        first = await _those_that_fit(call, model, batch[:half])
        return [*first, *await _those_that_fit(call, model, batch[half:])]
    return list(zip(batch, vectors, strict=True))


def _json(point: Point) -> dict[str, JSON]:
    precision, rate = point.precision, point.hit_rate
    return {
        "threshold": point.threshold,
        "asked": point.asked,
        "hits": point.hits,
        "right": point.right,
        "hit_rate": [rate.low, rate.estimate, rate.high],
        "precision": None if precision is None else [precision.low, precision.estimate, precision.high],
    }


def _show(shell: Shell, ref: str, model: str, points: list[Point], proposed: Point | None) -> None:
    shell.out.print(f"[bold]{escape(ref)}[/bold]  {points[0].asked} questions, embedded by {escape(model)}")
    rows = [
        [
            f"{point.threshold:.2f}",
            str(point.hits),
            _percent(point.hit_rate),
            "-" if point.precision is None else _percent(point.precision),
            "[green]proposed[/green]" if point == proposed else "",
        ]
        for point in points
        if point.threshold in _SHOWN or point == proposed
    ]
    columns = {
        "threshold": "right",
        "hits": "right",
        "hit rate (95%)": "left",
        "precision (95%)": "left",
        "": "left",
    }
    shell.table(columns, rows, "")


def _percent(interval: Interval) -> str:
    return f"{interval.estimate:.1%} [{interval.low:.1%}, {interval.high:.1%}]".replace("[", "\\[")


def _say(shell: Shell, route: str | None, asked: int, precision: float, proposed: Point | None) -> None:
    if proposed is None:
        shell.out.print(
            f"No threshold is surely right in {precision:.0%} of its hits, by these {asked} questions. Add "
            "examples that ask the same in other words, ask for less (--precision), or leave it off."
        )
        return
    table = "routes" if route is None or route in shell.config.routes else "models"
    name = msgspec.json.encode(route or "NAME").decode()
    shell.out.print(f"\n\\[{table}.{escape(name)}.cache.semantic]\nthreshold = {proposed.threshold:.2f}")
