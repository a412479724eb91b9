"""The first page: the newest of everything, and what to do when there is nothing yet."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from assay.app import App
from assay.console.render import Renderer
from assay.console.summaries import Summaries

_NEWEST = 8


class OverviewPage:
    def __init__(self, app: App, render: Renderer, summaries: Summaries) -> None:
        self._app = app
        self._render = render
        self._summaries = summaries

    def routes(self) -> list[Route]:
        return [Route("/", self.overview)]

    def overview(self, request: Request) -> Response:
        app = self._app
        return self._render(
            "overview.html",
            traces=app.traces.latest(_NEWEST),
            experiments=self._summaries.newest(_NEWEST),
            prompts=app.prompts.list()[:_NEWEST],
            models=app.models,
            writer=app.writer.state,
            spans=app.traces.count(),
            base_url=f"{request.url.scheme}://{request.url.netloc}/v1",
        )
