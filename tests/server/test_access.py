"""Who may call: every style of credential, every path, every way round; at the level of ASGI."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.app import App, open_app
from assay.config import load
from assay.errors import AuthError, BadResponse
from assay.keys.token import new_id, new_token
from assay.server import routes
from assay.server.access import API_PATHS, credential, is_api, is_here, wants
from assay.server.app import Server
from assay.types import Event, Request

pytestmark = pytest.mark.anyio

TOML = """
[server]
hosts = ["Assay.Example.com"]
[providers.stage]
dialect = "scripted"
replies = ["a b c"]
[models.stage]
provider = "stage"
[models.other]
provider = "stage"
"""
CALL = {"model": "stage", "messages": [{"role": "user", "content": "x"}]}
HERE, AWAY = ("127.0.0.1", 5000), ("192.0.2.7", 5000)


async def pages(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a page"})


class World:
    def __init__(self, app: App) -> None:
        self.app = app
        self.server = Server(app, pages=pages)
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    async def ask(
        self,
        path: str = "/v1/chat/completions",
        headers: dict[str, str] | None = None,
        *,
        method: str | None = None,
        body: Any = CALL,
        query: str = "",
        client: tuple[str, int] | None = AWAY,
    ) -> int:
        read = "models" in path and ":" not in path
        scope = {
            "type": "http",
            "method": method or ("POST" if is_api(path) and not read else "GET"),
            "path": path,
            "query_string": query.encode(),
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in (headers or {}).items()],
            "client": client,
        }
        sent: list[dict[str, Any]] = []
        incoming = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

        async def receive() -> dict[str, Any]:
            if incoming:
                return incoming.pop()
            await never.wait()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        never = anyio.Event()
        await self.server(scope, receive, send)
        self.status, self.headers = sent[0]["status"], dict(sent[0]["headers"])
        self.body = b"".join(message.get("body", b"") for message in sent)
        return self.status

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.body)["error"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "assay.toml").write_text(TOML)
    async with open_app(load(tmp_path / "assay.toml", environment={})) as app:
        yield World(app)


@pytest.fixture
async def reachable(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "assay.toml").write_text(TOML.replace("[server]", '[server]\nhost = "0.0.0.0"'))
    async with open_app(load(tmp_path / "assay.toml", environment={})) as app:
        yield World(app)


# --- which credential ----------------------------------------------------------------------------

STYLES = [
    ({"authorization": "Bearer {}"}, ""),
    ({"authorization": "bearer   {} "}, ""),
    ({"x-api-key": "{}"}, ""),
    ({"x-goog-api-key": "{}"}, ""),
    ({}, "key={}"),
    ({}, "alt=sse&key={}"),
    ({"x-api-key": "{}", "authorization": "Bearer {}"}, "key={}"),
    ({"authorization": "Digest whatever", "x-api-key": "{}"}, ""),
]


@pytest.mark.parametrize(("headers", "query"), STYLES)
async def test_every_style_of_credential(world: World, headers: dict[str, str], query: str) -> None:
    token = world.app.keys.create("ci").token
    told = {name: value.format(token) for name, value in headers.items()}
    assert await world.ask(headers=told, query=query.format(token)) == 200


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"authorization": "Bearer {a}", "x-api-key": "{b}"}, ""),
        ({"x-api-key": "{a}", "x-goog-api-key": "any"}, ""),
        ({"authorization": "Bearer {a}"}, "key={b}"),
        ({}, "key={a}&key={b}"),
    ],
)
async def test_two_that_differ_are_none(world: World, headers: dict[str, str], query: str) -> None:
    named = {"a": world.app.keys.create("a").token, "b": world.app.keys.create("b").token}
    told = {name: value.format(**named) for name, value in headers.items()}
    assert await world.ask(headers=told, query=query.format(**named)) == 401
    assert "Two different keys" in world.error["message"]
    assert not any(token in world.body.decode() for token in named.values())


async def test_no_key_is_wanted_before_there_is_one(world: World) -> None:
    assert await world.ask() == 200
    assert await world.ask(headers={"authorization": "Bearer sk-any", "x-api-key": "other"}) == 200
    world.app.keys.create("ci")
    assert await world.ask() == 401


@pytest.mark.parametrize(
    "sent", ["sk-proj-somebody-elses", "ask-?", new_token(new_id()), "é\x7f", "x" * 9000]
)
async def test_what_is_no_key_is_refused_and_not_echoed(world: World, sent: str) -> None:
    world.app.keys.create("ci")
    for headers, query in (({"authorization": f"Bearer {sent}"}, ""), ({"x-api-key": sent}, "")):
        assert await world.ask(headers=headers, query=query) == 401
        assert sent.encode() not in world.body
    assert world.error["code"] == "invalid_api_key"
    assert world.headers[b"www-authenticate"] == b"Bearer"


headers_soup = st.lists(
    st.tuples(
        st.sampled_from([b"authorization", b"x-api-key", b"x-goog-api-key", b"cookie"]),
        st.binary(max_size=40) | st.sampled_from([b"Bearer ", b"Bearer a", b"Basic YTpi", b"Basic !"]),
    ),
    max_size=4,
)


@given(headers_soup, st.binary(max_size=40) | st.sampled_from([b"key=", b"key=a&key=b", b"k%65y=a"]))
def test_any_headers_give_a_credential_or_a_typed_error(
    headers: list[tuple[bytes, bytes]], query: bytes
) -> None:
    for basic in (False, True):
        try:
            found = credential({"headers": headers, "query_string": query}, basic=basic)
        except AuthError:
            continue
        assert found is None or found


# --- in whose words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers", "told"),
    [
        ("/v1/chat/completions", {}, {"type": "authentication_error", "code": "missing_api_key"}),
        ("/v1/responses", {}, {"type": "authentication_error", "code": "missing_api_key"}),
        ("/v1/embeddings", {}, {"type": "authentication_error", "code": "missing_api_key"}),
        ("/v1/models", {}, {"type": "authentication_error", "code": "missing_api_key"}),
        ("/v1/messages", {}, {"type": "authentication_error"}),
        ("/v1/models", {"anthropic-version": "2023-06-01"}, {"type": "authentication_error"}),
        ("/v1beta/models/stage:generateContent", {}, {"status": "UNAUTHENTICATED", "code": 401}),
        ("/v1beta/models", {}, {"status": "UNAUTHENTICATED", "code": 401}),
    ],
)
async def test_401_in_the_callers_words(
    world: World, path: str, headers: dict[str, str], told: dict[str, Any]
) -> None:
    world.app.keys.create("ci")
    assert await world.ask(path, headers, client=HERE) == 401
    assert told.items() <= world.error.items()
    assert "assay key create" in world.error["message"]


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/chat/completions", CALL, {"type": "permission_error", "code": "model_not_allowed"}),
        ("/v1/responses", {"model": "stage", "input": "x"}, {"type": "permission_error", "param": "model"}),
        ("/v1/messages", {**CALL, "max_tokens": 5}, {"type": "permission_error"}),
        (
            "/v1beta/models/stage:generateContent",
            {"contents": [{"parts": [{"text": "x"}]}]},
            {"status": "PERMISSION_DENIED", "code": 403},
        ),
    ],
)
async def test_403_for_models_that_are_not_the_keys(
    world: World, path: str, body: Any, told: dict[str, Any]
) -> None:
    token = world.app.keys.create("ci", models=["oth*", "fast"]).token
    assert await world.ask(path, {"x-api-key": token}, body=body) == 403
    assert told.items() <= world.error.items()
    assert "it may use: oth*, fast" in world.error["message"]


async def test_there_is_no_telling_models_that_there_are_from_others(world: World) -> None:
    token = world.app.keys.create("ci", models=["other"]).token
    for model in ("stage", "nothing"):
        assert await world.ask(headers={"x-api-key": token}, body={**CALL, "model": model}) == 403
        assert await world.ask(f"/v1/models/{model}", {"x-api-key": token}) == 403
    assert await world.ask(headers={"x-api-key": token}, body={**CALL, "model": "other"}) == 200


async def test_lists_show_what_the_key_may_use(world: World) -> None:
    token = world.app.keys.create("ci", models=["st*"]).token
    assert await world.ask("/v1/models", {"x-api-key": token}) == 200
    assert [model["id"] for model in json.loads(world.body)["data"]] == ["stage"]
    assert await world.ask("/v1/models", {"x-api-key": token, "anthropic-version": "1"}) == 200
    assert [model["id"] for model in json.loads(world.body)["data"]] == ["stage"]
    assert await world.ask("/v1beta/models", {"x-api-key": token}) == 200
    assert [model["name"] for model in json.loads(world.body)["models"]] == ["models/stage"]
    assert await world.ask("/v1/models/stage", {"x-api-key": token}) == 200
    assert await world.ask("/readyz", {"x-api-key": token}) == 200
    assert list(json.loads(world.body)["models"]) == ["stage"]


# --- which paths ---------------------------------------------------------------------------------


def test_every_call_is_below_an_apis_path() -> None:
    paths = [*routes._EXACT, "/v1/models/m:countTokens", "/v1beta/models/a/b:streamGenerateContent"]
    for path in paths:
        assert routes.call({"path": path, "headers": []}) is not None
        assert wants(path) == "key"


@given(st.text(max_size=30) | st.tuples(st.sampled_from(API_PATHS), st.text(max_size=30)).map("".join))
def test_whatever_is_routed_to_a_call_wants_a_key(path: str) -> None:
    if routes.call({"path": path, "headers": []}) is not None or path.startswith(API_PATHS):
        assert wants(path) == "key"
    assert (wants(path) == "nothing") == (path == "/healthz")


TRICKS = [
    "/v1/chat/completions",
    "//v1/chat/completions",
    "/V1/chat/completions",
    "/v1/chat/completions/",
    "/v1//chat/completions",
    "/healthz/../v1/chat/completions",
    "/healthz/",
    "/healthz;/v1/models",
    "/v1/models",
    "/v1/models/stage",
    "/v1/responses/resp_1",
    "/v1/nothing",
    "/v1",
    "/api/keys",
    "/",
    "/traces",
    "/static/assay.css",
    "/readyz",
    "",
    "*",
    "/\x00",
]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "HEAD", "X"])
async def test_without_a_key_nothing_is_reached_from_elsewhere(world: World, method: str) -> None:
    world.app.keys.create("ci")
    for path in TRICKS:
        assert await world.ask(path, method=method) == 401, path
        assert await world.ask(path, {"host": "localhost"}, method=method) == 401, path
        assert await world.ask(path, {"authorization": "Bearer x"}, method=method) == 401, path
    assert await world.ask("/healthz") == 200


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(path=st.text(max_size=20))
async def test_nor_by_any_other_path(world: World, path: str) -> None:
    if not world.app.keys.exist():
        world.app.keys.create("ci")
    assert await world.ask(f"/{path}") == (200 if path == "healthz" else 401)


async def test_what_is_here_sees_pages_and_calls_with_a_key(world: World) -> None:
    world.app.keys.create("ci")
    for client in (HERE, ("::1", 5000)):
        assert await world.ask("/", client=client) == 200
        assert await world.ask("/readyz", client=client) == 200
        assert await world.ask("/v1/models", client=client) == 401


@pytest.mark.parametrize(
    "passed_on", ["x-forwarded-for", "forwarded", "x-real-ip", "via", "x-forwarded-host"]
)
async def test_what_a_proxy_here_passes_on_is_not_here(world: World, passed_on: str) -> None:
    world.app.keys.create("ci")
    assert await world.ask("/", {passed_on: "127.0.0.1"}, client=HERE) == 401
    assert await world.ask("/readyz", {passed_on: "127.0.0.1"}, client=HERE) == 401


async def test_a_caller_without_an_address_is_not_here(world: World) -> None:
    assert not is_here({"headers": [], "client": None})
    world.app.keys.create("ci")
    assert await world.ask("/", client=None) == 401


async def test_the_console_from_elsewhere_takes_a_key_for_it(world: World) -> None:
    plain, seer = world.app.keys.create("a").token, world.app.keys.create("b", console=True).token
    assert await world.ask("/traces") == 401
    assert world.headers[b"www-authenticate"].startswith(b"Basic")
    assert await world.ask("/traces", {"x-api-key": plain}) == 403
    assert await world.ask("/traces", {"x-api-key": seer}) == 200
    by_browser = base64.b64encode(f"me:{seer}".encode()).decode()
    assert await world.ask("/traces", {"authorization": f"Basic {by_browser}"}) == 200
    # A browser sends that by itself: calls are never made with it.
    assert await world.ask("/v1/models", {"authorization": f"Basic {by_browser}"}) == 401
    assert await world.ask("/traces", {"x-api-key": plain}, client=HERE) == 200


# --- from other machines -------------------------------------------------------------------------


async def test_who_can_be_reached_wants_keys_even_where_there_are_none(reachable: World) -> None:
    for client in (HERE, AWAY):
        assert await reachable.ask(client=client) == 401
    assert await reachable.ask("/traces") == 401
    token = reachable.app.keys.create("ci").token
    assert await reachable.ask(headers={"x-api-key": token}) == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("192.0.2.1:8700", 200),
        ("[2001:db8::1]:8700", 200),
        ("localhost:8700", 200),
        ("assay.example.com", 200),
        ("ASSAY.example.COM:443", 200),
        ("evil.example", 403),
        ("192.0.2.1.evil.example", 403),
        ("assay.example.com.evil.example", 403),
        ("[", 403),
    ],
)
async def test_names_that_the_server_answers_to(reachable: World, host: str, status: int) -> None:
    token = reachable.app.keys.create("ci").token
    assert await reachable.ask(headers={"x-api-key": token, "host": host}) == status


async def test_on_loopback_the_addresses_of_others_are_no_names(world: World) -> None:
    assert await world.ask(headers={"host": "192.0.2.1:8700"}) == 403
    assert await world.ask(headers={"host": "assay.example.com"}) == 200


async def test_pages_of_other_sites_are_refused_with_any_key(reachable: World) -> None:
    token = reachable.app.keys.create("ci", console=True).token
    for told in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        headers = {"host": "assay.example.com", "x-api-key": token, **told}
        assert await reachable.ask(headers=headers) == 403
    same = {"host": "assay.example.com", "origin": "https://assay.example.com", "x-api-key": token}
    assert await reachable.ask(headers=same) == 200


# --- whose call ----------------------------------------------------------------------------------


async def test_spans_know_the_key_and_refused_calls_too(world: World) -> None:
    issued = world.app.keys.create("ci", models=["stage"])
    other = world.app.keys.create("other")
    assert await world.ask(headers={"x-api-key": issued.token}) == 200
    assert await world.ask(headers={"x-api-key": issued.token}, body={**CALL, "model": "other"}) == 403
    assert await world.ask(headers={"x-api-key": other.token}) == 200
    world.app.flush()
    found = world.app.traces.latest(key_id=issued.key.id)
    assert sorted(trace.errors for trace in found) == [0, 1]
    assert len(world.app.traces.latest(key_id=other.key.id)) == 1


async def test_a_key_that_is_revoked_here_is_refused_at_once(world: World) -> None:
    token = world.app.keys.create("ci").token
    assert await world.ask(headers={"x-api-key": token}) == 200
    world.app.keys.revoke("ci")
    assert await world.ask(headers={"x-api-key": token}) == 401
    assert "was revoked" in world.error["message"]


async def test_stored_responses_are_their_keys_alone(world: World) -> None:
    mine = {"x-api-key": world.app.keys.create("mine").token}
    theirs = {"x-api-key": world.app.keys.create("theirs").token}
    asked = {"model": "stage", "input": "my secret"}
    assert await world.ask("/v1/responses", mine, body=asked) == 200
    response_id = json.loads(world.body)["id"]
    path = f"/v1/responses/{response_id}"
    on = {**asked, "previous_response_id": response_id}
    for headers, status in ((theirs, 404), (mine, 200)):
        assert await world.ask(path, headers, method="GET") == status
        assert await world.ask(f"{path}/input_items", headers, method="GET") == status
        assert await world.ask("/v1/responses", headers, body=on) == (status if status == 200 else 404)
        assert await world.ask(path, headers, method="DELETE") == status
    assert await world.ask(path, mine, method="GET") == 404


@pytest.mark.parametrize(
    ("kept", "handed_on"),
    [
        ({}, True),
        ({"previous_response_id": "resp_1"}, False),
        ({"conversation": {"id": "conv_1"}}, False),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, False),
        ({"input": [{"id": "msg_1"}]}, False),
        ({"input": [{"role": "user", "content": "x"}]}, True),
        ({"input": [7, {"type": []}]}, True),
    ],
)
async def test_what_is_handed_on_as_it_is_names_nothing_that_is_kept_upstream(
    world: World, kept: dict[str, Any], handed_on: bool
) -> None:
    """The provider would find it whoever asks: all keys share its account."""
    reached: list[Request] = []

    def upstream(request: Request) -> AsyncIterator[Event]:
        reached.append(request)
        raise BadResponse("it is away")

    world.app.handler = upstream
    headers = {"x-api-key": world.app.keys.create("ci").token}
    asked = {"model": "stage", "input": "x", "unheard_of": 1, **kept}
    assert await world.ask("/v1/responses", headers, body=asked) == (502 if handed_on else 400)
    assert bool(reached) == handed_on


async def test_calls_from_this_process_need_no_key(world: World) -> None:
    world.app.keys.create("ci", models=["other"])
    assert (await world.app.call("stage", "x")).text == "a b c"
