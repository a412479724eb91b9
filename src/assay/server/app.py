"""The HTTP application: which path leads where, who may ask, and health. Dialects live beside this file."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import ceil
from urllib.parse import urlsplit

import anyio.to_thread
import msgspec

from assay.app import App
from assay.config import is_loopback
from assay.errors import AssayError, AuthError, NotFound, RequestError, StorageError
from assay.server import models, routes
from assay.server.asgi import (
    JSON_TYPE,
    ASGIApp,
    CallerGone,
    Headers,
    Receive,
    Scope,
    Send,
    header,
    respond,
)
from assay.server.calls import answer
from assay.server.openai_responses import stored

log = logging.getLogger("assay.server")

_MODELS = re.compile(r"/v1(?:beta|alpha)?/models(?:/(?P<name>.+))?")

_RESPONSES = re.compile(r"/v1/responses/(?P<id>[^/]+)(?P<items>/input_items)?")

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]


class MethodNotAllowed(RequestError):
    """The path is served, but not by this method."""

    status = 405
    code = "method_not_allowed"


class Forbidden(AuthError):
    """The call comes from a web page of another site, or by a name that is not this server's."""

    status = 403
    code = "forbidden"


class Server:
    """An ASGI application over an App. What it has no path for goes to `pages`, the console."""

    def __init__(self, app: App, pages: ASGIApp | None = None) -> None:
        self._app = app
        self._pages = pages
        self._endpoints: dict[tuple[str, str], Endpoint] = {
            ("GET", "/healthz"): self._health,
            ("GET", "/readyz"): self._ready,
        }
        self._paths = {path for _, path in self._endpoints}
        self._hosts = {app.config.server.host.strip("[]"), "localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # The process, not ASGI's lifespan, opens and closes the App; websockets are not accepted.
            return
        try:
            self._admit(scope)
            await self._find(scope)(scope, receive, send)
        except CallerGone:
            return
        except AssayError as error:
            status, body = _in_the_callers_words(scope, error)
            await respond(send, status, body, [JSON_TYPE, *_retry_after(error)])
        except Exception:
            log.exception("%s %s failed in a way that nobody foresaw", scope["method"], scope["path"])
            failed = "Assay failed on this request. That is a defect of Assay; its log has the details."
            status, body = _in_the_callers_words(scope, AssayError(failed))
            # When a reply has begun already, uvicorn refuses another and closes the connection.
            with suppress(RuntimeError):
                await respond(send, status, body)

    def _admit(self, scope: Scope) -> None:
        """Refuses web pages of other sites: a browser on this machine can reach loopback for them."""
        try:
            self._check_origin(scope)
        except ValueError as error:
            raise Forbidden(f"The Host or Origin header is no address: {error}") from error

    def _check_origin(self, scope: Scope) -> None:
        host = header(scope, b"host")
        name = urlsplit(f"//{host}").hostname if host else None
        if name is not None and name not in self._hosts and not is_loopback(name):
            raise Forbidden(f"This server does not answer to the name {name!r}; use http://127.0.0.1")
        origin = header(scope, b"origin")
        if origin is not None and origin != "null" and urlsplit(origin).netloc == host:
            return
        if origin is not None or header(scope, b"sec-fetch-site") == "cross-site":
            raise Forbidden("Calls from web pages of other sites are refused; call from your own server")

    def _find(self, scope: Scope) -> Endpoint:
        method, path = scope["method"], scope["path"]
        endpoint = self._endpoints.get((method, path))
        if endpoint is not None:
            return endpoint
        found = routes.call(scope)
        if found is not None and method == "POST":
            return partial(answer, self._app, *found)
        if found is not None or path in self._paths:
            raise MethodNotAllowed(f"{method} is not served at {path}")
        if method in {"GET", "DELETE"} and (kept := _RESPONSES.fullmatch(path)) is not None:
            return partial(self._stored, response_id=kept["id"], items=kept["items"] is not None)
        if method == "GET" and (model := _MODELS.fullmatch(path)):
            return partial(self._models, name=model["name"])
        if self._pages is not None and not path.startswith(routes.API_PATHS):
            return self._pages
        raise NotFound(
            f"There is nothing at {path}; calls go to /v1/chat/completions, /v1/responses, /v1/embeddings, "
            "/v1/messages or /v1beta/models/MODEL:generateContent"
        )

    async def _stored(
        self, scope: Scope, _receive: Receive, send: Send, *, response_id: str, items: bool
    ) -> None:
        """A response that was given before: read again, deleted, or what it was given."""
        match scope["method"], items:
            case "GET", False:
                body = await stored.retrieve(self._app, response_id)
            case "DELETE", False:
                body = await stored.delete(self._app, response_id)
            case "GET", True:
                asked = routes.query(scope)
                limit = asked.get("limit", "20")
                body = await stored.input_items(
                    self._app,
                    response_id,
                    order=asked.get("order", "desc"),
                    after=asked.get("after"),
                    limit=int(limit) if limit.isdecimal() else 0,
                )
            case method, _:
                raise MethodNotAllowed(f"{method} is not served at {scope['path']}")
        await respond(send, 200, body)

    async def _models(self, scope: Scope, _receive: Receive, send: Send, *, name: str | None) -> None:
        body = models.listed(self._app, scope) if name is None else models.one(self._app, scope, name)
        await respond(send, 200, body)

    async def _health(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """The process answers."""
        await respond(send, 200, b'{"status":"ok"}')

    async def _ready(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """The store takes writes and no span has been lost."""
        problem: str | None = None
        try:
            await anyio.to_thread.run_sync(self._app.store.check)
        except StorageError as error:
            problem = error.message
        state = self._app.writer.state
        if problem is None:
            problem = state.error if self._app.writer.alive else "The span writer has stopped; restart Assay"
        body = {
            "status": "ok" if problem is None else "unavailable",
            "problem": problem,
            "spans": {"written": state.written, "waiting": state.waiting, "dropped": state.dropped},
            "models": {info.name: info.problem or "ok" for info in self._app.models},
        }
        await respond(send, 200 if problem is None else 503, msgspec.json.encode(body))


def _in_the_callers_words(scope: Scope, error: AssayError) -> tuple[int, bytes]:
    return routes.ERRORS[routes.family(scope)](error)


def _retry_after(error: AssayError) -> Headers:
    if error.retry_after_s is None:
        return []
    return [(b"retry-after", str(ceil(error.retry_after_s)).encode())]
