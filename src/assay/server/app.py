"""The HTTP application: which path leads where, who may ask, and health. Dialects live beside this file."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import ceil

import anyio.to_thread
import msgspec

from assay.app import App
from assay.errors import AssayError, NotFound, RequestError, StorageError
from assay.keys import Key
from assay.server import metrics, models, routes
from assay.server.access import Access, challenge, is_api
from assay.server.asgi import (
    JSON_TYPE,
    ASGIApp,
    CallerGone,
    Headers,
    Receive,
    Scope,
    Send,
    respond,
)
from assay.server.calls import TRACE, UNFORESEEN, answer
from assay.server.openai_responses import stored
from assay.trace import Sample

log = logging.getLogger("assay.server")

_MODELS = re.compile(r"/v1(?:beta|alpha)?/models(?:/(?P<name>.+))?")

_RESPONSES = re.compile(r"/v1/responses/(?P<id>[^/]+)(?P<items>/input_items)?")

Endpoint = Callable[..., Awaitable[None]]
"""Takes scope, receive and send, as an ASGIApp does."""


class MethodNotAllowed(RequestError):
    """The path is served, but not by this method."""

    status = 405
    code = "method_not_allowed"


class Server:
    """An ASGI application over an App. What it has no path for goes to `pages`, the console."""

    def __init__(self, app: App, pages: ASGIApp | None = None) -> None:
        self._app = app
        self._pages = pages
        self._endpoints: dict[tuple[str, str], Endpoint] = {
            ("GET", "/healthz"): self._health,
            ("GET", "/readyz"): self._ready,
            ("GET", "/metrics"): self._metrics,
        }
        self._requests = 0
        self.others: Callable[[], list[Sample]] = list
        self._paths = {path for _, path in self._endpoints}
        self._access = Access(app.keyring, app.config.server)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # The process, not ASGI's lifespan, opens and closes the App; websockets are not accepted.
            return
        self._requests += 1
        try:
            self._access.check_origin(scope)
            key = await self._access.key(scope)
            await self._find(scope, key)(scope, receive, send)
        except CallerGone:
            return
        except AssayError as error:
            status, body = _in_the_callers_words(scope, error)
            await respond(
                send,
                status,
                body,
                [JSON_TYPE, *_traced(scope), *_retry_after(error), *challenge(scope, error)],
            )
        except Exception:
            log.exception("%s %s failed in a way that nobody foresaw", scope["method"], scope["path"])
            status, body = _in_the_callers_words(scope, AssayError(UNFORESEEN))
            # When a reply has begun already, uvicorn refuses another and closes the connection.
            with suppress(RuntimeError):
                await respond(send, status, body, [JSON_TYPE, *_traced(scope)])
        finally:
            self._requests -= 1

    def samples(self) -> list[Sample]:
        """The figures of this process."""
        return list(metrics.own(self._app, self._requests))

    def _find(self, scope: Scope, key: Key | None) -> Endpoint:
        method, path = scope["method"], scope["path"]
        endpoint = self._endpoints.get((method, path))
        if endpoint is not None:
            return partial(endpoint, key=key)
        found = routes.call(scope)
        if found is not None and method == "POST":
            return partial(answer, self._app, *found, key_id=None if key is None else key.id)
        if found is not None or path in self._paths:
            raise MethodNotAllowed(f"{method} is not served at {path}")
        if method in {"GET", "DELETE"} and (kept := _RESPONSES.fullmatch(path)) is not None:
            return partial(self._stored, response_id=kept["id"], items=kept["items"] is not None, key=key)
        if method == "GET" and (model := _MODELS.fullmatch(path)):
            return partial(self._models, name=model["name"], key=key)
        if self._pages is not None and not is_api(path):
            return self._pages
        raise NotFound(
            f"There is nothing at {path}; calls go to /v1/chat/completions, /v1/responses, /v1/embeddings, "
            "/v1/messages or /v1beta/models/MODEL:generateContent"
        )

    async def _stored(
        self, scope: Scope, _receive: Receive, send: Send, *, response_id: str, items: bool, key: Key | None
    ) -> None:
        """A response that was given before, to this key: read again, deleted, or what it was given."""
        key_id = None if key is None else key.id
        match scope["method"], items:
            case "GET", False:
                body = await stored.retrieve(self._app, response_id, key_id=key_id)
            case "DELETE", False:
                body = await stored.delete(self._app, response_id, key_id=key_id)
            case "GET", True:
                asked = routes.query(scope)
                body = await stored.input_items(
                    self._app,
                    response_id,
                    order=asked.get("order", "desc"),
                    after=asked.get("after"),
                    limit=routes.whole_number(asked.get("limit", "20")),
                    key_id=key_id,
                )
            case method, _:
                raise MethodNotAllowed(f"{method} is not served at {scope['path']}")
        await respond(send, 200, body)

    async def _models(
        self, scope: Scope, _receive: Receive, send: Send, *, name: str | None, key: Key | None
    ) -> None:
        if name is None:
            body = models.listed(self._app, scope, key)
        else:
            body = models.one(self._app, scope, name, key)
        await respond(send, 200, body)

    async def _health(self, _scope: Scope, _receive: Receive, send: Send, *, key: Key | None) -> None:
        """The process answers."""
        await respond(send, 200, b'{"status":"ok"}')

    async def _ready(self, _scope: Scope, _receive: Receive, send: Send, *, key: Key | None) -> None:
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
            "models": {info.name: info.problem or "ok" for info in models.usable(self._app, key)},
        }
        await respond(send, 200 if problem is None else 503, msgspec.json.encode(body))

    async def _metrics(self, _scope: Scope, _receive: Receive, send: Send, *, key: Key | None) -> None:
        """What Prometheus reads: of every worker, whichever of them is asked."""
        body = metrics.exposition([*self.samples(), *self.others()])
        await respond(send, 200, body, [(b"content-type", metrics.CONTENT_TYPE)])


def _in_the_callers_words(scope: Scope, error: AssayError) -> tuple[int, bytes]:
    return routes.ERRORS[routes.family(scope)](error)


def _traced(scope: Scope) -> Headers:
    """Where to look for what went wrong, once a call has a trace."""
    trace_id = scope.get(TRACE)
    return [] if trace_id is None else [(b"x-assay-trace-id", trace_id.encode())]


def _retry_after(error: AssayError) -> Headers:
    if error.retry_after_s is None:
        return []
    return [(b"retry-after", str(ceil(error.retry_after_s)).encode())]
