"""The site: which address leads to which page, and what a page says when something is wrong.

Endpoints are plain functions, so that starlette runs them in threads: queries and templates never hold up
the event loop that calls to models run on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from assay.app import App
from assay.console.asgi import ASGIApp, guarded
from assay.console.comparisons import ComparisonPage
from assay.console.experiments import ExperimentPages
from assay.console.overview import OverviewPage
from assay.console.prompts import PromptPages
from assay.console.render import STATIC, Renderer
from assay.console.summaries import Summaries
from assay.console.traces import TracePages
from assay.errors import AssayError

_TITLES = {
    400: "That does not work",
    404: "Nothing here",
    405: "Not like this",
    503: "The store does not answer",
}


def site(app: App, clock_ns: Callable[[], int] = time.time_ns) -> ASGIApp:
    """All pages of an App. The public way in is `assay.console.console`."""
    render = Renderer(clock_ns)
    summaries = Summaries(app.store)

    def problem(_request: Request, error: Exception) -> Response:
        assert isinstance(error, AssayError)
        title = _TITLES.get(error.status, "Something went wrong")
        return render.problem(error.status, title, error.message)

    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        title = _TITLES.get(error.status_code, "Something went wrong")
        message = f"There is no page {request.url.path}." if error.status_code == 404 else error.detail
        return render.problem(error.status_code, title, message)

    routes: list[Route | Mount] = [
        *OverviewPage(app, render, summaries).routes(),
        *TracePages(app, render).routes(),
        *ExperimentPages(app, render, summaries).routes(),
        *ComparisonPage(app, render, summaries).routes(),
        *PromptPages(app, render).routes(),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    handlers = {AssayError: problem, HTTPException: refused}
    return guarded(Starlette(routes=routes, exception_handlers=handlers))
