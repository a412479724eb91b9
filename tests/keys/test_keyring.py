"""The keys in memory: who is let in, and how soon what others change is known. The clock is the test's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.errors import AuthError, StorageError
from assay.keys import Keyring, KeyStore
from assay.keys.keyring import MAX_AGE_S, USED_EVERY_S
from assay.keys.store import Sealed
from assay.keys.token import new_id, new_token
from assay.storage import Store

pytestmark = pytest.mark.anyio
NS = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def s(self) -> float:
        return self.now_s

    def ns(self) -> int:
        return int(self.now_s * NS)


class Counting(KeyStore):
    """Counts how often it is read; may fail, or wait."""

    reads = 0
    failing = False
    gate: threading.Event | None = None

    def since(self, version: int) -> list[Sealed]:
        self.reads += 1
        if self.gate is not None:
            self.gate.wait(30)
        if self.failing:
            raise StorageError("the disk is away")
        return super().since(version)


class World:
    """A server's keyring, and another process that changes keys."""

    def __init__(self, store: Store) -> None:
        self.clock = Clock()
        self.own = Counting(store, clock_ns=self.clock.ns)
        self.other = KeyStore(store, clock_ns=self.clock.ns)
        self.ring = Keyring(self.own, clock=self.clock.s, clock_ns=self.clock.ns)

    async def admits(self, token: str) -> bool:
        try:
            await self.ring.admit(token)
        except AuthError:
            return False
        return True


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = Store.open(f"sqlite:///{tmp_path}/assay.db")
    made = World(store)
    yield made
    made.ring.close()
    store.close()


async def test_keys_are_wanted_from_the_first_on_and_ever_after(world: World) -> None:
    await world.ring.fresh()
    assert not world.ring.required
    world.own.create("ci")
    await world.ring.fresh()
    assert world.ring.required
    world.own.revoke("ci")
    await world.ring.fresh()
    assert world.ring.required


async def test_the_right_key_is_let_in(world: World) -> None:
    issued = world.own.create("ci", models=["a"])
    assert await world.ring.admit(issued.token) == issued.key
    assert world.ring.find(issued.key.id) == issued.key


async def test_a_secret_belongs_to_one_id(world: World) -> None:
    one, two = world.own.create("one"), world.own.create("two")
    secret = two.token.rpartition("-")[2]
    assert not await world.admits(f"ask-{one.key.id}-{secret}")
    assert not await world.admits(f"ask-{'a' * 10}-{secret}")
    assert await world.admits(two.token)


async def test_what_another_process_changes_is_known_within_a_second(world: World) -> None:
    issued = world.other.create("ci")
    assert await world.admits(issued.token)
    world.other.revoke("ci")
    world.clock.now_s += MAX_AGE_S + 0.01
    assert not await world.admits(issued.token)
    with pytest.raises(AuthError, match="'ci'.*was revoked"):
        await world.ring.admit(issued.token)
    with pytest.raises(AuthError, match="was revoked"):
        world.ring.find(issued.key.id)


async def test_what_another_process_makes_is_known_at_once(world: World) -> None:
    assert await world.admits(world.other.create("first").token)
    world.clock.now_s += 0.001
    made = world.other.create("ci")
    assert await world.admits(made.token)
    world.clock.now_s += 0.001
    assert await world.admits(world.other.rotate("ci").token)


async def test_who_guesses_makes_one_read_at_a_time(world: World) -> None:
    assert await world.admits(world.own.create("ci").token)
    world.own.gate = threading.Event()
    world.clock.now_s += 0.001
    guesses = [asyncio.create_task(world.admits(new_token(new_id()))) for _ in range(50)]
    while world.own.reads < 2:
        await asyncio.sleep(0)
    world.own.gate.set()
    assert await asyncio.gather(*guesses) == [False] * 50
    assert world.own.reads == 2


async def test_what_this_process_changes_is_known_at_once(world: World) -> None:
    issued = world.own.create("ci")
    assert await world.admits(issued.token)
    world.own.revoke("ci")
    assert not await world.admits(issued.token)


async def test_calls_do_not_read_the_store(world: World) -> None:
    issued = world.own.create("ci")
    for _ in range(100):
        assert await world.admits(issued.token)
        world.clock.now_s += MAX_AGE_S / 100
    assert world.own.reads == 1


async def test_a_key_ends_when_it_was_said_to(world: World) -> None:
    issued = world.own.create("ci", expires_s=10)
    world.clock.now_s += 9.9
    assert await world.admits(issued.token)
    world.clock.now_s += 0.1
    assert not await world.admits(issued.token)
    with pytest.raises(AuthError, match="has expired"):
        await world.ring.admit(issued.token)


async def test_the_key_before_a_rotation_works_for_its_grace(world: World) -> None:
    first = world.own.create("ci")
    second = world.own.rotate("ci", grace_s=60)
    world.clock.now_s += 59
    assert await world.admits(first.token)
    assert await world.admits(second.token)
    world.clock.now_s += 1
    assert not await world.admits(first.token)
    assert await world.admits(second.token)
    third = world.own.rotate("ci")
    assert not await world.admits(second.token)
    assert await world.admits(third.token)


async def test_no_grace_is_none(world: World) -> None:
    first = world.own.create("ci")
    world.own.rotate("ci")
    assert not await world.admits(first.token)


async def test_a_store_that_is_away_turns_nobody_away(world: World, caplog: pytest.LogCaptureFixture) -> None:
    issued = world.own.create("ci")
    assert await world.admits(issued.token)
    world.own.failing = True
    for _ in range(3):
        world.clock.now_s += 1
        assert await world.admits(issued.token)
    assert [record.message for record in caplog.records] == [
        "keys cannot be read, those of before stand: the disk is away"
    ]
    world.other.revoke("ci")
    world.own.failing = False
    world.clock.now_s += 1
    assert not await world.admits(issued.token)


async def test_a_store_that_was_never_read_lets_nobody_in(world: World) -> None:
    world.own.failing = True
    with pytest.raises(StorageError):
        await world.ring.fresh()
    with pytest.raises(StorageError):
        world.ring.find("aaaaaaaaaa")


async def test_many_who_wait_read_once_and_one_who_leaves_harms_nobody(world: World) -> None:
    issued = world.own.create("ci")
    world.own.gate = threading.Event()
    waiting = [asyncio.create_task(world.admits(issued.token)) for _ in range(10)]
    while not world.own.reads:
        await asyncio.sleep(0)
    waiting[0].cancel()
    world.own.gate.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert done[1:] == [True] * 9
    assert world.own.reads == 1


async def test_a_store_that_hangs_holds_calls_up_once_and_no_longer(world: World) -> None:
    issued = world.own.create("ci")
    assert await world.admits(issued.token)
    world.own.gate = threading.Event()
    world.clock.now_s += 1
    waiting = asyncio.create_task(world.admits(issued.token))
    while world.own.reads < 2:
        await asyncio.sleep(0)
    world.clock.now_s += 60
    # Those who come later do not wait at all: the snapshot of before stands.
    assert await world.admits(issued.token)
    assert await world.admits(issued.token)
    world.own.gate.set()
    assert await waiting


async def test_last_uses_are_stored_now_and_then_and_at_the_end(world: World) -> None:
    issued = world.own.create("ci")
    assert await world.admits(issued.token)
    assert world.other.get("ci").last_used_ns is None
    world.clock.now_s += USED_EVERY_S
    assert await world.admits(issued.token)
    world.clock.now_s += 1
    last = world.clock.ns()
    assert await world.admits(issued.token)
    world.ring.close()
    assert world.other.get("ci").last_used_ns == last


async def test_unknown_ids_are_nobodys(world: World) -> None:
    with pytest.raises(AuthError):
        world.ring.find("aaaaaaaaaa")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=120) | st.from_regex(r"ask-[a-z2-7]{10}-[a-z2-7]{52}", fullmatch=True))
async def test_nothing_but_keys_gets_in_and_nothing_is_echoed(world: World, text: str) -> None:
    with pytest.raises(AuthError) as caught:
        await world.ring.admit(text)
    assert len(text) < 20 or text not in caught.value.message
