"""Pages of prompts: the list, and one prompt with its versions, labels and differences."""

from __future__ import annotations

from typing import Final, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from assay.app import App
from assay.console import query
from assay.console.render import Renderer
from assay.prompts.store import LATEST
from assay.types import Value

_KINDS: Final[dict[str, Literal["added", "removed", "place"]]] = {"+": "added", "-": "removed", "@": "place"}


class Line(Value):
    """A line of a difference."""

    kind: Literal["added", "removed", "same", "place"]
    text: str


class PromptPages:
    def __init__(self, app: App, render: Renderer) -> None:
        self._prompts = app.prompts
        self._render = render

    def routes(self) -> list[Route]:
        return [Route("/prompts", self.list), Route("/prompts/{name:path}", self.prompt)]

    def list(self, _request: Request) -> Response:
        return self._render("prompts.html", prompts=self._prompts.list())

    def prompt(self, request: Request) -> Response:
        name = request.path_params["name"]
        versions = self._prompts.versions(name)
        wanted = query.text(request, "version")
        latest = next((version for version in versions if LATEST in version.labels), versions[0])
        chosen = self._prompts.version(f"{name}@{wanted}") if wanted else latest
        place = next(at for at, version in enumerate(versions) if version.digest == chosen.digest)
        against = query.text(request, "against")
        if against:
            base = self._prompts.version(f"{name}@{against}")
        else:
            base = versions[min(place + 1, len(versions) - 1)]
        return self._render(
            "prompt.html",
            name=name,
            versions=versions,
            chosen=chosen,
            base=base,
            prompt=self._prompts.get(f"{name}@{chosen.digest}"),
            diff=diff_lines(self._prompts.diff(f"{name}@{base.digest}", f"{name}@{chosen.digest}")),
            moves=self._prompts.moves(name),
        )


def diff_lines(unified: str) -> list[Line]:
    """A unified diff without its file names, a line each.

    >>> [line.kind for line in diff_lines("--- a\\n+++ b\\n@@ -1 +1 @@\\n-x\\n+y\\n z\\n")]
    ['place', 'removed', 'added', 'same']
    """
    return [Line(_KINDS.get(text[:1], "same"), text) for text in unified.split("\n")[2:] if text]
