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
from assay.server import openai_chat
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
from assay.server.dialect import Dialect

log = logging.getLogger("assay.server")

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
            ("POST", "/v1/chat/completions"): self._calls(openai_chat.CHAT_COMPLETIONS),
            ("GET", "/v1/models"): self._models,
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
            status, body = openai_chat.encode_error(error)
            await respond(send, status, body, [JSON_TYPE, *_retry_after(error)])
        except Exception:
            log.exception("%s %s failed in a way that nobody foresaw", scope["method"], scope["path"])
            status, body = openai_chat.encode_error(
                AssayError(
                    "Assay failed on this request. That is a defect of Assay; its log has the details."
                )
            )
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
        if path in self._paths:
            raise MethodNotAllowed(f"{method} is not served at {path}")
        if method == "GET" and (model := re.fullmatch(r"/v1/models/(.+)", path)):
            return self._model(model[1])
        if self._pages is not None and not path.startswith("/v1/"):
            return self._pages
        raise NotFound(f"There is nothing at {path}; the API is below /v1, for example /v1/chat/completions")

    def _calls(self, dialect: Dialect, model: str = "") -> Endpoint:
        return partial(answer, self._app, dialect, model)

    async def _models(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        models = [_model(info.name, info.provider) for info in self._app.models]
        await respond(send, 200, msgspec.json.encode({"object": "list", "data": models}))

    def _model(self, name: str) -> Endpoint:
        async def one(_scope: Scope, _receive: Receive, send: Send) -> None:
            for info in self._app.models:
                if info.name == name:
                    await respond(send, 200, msgspec.json.encode(_model(name, info.provider)))
                    return
            raise NotFound(
                f"Model {name!r} is not configured; GET /v1/models lists what is", code="model_not_found"
            )

        return one

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


def _retry_after(error: AssayError) -> Headers:
    if error.retry_after_s is None:
        return []
    return [(b"retry-after", str(ceil(error.retry_after_s)).encode())]


def _model(name: str, provider: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": provider}
