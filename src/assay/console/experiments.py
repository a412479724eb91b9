"""Pages of experiments: the list, and one experiment example by example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from assay.app import App
from assay.console import query
from assay.console.render import Renderer
from assay.console.summaries import Summaries, summarize
from assay.evals.experiment import Outcome, load_experiment

PAGE_EXPERIMENTS: Final = 25
PAGE_OUTCOMES: Final = 50
OFFERED: Final = 200


def below_full(outcome: Outcome) -> bool:
    """Whether it has an error, or a score below 1."""
    scores = (score.value for score in outcome.scores.values())
    return outcome.error is not None or any(value is not None and value < 1 for value in scores)


def unscored(outcome: Outcome) -> bool:
    return any(score.value is None for score in outcome.scores.values())


SHOWN: Final[Mapping[str, tuple[str, Callable[[Outcome], bool]]]] = {
    "failed": ("Failed or below 1", below_full),
    "errors": ("Errors only", lambda outcome: outcome.error is not None),
    "unscored": ("Unscored", unscored),
}
"""The filters of an experiment's outcomes, by their names in the address."""


class ExperimentPages:
    def __init__(self, app: App, render: Renderer, summaries: Summaries) -> None:
        self._store = app.store
        self._render = render
        self._summaries = summaries

    def routes(self) -> list[Route]:
        return [
            Route("/experiments", self.list),
            Route("/experiments/{reference:path}", self.experiment),
        ]

    def list(self, request: Request) -> Response:
        before_ns = query.number(request, "before_ns")
        found = self._summaries.newest(PAGE_EXPERIMENTS + 1, before_ns)
        page = found[:PAGE_EXPERIMENTS]
        older = None
        if len(found) > PAGE_EXPERIMENTS:
            older = query.link("/experiments", before_ns=page[-1].run.created_ns)
        return self._render("experiments.html", experiments=page, first=before_ns is None, older=older)

    def experiment(self, request: Request) -> Response:
        experiment = load_experiment(self._store, request.path_params["reference"])
        show = query.choice(request, "show", SHOWN)
        path = f"/experiments/{experiment.run.run_id}"
        examples = {
            example.id: (place, example) for place, example in enumerate(experiment.dataset.examples, 1)
        }
        rows = [
            (*examples[outcome.example_id], outcome)
            for outcome in experiment.outcomes
            if show is None or SHOWN[show][1](outcome)
        ]
        filters = [
            (name, label, sum(map(test, experiment.outcomes)), query.link(path, show=name))
            for name, (label, test) in SHOWN.items()
        ]
        return self._render(
            "experiment.html",
            experiment=experiment,
            summary=summarize(experiment),
            rows=query.piece(
                rows,
                query.number(request, "start") or 0,
                PAGE_OUTCOMES,
                lambda start: query.link(path, show=show, start=start or None),
            ),
            show=show,
            filters=filters,
            path=path,
            others=[run for run in self._summaries.finished(OFFERED) if run.run_id != experiment.run.run_id],
        )
