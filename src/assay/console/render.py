"""Templates to responses. What the pages know is put together elsewhere; everything in them is escaped."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Final

import jinja2
from starlette.responses import HTMLResponse, Response

from assay.console import figures
from assay.console.messages import shown
from assay.evals.costs import Spend, dollars, total
from assay.trace import TraceSummary

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"


class Renderer:
    """Renders the pages of one App. Thread-safe. `clock_ns` says what "3 min ago" is counted from."""

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            ago=lambda at_ns: figures.ago(at_ns, clock_ns()),
            dollars=dollars,
            duration=figures.duration,
            figure=figures.figure,
            fold=figures.fold,
            iso=figures.iso,
            moment=figures.moment,
            readable=figures.readable,
            signed=figures.signed,
        )
        self._environment.globals.update(
            plural=figures.plural, shown=shown, spend_of=_spend_of, static_version=_version(), total=total
        )

    def __call__(self, template: str, /, **values: object) -> Response:
        """The page that a template makes of these values."""
        return HTMLResponse(self._environment.get_template(template).render(values))

    def problem(self, status: int, title: str, message: str) -> Response:
        """The page that says what is wrong, and where to go from there."""
        page = self._environment.get_template("error.html")
        return HTMLResponse(page.render(status=status, title=title, message=message), status)


def _spend_of(trace: TraceSummary) -> Spend:
    return Spend(trace.cost_usd, trace.calls, trace.estimated, trace.unpriced)


def _version() -> str:
    """Changes with the static files, so that a browser can keep them until then."""
    digest = blake2b(digest_size=6)
    for file in sorted(STATIC.iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()
