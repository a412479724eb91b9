"""`assay eval` and `assay compare`: experiments, and which of two is better."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from assay.cli.shell import JSON_OPTION, Shell, ago, money, seconds, shorten
from assay.errors import ConfigError

if TYPE_CHECKING:
    from assay.app import App
    from assay.evals import Experiment, Outcome, Plan, Spend
    from assay.evals import Progress as Step
    from assay.evals.compare import Decision, Side

app = typer.Typer(no_args_is_help=True, help="Experiments: a task on a dataset, judged by scorers.")


@app.command("run")
def run_eval(
    context: typer.Context,
    dataset: str = typer.Option(
        ..., "--dataset", "-d", help="A name in datasets/, a .jsonl file, NAME@VERSION."
    ),
    prompt: str | None = typer.Option(
        None, "--prompt", "-p", help="Try this prompt: NAME@LABEL or NAME@VERSION."
    ),
    task: str | None = typer.Option(None, help="Or try this function: FILE.py:NAME, async or not."),
    model: str | None = typer.Option(None, help="The model, if not the prompt's own."),
    scorer: list[str] = typer.Option(
        ["includes"],
        "--scorer",
        "-s",
        help="exact, includes, regex:P, numeric:0.01, json_valid, json_schema:F, "
        "python:F.py:NAME, judge:RUBRIC.md; several may be given.",
    ),
    judge_model: str | None = typer.Option(None, help="The model that judges."),
    repeats: int = typer.Option(1, min=1, help="How often each example is tried."),
    concurrency: int = typer.Option(8, min=1, max=1000, help="How many at once."),
    name: str = typer.Option("", help="A name for people."),
    fresh: bool = typer.Option(False, help="Begin anew, though the same experiment was run before."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Run an experiment. The same command goes on where it was interrupted, and repeats no finished call."""
    from assay.app import open_app
    from assay.evals import run_experiment

    shell: Shell = context.obj

    async def work() -> Experiment:
        async with open_app(shell.config) as opened:
            plan = _plan(opened, dataset, prompt, task, model, scorer, judge_model, repeats, name)
            with progress_bar(shell, plan.title) as step:
                return await run_experiment(
                    plan,
                    opened.store,
                    concurrency=concurrency,
                    fresh=fresh,
                    progress=step,
                    tracer=opened.tracer,
                )

    try:
        experiment = shell.run(work)
    except KeyboardInterrupt:
        shell.err.print("Interrupted; what is finished is stored. The same command goes on from there.")
        raise
    if as_json:
        shell.json(summary(experiment))
        return
    print_experiment(shell, experiment)


def _plan(
    opened: App, dataset: str, prompt: str | None, task: str | None, model: str | None,
    scorers: list[str], judge_model: str | None, repeats: int, name: str,
) -> Plan:  # fmt: skip
    from assay.evals import Bench, Plan, PromptTask, function_task, load, scorers_of

    if (prompt is None) == (task is None):
        raise ConfigError("Say what to try: either --prompt NAME@LABEL or --task FILE.py:NAME")
    tried = (
        PromptTask(opened.stores.prompt(prompt), opened.handler, model)
        if prompt is not None
        else function_task(load(str(task)))
    )
    bench = Bench(Path.cwd(), opened.handler, judge_model)
    return Plan(tried, opened.stores.dataset(dataset), scorers_of(scorers, bench), repeats, name)


@contextmanager
def progress_bar(shell: Shell, title: str) -> Iterator[Callable[[Step], None]]:
    """A bar with the cost so far; in a log, a line at every tenth."""
    if not shell.err.is_terminal:
        yield _lines(shell, title)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[spent]}"),
    )  # fmt: skip
    with Progress(*columns, console=shell.err, transient=True) as progress:
        bar = progress.add_task(escape(title), total=None, spent="")

        def step(at: Step) -> None:
            failed = f"  [red]{at.errors} failed[/red]" if at.errors else ""
            progress.update(bar, completed=at.done, total=at.total, spent=spend(at.cost) + failed)

        yield step


def _lines(shell: Shell, title: str) -> Callable[[Step], None]:
    told = 0

    def step(at: Step) -> None:
        nonlocal told
        tenths = 10 * at.done // at.total
        if tenths > told and at.done > at.recorded:
            told = tenths
            shell.err.print(
                f"  {escape(title)}: {at.done} of {at.total}, {at.errors} failed, {spend(at.cost)}"
            )

    return step


def spend(cost: Spend) -> str:
    return money(cost.usd, cost.unknown, cost.estimated)


def summary(experiment: Experiment) -> dict[str, object]:
    """What a program wants to know of an experiment."""
    return {
        "id": experiment.run.run_id,
        "name": experiment.name,
        "status": experiment.run.status,
        "dataset": experiment.dataset.ref,
        "examples": len(experiment.dataset),
        "repeats": experiment.repeats,
        "done": len(experiment.outcomes),
        "errors": experiment.errors,
        "scores": means(experiment),
        "cost": {"task": experiment.task_cost.as_json(), "scoring": experiment.scoring_cost.as_json()},
    }


def means(experiment: Experiment) -> dict[str, float | None]:
    """The mean of each scorer, over what has a score."""
    found: dict[str, float | None] = {}
    for name in experiment.scorers:
        scored = [outcome.scores[name].value for outcome in experiment.outcomes if name in outcome.scores]
        values = [value for value in scored if value is not None]
        found[name] = sum(values) / len(values) if values else None
    return found


def print_experiment(shell: Shell, experiment: Experiment) -> None:
    """A few lines for people."""
    run = experiment.run
    size = len(experiment.dataset) * experiment.repeats
    shell.out.print(f"[bold]{escape(experiment.name)}[/bold] on {escape(experiment.dataset.ref)}")
    shell.out.print(f"  id {run.run_id[:12]}, {run.status}")
    shell.out.print(f"  {len(experiment.outcomes)} of {size} done, {experiment.errors} failed")
    for name, mean in means(experiment).items():
        shell.out.print(f"  {escape(name)}: {'unscored' if mean is None else f'{mean:.3f}'}")
    shell.out.print(f"  cost: {spend(experiment.task_cost)}, scoring {spend(experiment.scoring_cost)}")


@app.command("list")
def list_evals(
    context: typer.Context,
    limit: int = typer.Option(20, "--limit", "-n", min=1, help="How many."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List the newest experiments."""
    from assay.evals import list_experiments

    shell: Shell = context.obj
    with shell.stores() as stores:
        found = list_experiments(stores.store, limit=limit)
    if as_json:
        shell.json([summary(experiment) for experiment in found])
        return
    rows = [
        [
            experiment.run.run_id[:12],
            ago(experiment.run.created_ns),
            escape(experiment.name),
            escape(experiment.dataset.ref),
            experiment.run.status,
            f"{len(experiment.outcomes)}/{len(experiment.dataset) * experiment.repeats}",
            "  ".join(
                f"{name} {'-' if mean is None else f'{mean:.3f}'}" for name, mean in means(experiment).items()
            ),
            spend(experiment.task_cost + experiment.scoring_cost),
        ]
        for experiment in found
    ]
    columns = {
        "id": "left",
        "begun": "left",
        "experiment": "left",
        "dataset": "left",
        "status": "left",
        "done": "right",
    }
    columns |= {"means": "left", "cost": "right"}
    shell.table(columns, rows, "No experiments yet. Run one: assay eval run --prompt NAME --dataset NAME")


@app.command("show")
def show_eval(
    context: typer.Context,
    experiment: str = typer.Argument(help="The beginning of its id, or its name (the newest)."),
    failed: bool = typer.Option(False, "--failed", help="Only examples that failed or scored below 1."),
    limit: int = typer.Option(20, "--limit", "-n", min=1, help="How many examples."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show an experiment, example by example."""
    from assay.evals import load_experiment

    shell: Shell = context.obj
    with shell.stores() as stores:
        found = load_experiment(stores.store, experiment)
    outcomes = [
        outcome
        for outcome in found.outcomes
        if not failed or outcome.error or any((score.value or 0) < 1 for score in outcome.scores.values())
    ]
    if as_json:
        shell.json({**summary(found), "outcomes": outcomes})
        return
    print_experiment(shell, found)
    examples = {example.id: example for example in found.dataset.examples}
    rows = []
    for outcome in outcomes[:limit]:
        example = examples[outcome.example_id]
        output = f"{outcome.error.type}: {outcome.error.message}" if outcome.error else str(outcome.output)
        scores = " ".join(
            f"{'-' if one.value is None else f'{one.value:g}'}" for one in outcome.scores.values()
        )
        rows.append([escape(str(example.expected)), escape(output), scores, seconds(outcome.latency_s)])
    shell.table({"expected": "left", "output": "left", "scores": "right", "took": "right"}, rows, "")
    if len(outcomes) > limit:
        shell.out.print(f"[dim]... and {len(outcomes) - limit} more (--limit)[/dim]")


GATE_STATUS = {"better": 0, "equivalent": 0, "worse": 1, "not enough data": 2}
"""What `--gate` exits with."""


def compare(
    context: typer.Context,
    a: str = typer.Argument(help="The baseline: the beginning of an experiment's id, or its name."),
    b: str = typer.Argument(help="The candidate."),
    scorer: str | None = typer.Option(None, "--scorer", "-s", help="Which score, if there are several."),
    margin: float = typer.Option(0.0, min=0.0, help="Differences smaller than this do not matter."),
    gate: bool = typer.Option(
        False, "--gate", help="Exit with 1 when B is worse, 2 when there is not enough data."
    ),
    flips: int = typer.Option(5, min=0, help="How many changed examples to show."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Say whether experiment B is better than A: with effect, 95% interval, cost and latency."""
    from assay.evals import load_experiment
    from assay.evals.compare import compare as decide

    shell: Shell = context.obj
    with shell.stores() as stores:
        baseline, candidate = (load_experiment(stores.store, reference) for reference in (a, b))
    decision = decide(baseline, candidate, scorer=scorer, margin=margin)
    if as_json:
        sides = {"a": _side_json(decision.a), "b": _side_json(decision.b)}
        shell.json({**msgspec.structs.asdict(decision), **sides, "summary": decision.summary()})
    else:
        print_decision(shell, decision, flips)
    if gate:
        raise typer.Exit(GATE_STATUS[decision.outcome])


COLOURS = {"better": "green", "worse": "red", "equivalent": "cyan", "not enough data": "yellow"}


def print_decision(shell: Shell, decision: Decision, flips: int) -> None:
    """The verdict, both sides, and the examples that changed."""
    verdict, a, b = decision.verdict, decision.a, decision.b
    colour = COLOURS[decision.outcome]
    shell.out.print(
        f"[bold {colour}]{decision.outcome.upper()}[/bold {colour}]  {escape(decision.summary())}"
    )
    rows = [
        ["A", escape(a.name), *_side(a)],
        ["B", escape(b.name), *_side(b)],
    ]
    columns = {"": "left", "experiment": "left", "mean": "right", "95% interval": "right"}
    columns |= {"errors": "right", "cost": "right", "p50": "right", "p95": "right"}
    shell.table(columns, rows, "")
    test = "" if verdict.p_value is None else f", p = {verdict.p_value:.3g}"
    shell.out.print(f"[dim]{escape(verdict.reason)} ({escape(verdict.method)}{test})[/dim]")
    if not flips or not decision.flips:
        return
    better = sum(flip.change > 0 for flip in decision.flips)
    shell.out.print(f"\n{better} examples got better, {len(decision.flips) - better} got worse:")
    for flip in decision.flips[:flips]:
        sign = "[green]+[/green]" if flip.change > 0 else "[red]-[/red]"
        shell.out.print(f" {sign} {escape(shorten(flip.input))}  expected: {escape(shorten(flip.expected))}")
        shell.out.print(f"     A: {escape(_answer(flip.a))}")
        shell.out.print(f"     B: {escape(_answer(flip.b))}")
    if len(decision.flips) > flips:
        shell.out.print(f"[dim] ... and {len(decision.flips) - flips} more (--flips)[/dim]")


def _side_json(side: Side) -> dict[str, object]:
    costs = {"cost": side.cost.as_json(), "scoring_cost": side.scoring_cost.as_json()}
    return {**msgspec.structs.asdict(side), **costs}


def _side(side: Side) -> list[str]:
    interval = "" if side.low is None or side.high is None else f"[{side.low:.3f}, {side.high:.3f}]"
    cost = spend(side.cost) + (f" + {spend(side.scoring_cost)} judging" if side.scoring_cost.calls else "")
    times = ["" if one is None else seconds(one) for one in (side.latency_p50_s, side.latency_p95_s)]
    return [f"{side.mean:.3f}", escape(interval), str(side.errors), cost, *times]


def _answer(outcomes: tuple[Outcome, ...]) -> str:
    first = outcomes[0]
    return shorten(first.output) if first.error is None else f"{first.error.type}: {first.error.message}"
