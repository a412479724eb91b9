"""Pages of traces: the list, one trace as a tree, one span with its messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from assay.app import App
from assay.console import query, waterfall
from assay.console.render import Renderer
from assay.trace import SpanNode

PAGE_TRACES: Final = 50
PURPOSES: Final = ("call", "eval", "judge")
_STATUSES: Final = ("ok", "error")


class TracePages:
    def __init__(self, app: App, render: Renderer) -> None:
        self._app = app
        self._render = render

    def routes(self) -> list[Route]:
        return [
            Route("/traces", self.list),
            Route("/traces/{trace_id}", self.trace),
            Route("/spans/{span_id}", self.span),
        ]

    def list(self, request: Request) -> Response:
        filters = {
            "model": query.text(request, "model"),
            "purpose": query.text(request, "purpose"),
            "status": query.choice(request, "status", _STATUSES),
            "prompt": query.text(request, "prompt"),
        }
        before_ns = query.number(request, "before_ns")
        found = self._app.traces.latest(PAGE_TRACES + 1, before_ns=before_ns, **filters)
        traces = found[:PAGE_TRACES]
        older = None
        if len(found) > PAGE_TRACES:
            older = query.link("/traces", **filters, before_ns=traces[-1].active_ns)
        return self._render(
            "traces.html",
            traces=traces,
            filters=filters,
            first=before_ns is None,
            newest=query.link("/traces", **filters),
            older=older,
            models=[info.name for info in self._app.models],
            purposes=PURPOSES,
        )

    def trace(self, request: Request) -> Response:
        nodes = self._app.traces.trace(request.path_params["trace_id"])
        return self._page(request, nodes, waterfall.telling(nodes).span_id)

    def span(self, request: Request) -> Response:
        span = self._app.traces.span(request.path_params["span_id"])
        if query.text(request, "part") == "panel":
            return self._render("panel.html", span=span)
        return self._page(request, self._app.traces.trace(span.trace_id), span.span_id)

    def _page(self, request: Request, nodes: Sequence[SpanNode], span_id: str) -> Response:
        """A trace's tree, with one of its spans laid open."""
        span = self._app.traces.span(span_id)
        totals = waterfall.totals(nodes)
        at = query.number(request, "at")
        first = waterfall.page_of(nodes, span_id) if at is None else at
        if first >= totals.spans:
            return RedirectResponse(f"/traces/{span.trace_id}")
        return self._render(
            "trace.html",
            span=span,
            branches=waterfall.branches(nodes, first, span_id),
            totals=totals,
            first=first,
            page=waterfall.PAGE_SPANS,
            root=nodes[0].span,
        )
