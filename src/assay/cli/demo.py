"""`assay demo`: the whole loop on the folder of the example, with the real local model.

    call -> Span -> Example -> Experiment -> Decision -> the label `production` moves

Every step is what the other commands do; running it again finds what is there and only shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from assay.cli.datasets import example_of
from assay.cli.experiments import print_decision, progress_bar, spend
from assay.cli.shell import Shell, seconds
from assay.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from assay.app import App
    from assay.evals import Dataset, Example, Experiment
    from assay.trace import Span

PROMPT, CANDIDATE, DATASET, INCOMING = "support", "grounded", "support", "incoming"


def demo(
    context: typer.Context,
    fresh: bool = typer.Option(False, "--fresh", help="Run the experiments again, though they are finished."),
) -> None:
    """Run the loop on the shipped example: calls, dataset, two prompt versions, verdict, new production."""
    shell: Shell = context.obj
    if not shell.config.path(f"datasets/{INCOMING}.jsonl").is_file():
        raise ConfigError("This folder is not the example; go to examples/support and run 'assay demo' there")
    shell.run(lambda: _loop(shell, fresh))


async def _loop(shell: Shell, fresh: bool) -> None:
    from assay.app import open_app
    from assay.evals.compare import compare

    async with open_app(shell.config) as app:
        began = app.tracer.clock_ns()
        _heading(shell, 1, "Prompts become versions")
        _versions(shell, app)
        _heading(shell, 2, "Calls through the gateway become spans")
        calls = await _calls(shell, app)
        _heading(shell, 3, "Spans and files become a dataset")
        dataset = _dataset(shell, app, calls)
        _heading(shell, 4, "Two prompt versions are tried on it")
        baseline = await _experiment(shell, app, f"{PROMPT}@latest", dataset, fresh)
        candidate = await _experiment(shell, app, f"{PROMPT}@{CANDIDATE}", dataset, fresh)
        _heading(shell, 5, "The decision")
        decision = compare(baseline, candidate)
        print_decision(shell, decision, flips=3)
        _promote(shell, app, decision.outcome, decision.summary())
        took = (app.tracer.clock_ns() - began) / 1e9
        shell.out.print(
            f"\n[dim]The loop took {seconds(took)}. Look closer: assay trace list, assay eval list, assay "
            f"compare {baseline.run.run_id[:8]} {candidate.run.run_id[:8]}, or the console: assay up[/dim]"
        )


def _heading(shell: Shell, number: int, title: str) -> None:
    shell.out.print(f"\n[bold]{number}. {title}[/bold]")


def _versions(shell: Shell, app: App) -> None:
    app.stores.sync_prompts()
    try:
        app.prompts.version(f"{PROMPT}@production")
    except NotFound:
        app.prompts.set_label(f"{PROMPT}@latest", "production", reason="what the help desk starts with")
    for version in app.prompts.versions(PROMPT):
        shell.out.print(f"  {version.ref}  {escape(', '.join(version.labels))}")


async def _calls(shell: Shell, app: App) -> list[tuple[Span, Example]]:
    """One recorded call for each incoming question, with the example that a reviewer made of it."""
    reviewed = app.stores.dataset(INCOMING)
    recorded = _recorded(app)
    missing = [example for example in reviewed.examples if example.input["question"] not in recorded]
    if missing:
        prompt = app.stores.prompt(f"{PROMPT}@production")
        for example in missing:
            await app.respond(prompt.request(example.input))
        app.flush()
        recorded = _recorded(app)
    calls = [(recorded[example.input["question"]], example) for example in reviewed.examples]
    first = calls[0][0]
    shell.out.print(f"  {len(calls)} calls, {len(missing)} of them new; the first of them:")
    shell.out.print(f"  [dim]asked[/dim]     {escape(first.input[-1].text)}")
    shell.out.print(f"  [dim]answered[/dim]  {escape(first.output[0].text)}")
    shell.out.print(f"  [dim]assay trace show {first.span_id}[/dim]")
    return calls


def _recorded(app: App) -> dict[str, Span]:
    calls = app.traces.calls(1000, prompt=PROMPT)
    asked = ((call.attributes.get("assay.prompt.variables"), call) for call in calls)
    return {str(variables["question"]): call for variables, call in asked if variables}


def _dataset(shell: Shell, app: App, calls: list[tuple[Span, Example]]) -> Dataset:
    """The file's examples and the recorded calls, each with the answer that a reviewer says is right."""
    from assay.evals import Dataset

    file = app.stores.dataset(DATASET)
    made = [
        example_of(call, expected=reviewed.expected, cluster=reviewed.cluster) for call, reviewed in calls
    ]
    dataset = Dataset(DATASET, (*file.examples, *made))
    app.datasets.save(dataset)
    clusters = len({example.cluster for example in dataset.examples})
    shell.out.print(
        f"  {dataset.ref}: {len(file)} from datasets/{DATASET}.jsonl and {len(made)} from spans, "
        f"in {clusters} clusters by topic"
    )
    return dataset


async def _experiment(shell: Shell, app: App, ref: str, dataset: Dataset, fresh: bool) -> Experiment:
    from assay.evals import Plan, PromptTask, run_experiment, scorers_of

    prompt = app.stores.prompt(ref)
    plan = Plan(PromptTask(prompt, app.handler), dataset, scorers_of(["includes"]))
    with progress_bar(shell, prompt.ref) as step:
        experiment = await run_experiment(
            plan, app.store, concurrency=4, fresh=fresh, progress=step, tracer=app.tracer
        )
    right = sum(outcome.scores["includes"].value == 1 for outcome in experiment.outcomes)
    label, answers = ref.partition("@")[2], len(experiment.outcomes)
    shell.out.print(
        f"  {escape(prompt.ref)} ({label}): {right} of {answers} answers have the fact, "
        f"{experiment.errors} failed, cost {spend(experiment.task_cost)}"
    )
    return experiment


def _promote(shell: Shell, app: App, outcome: str, why: str) -> None:
    shell.out.print()
    winner = app.prompts.version(f"{PROMPT}@{CANDIDATE}")
    if outcome != "better":
        shell.out.print(f"  {PROMPT}@production stays where it is.")
    elif "production" in winner.labels:
        shell.out.print(f"  {PROMPT}@production is {winner.ref} already.")
    else:
        app.prompts.set_label(winner.ref, "production", reason=why)
        shell.out.print(f"  [bold]{PROMPT}@production is now {winner.ref}[/bold]")
        shell.out.print(f"  [dim]undo: assay prompt label {PROMPT} production --undo[/dim]")
