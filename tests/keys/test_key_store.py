"""Keys on disk: made, listed, revoked and rotated; the keys themselves never among them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.errors import Conflict, NotFound, RequestError
from assay.keys import Key, KeyStore, parse_token
from assay.keys.store import Sealed
from assay.storage import Store

DAY_S = 86_400.0
NS = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def ns(self) -> int:
        return int(self.now_s * NS)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path}/assay.db")
    yield opened
    opened.close()


@pytest.fixture
def keys(store: Store, clock: Clock) -> KeyStore:
    return KeyStore(store, clock_ns=clock.ns)


def sealed(keys: KeyStore, key_id: str) -> Sealed:
    return next(one for one in keys.since(0) if one.key.id == key_id)


def test_a_key_is_what_it_was_made_to_be(keys: KeyStore, clock: Clock) -> None:
    assert not keys.exist()
    issued = keys.create("ci", team="core", models=["fast", "gpt-*", "fast"], expires_s=DAY_S, console=True)
    assert issued.key == Key(
        issued.key.id,
        "ci",
        "core",
        ("fast", "gpt-*"),
        True,
        created_ns=clock.ns(),
        expires_ns=clock.ns() + 86_400 * NS,
    )
    assert keys.list() == (issued.key,)
    assert keys.get("ci") == keys.get(issued.key.id) == issued.key
    assert keys.exist()


def test_the_key_itself_is_nowhere_in_the_store(keys: KeyStore, store: Store, tmp_path: Path) -> None:
    tokens = [keys.create("ci").token, keys.rotate("ci", grace_s=5).token]
    store.close()
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for token in tokens:
        secret = token.rpartition("-")[2]
        assert secret.encode() not in stored
    assert b"ci" in stored


def test_the_key_itself_is_not_shown_by_accident(keys: KeyStore) -> None:
    issued = keys.create("ci")
    assert issued.token not in f"{issued!r} {issued}"


def test_the_digest_is_of_the_whole_key(keys: KeyStore) -> None:
    issued = keys.create("ci")
    token = parse_token(issued.token)
    assert token is not None
    assert sealed(keys, issued.key.id).digest == token.digest
    assert token.id == issued.key.id


def test_a_name_is_one_keys_until_that_is_revoked(keys: KeyStore) -> None:
    first = keys.create("ci").key
    with pytest.raises(Conflict, match="assay key rotate 'ci'"):
        keys.create("ci")
    keys.revoke("ci")
    second = keys.create("ci").key
    assert keys.get("ci") == second
    assert keys.get(first.id).revoked_ns is not None
    assert keys.list() == (second,)
    assert [key.id for key in keys.list(revoked=True)] in ([first.id, second.id], [second.id, first.id])


def test_revoking_is_for_good_and_may_be_said_twice(keys: KeyStore, clock: Clock) -> None:
    key = keys.create("ci").key
    revoked = keys.revoke("ci")
    assert revoked.revoked_ns == clock.ns()
    clock.now_s += 5
    assert keys.revoke(key.id) == revoked
    with pytest.raises(NotFound):
        keys.revoke("ci")
    with pytest.raises(Conflict, match="revoked for good"):
        keys.rotate(key.id)
    assert keys.exist()


def test_rotating_keeps_all_but_the_secret(keys: KeyStore, clock: Clock) -> None:
    first = keys.create("ci", team="core", models=["a"], expires_s=DAY_S)
    clock.now_s += 60
    second = keys.rotate("ci")
    assert second.token != first.token
    assert second.token.split("-")[1] == first.token.split("-")[1] == first.key.id
    kept = ("id", "name", "team", "models", "console", "created_ns", "expires_ns")
    assert [getattr(second.key, name) for name in kept] == [getattr(first.key, name) for name in kept]
    assert second.key.rotated_ns == clock.ns()
    assert sealed(keys, first.key.id).old_digest is None


def test_the_secret_before_is_kept_for_its_grace_and_only_that_one(keys: KeyStore, clock: Clock) -> None:
    keys.create("ci")
    second = keys.rotate("ci", grace_s=60)
    third = keys.rotate("ci", grace_s=90)
    now = sealed(keys, second.key.id)
    assert now.old_digest == parse_token(second.token).digest  # type: ignore[union-attr]
    assert now.digest == parse_token(third.token).digest  # type: ignore[union-attr]
    assert now.key.old_until_ns == clock.ns() + 90 * NS
    keys.revoke("ci")
    assert sealed(keys, second.key.id).old_digest is None


def test_an_expired_key_is_rotated_with_a_new_end(keys: KeyStore, clock: Clock) -> None:
    keys.create("ci", expires_s=10)
    clock.now_s += 10
    assert keys.get("ci").state(clock.ns()) == "expired"
    with pytest.raises(Conflict, match="new --expires"):
        keys.rotate("ci")
    assert keys.rotate("ci", expires_s=20).key.state(clock.ns()) == "active"


def test_what_changed_is_told_by_versions(keys: KeyStore) -> None:
    first, second = keys.create("a").key, keys.create("b").key
    assert [one.key for one in keys.since(0)] == [first, second]
    seen = max(one.version for one in keys.since(0))
    assert keys.since(seen) == []
    keys.used({first.id: 5})
    assert keys.since(seen) == []
    keys.rotate("a")
    assert [one.key.id for one in keys.since(seen)] == [first.id]


def test_the_last_use_is_the_latest_that_was_noted(keys: KeyStore) -> None:
    key = keys.create("ci").key
    for at in (50, 70, 60):
        keys.used({key.id: at, "not-there": at})
    assert keys.get("ci").last_used_ns == 70


@pytest.mark.parametrize(
    "name", ["", " ", "a ", "-a", "a\nb", "a" * 65, "é", "ask\x1b[31m", "'; DROP TABLE keys --"]
)
def test_names_that_cannot_be(keys: KeyStore, name: str) -> None:
    with pytest.raises(RequestError):
        keys.create(name)
    with pytest.raises(RequestError):
        keys.create("ci", team=name)
    assert not keys.exist()


@pytest.mark.parametrize("models", [[], [""], ["a\nb"], ["x" * 201], [f"m{n}" for n in range(101)], "gpt-4o"])
def test_models_that_cannot_be(keys: KeyStore, models: list[str]) -> None:
    with pytest.raises(RequestError, match=r"model"):
        keys.create("ci", models=models)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e12, float("nan"), float("inf")])
def test_times_that_cannot_be(keys: KeyStore, seconds: float) -> None:
    with pytest.raises(RequestError):
        keys.create("ci", expires_s=seconds)
    keys.create("ci")
    if seconds:
        with pytest.raises(RequestError):
            keys.rotate("ci", grace_s=seconds)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ref=st.text(max_size=30))
def test_any_reference_is_looked_up_and_not_run(keys: KeyStore, ref: str) -> None:
    if not keys.exist():
        keys.create("the one key")
    with pytest.raises(NotFound):
        keys.get(ref)
    assert len(keys.list()) == 1


@pytest.mark.parametrize(
    ("patterns", "allowed", "refused"),
    [
        (["*"], ["local", "a/b"], []),
        (["gpt-*", "fast"], ["gpt-4o", "gpt-", "fast"], ["GPT-4o", "faster", "local"]),
        (["claude-?"], ["claude-4"], ["claude-", "claude-45"]),
        (["m[12]"], ["m1", "m2"], ["m3", "m[12]"]),
    ],
)
def test_globs(keys: KeyStore, patterns: list[str], allowed: list[str], refused: list[str]) -> None:
    key = keys.create("ci", models=patterns).key
    assert all(map(key.allows, allowed))
    assert not any(map(key.allows, refused))
