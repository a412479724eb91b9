"""Who calls: the key that a request brings, and what each path wants. Which keys there are is assay.keys'.

Everything is decided on the path as it is routed and on the connection, never on the Host header, which the
caller writes. What is not known is refused.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

from assay.config import ServerSettings, is_address, is_loopback
from assay.errors import AuthError, Forbidden
from assay.keys import Key, Keyring
from assay.server.asgi import Headers, Scope, header

API_PATHS: Final = ("/v1/", "/v1beta/", "/v1alpha/", "/api/")
"""What stands below these is an API's, never a page's."""

Wants: TypeAlias = Literal["nothing", "key", "key or here", "console or here"]
"""What a path asks of its caller; `here` is a program on this machine, with nobody in between."""

_BEARER: Final = re.compile(r"bearer +(?P<key>.*)", re.IGNORECASE | re.DOTALL)
_BASIC: Final = re.compile(r"basic +(?P<pair>.*)", re.IGNORECASE | re.DOTALL)
_KEY_HEADERS: Final = frozenset({b"x-api-key", b"x-goog-api-key"})
_PASSED_ON: Final = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"})
"""What proxies put on a request: its caller is somebody else than who has the connection."""


class Access:
    """Lets callers in, for one server. `key` is None for those who need none."""

    def __init__(self, keyring: Keyring, settings: ServerSettings) -> None:
        self._keyring = keyring
        self._reachable = not is_loopback(settings.host)
        self._names = {settings.host.strip("[]").lower(), "localhost", *map(str.lower, settings.hosts)}

    async def key(self, scope: Scope) -> Key | None:
        """The key that the call is made with, where its path wants one. Raises AuthError, Forbidden."""
        wanted = wants(scope["path"])
        if wanted == "nothing":
            return None
        await self._keyring.fresh()
        # Who can be reached by others never does without keys, whatever became of them since it started.
        if not self._keyring.required and not self._reachable:
            return None
        sent = credential(scope, basic=not is_api(scope["path"]))
        if sent is None:
            if wanted != "key" and is_here(scope):
                return None
            raise AuthError(
                "This server wants a key: send it as 'Authorization: Bearer ask-...', x-api-key or "
                "x-goog-api-key; 'assay key create NAME' makes one",
                code="missing_api_key",
            )
        key = await self._keyring.admit(sent)
        if wanted == "console or here" and not key.console and not is_here(scope):
            raise Forbidden(
                f"The key {key.name!r} does not open the console, which shows everybody's calls; create one "
                "with --console, or look from the machine itself"
            )
        return key

    def check_origin(self, scope: Scope) -> None:
        """Refuses web pages of other sites: a browser on this machine can reach loopback for them."""
        try:
            self._check_origin(scope)
        except ValueError as error:
            raise Forbidden(f"The Host or Origin header is no address: {error}") from error

    def _check_origin(self, scope: Scope) -> None:
        host = header(scope, b"host")
        name = urlsplit(f"//{host}").hostname if host else None
        if name is not None and not self._answers_to(name):
            raise Forbidden(
                f"This server does not answer to the name {name[:100]!r}; use http://127.0.0.1, or add the "
                "name to hosts under [server] in assay.toml"
            )
        origin = header(scope, b"origin")
        if origin is not None and origin != "null" and urlsplit(origin).netloc == host:
            return
        if origin is not None or header(scope, b"sec-fetch-site") == "cross-site":
            raise Forbidden("Calls from web pages of other sites are refused; call from your own server")

    def _answers_to(self, name: str) -> bool:
        """A page can make its own name lead to this machine, but not make an address of it."""
        return name in self._names or is_loopback(name) or (self._reachable and is_address(name))


def wants(path: str) -> Wants:
    """What the path asks of its caller. A path that nobody has thought of is a page."""
    if path == "/healthz":
        return "nothing"
    if is_api(path):
        return "key"
    return "key or here" if path in ("/readyz", "/metrics") else "console or here"


def is_api(path: str) -> bool:
    """Whether an API is called; the console's pages are elsewhere."""
    return path.startswith(API_PATHS)


def is_here(scope: Scope) -> bool:
    """Whether a program on this machine has the other end of the connection, and calls for itself."""
    client = scope.get("client")
    if client is None or not is_loopback(client[0]):
        return False
    return not any(name in _PASSED_ON for name, _ in scope["headers"])


def credential(scope: Scope, *, basic: bool = False) -> str | None:
    """The one key that the request brings, in any of the ways in which the APIs' clients send theirs.

    Raises AuthError for two that differ: it would be unclear who pays. `basic` is for browsers, which ask
    their user for a name and a password: the password is the key, the name anything.
    """
    found: dict[str, None] = {}
    for name, value in scope["headers"]:
        if name == b"authorization":
            text = value.decode("latin-1").strip()
            if bearer := _BEARER.fullmatch(text):
                found[bearer["key"].strip()] = None
            elif basic and (pair := _BASIC.fullmatch(text)):
                found[_password(pair["pair"])] = None
        elif name in _KEY_HEADERS:
            found[value.decode("latin-1").strip()] = None
    if asked := scope.get("query_string"):
        found.update(dict.fromkeys(parse_qs(asked.decode("latin-1")).get("key", ())))
    found.pop("", None)
    if len(found) > 1:
        raise AuthError(
            "Two different keys were sent (Authorization, x-api-key, x-goog-api-key and ?key= all count); "
            "send one"
        )
    return next(iter(found), None)


def challenge(scope: Scope, error: Exception) -> Headers:
    """How a refused caller may say who it is; a browser asks its user."""
    if not isinstance(error, AuthError) or isinstance(error, Forbidden):
        return []
    scheme = b"Bearer" if is_api(scope["path"]) else b'Basic realm="Assay: any name, a key as the password"'
    return [(b"www-authenticate", scheme)]


def _password(pair: str) -> str:
    try:
        return b64decode(pair, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
