"""The page of a decision: which of two experiments is better, and on which examples they differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from assay.app import App
from assay.console import chart, query
from assay.console.experiments import OFFERED
from assay.console.render import Renderer
from assay.console.summaries import Summaries
from assay.errors import RequestError
from assay.evals.experiment import load_experiment
from assay.types import Value, replace

if TYPE_CHECKING:
    from assay.evals.compare import Decision, Flip

PAGE_FLIPS: Final = 25
SHOWN: Final[Mapping[str, Callable[[Flip], bool]]] = {
    "worse": lambda flip: flip.change < 0,
    "better": lambda flip: flip.change > 0,
}


class Asked(Value):
    """What the address says: two experiments, by which score, and the margin as it was written."""

    a: str | None
    b: str | None
    scorer: str | None
    margin: str | None

    def link(self, *, show: str | None = None, start: int | None = None) -> str:
        """The address of this page, with what is shown of the changed examples."""
        fields = msgspec.structs.asdict(self)
        return query.link("/compare", **fields, show=show, start=start or None)

    @property
    def margin_value(self) -> float:
        """Raises RequestError for what is no margin."""
        try:
            margin = float(self.margin or 0)
        except ValueError:
            margin = math.nan
        if not (0 <= margin < math.inf):
            raise RequestError(
                f"margin is {self.margin!r}; give the largest difference that does not matter, such as 0.02"
            )
        return margin


class ComparisonPage:
    def __init__(self, app: App, render: Renderer, summaries: Summaries) -> None:
        self._store = app.store
        self._render = render
        self._summaries = summaries

    def routes(self) -> list[Route]:
        return [Route("/compare", self.compare)]

    def compare(self, request: Request) -> Response:
        from assay.evals.compare import compare  # numpy and scipy, when the first comparison is asked for

        asked = Asked(*(query.text(request, name) for name in ("a", "b", "scorer", "margin")))
        margin = asked.margin_value
        if asked.a is None or asked.b is None:
            return self._page(asked)
        a, b = load_experiment(self._store, asked.a), load_experiment(self._store, asked.b)
        scorers = tuple(name for name in a.scorers if name in b.scorers)
        asked = replace(
            asked, a=a.run.run_id, b=b.run.run_id, scorer=asked.scorer or next(iter(scorers), None)
        )
        try:
            decision = compare(a, b, scorer=asked.scorer, margin=margin)
        except RequestError as error:
            return self._page(asked, scorers, problem=error.message)
        return self._decided(request, asked, scorers, decision)

    def _decided(
        self, request: Request, asked: Asked, scorers: tuple[str, ...], decision: Decision
    ) -> Response:
        show = query.choice(request, "show", SHOWN)
        kept = [flip for flip in decision.flips if show is None or SHOWN[show](flip)]
        if show == "better":
            kept.reverse()
        return self._page(
            asked,
            scorers,
            decision=decision,
            charts=chart.effect_charts(decision),
            names=_names(decision),
            flips=query.piece(
                kept,
                query.number(request, "start") or 0,
                PAGE_FLIPS,
                lambda start: asked.link(show=show, start=start),
            ),
            counts={name: sum(map(test, decision.flips)) for name, test in SHOWN.items()},
            links={"all": asked.link(), **{name: asked.link(show=name) for name in SHOWN}},
            swapped=replace(asked, a=asked.b, b=asked.a).link(),
            show=show,
        )

    def _page(self, asked: Asked, scorers: tuple[str, ...] = (), **values: object) -> Response:
        values = {"decision": None, "problem": None, **values}
        experiments = self._summaries.finished(OFFERED)
        return self._render("compare.html", asked=asked, scorers=scorers, experiments=experiments, **values)


def _names(decision: Decision) -> tuple[str, str]:
    """What the two are called where both are spoken of."""
    a, b = decision.a, decision.b
    if a.name != b.name:
        return a.name, b.name
    return f"{a.name} ({a.run_id[:8]})", f"{b.name} ({b.run_id[:8]})"
