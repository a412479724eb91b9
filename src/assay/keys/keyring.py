"""The keys in memory: who a caller is, without asking the store for each call. Changing keys is .store's.

A snapshot that is older than MAX_AGE_S is brought up to date before the next call is let in, so that what
another process revokes is refused within a second. While the store cannot be read the snapshot stands: a
database that is away does not turn callers away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, assert_never

from assay.errors import AuthError, StorageError
from assay.keys.store import Key, KeyStore, Sealed
from assay.keys.token import NO_DIGEST, Token, matches, parse_token

log = logging.getLogger("assay.keys")

MAX_AGE_S: Final = 0.5
"""How old the snapshot may be when a call is let in."""
PATIENCE_S: Final = 2.0
"""How long a call waits for a store that is slow to be read; then the snapshot as it is has to do."""
USED_EVERY_S: Final = 30.0
"""How often it is stored when keys were used last."""


class Keyring:
    """All keys of a store. Made once for an App, and read by its event loop."""

    def __init__(
        self,
        store: KeyStore,
        *,
        clock: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._clock = clock
        self._clock_ns = clock_ns
        self._known: dict[str, Sealed] = {}
        self._version = 0
        self._read_s: float | None = None
        self._changes = 0
        self._failing = False
        self._used: dict[str, int] = {}
        self._used_s = clock()
        # One thread reads while the other may wait for the right to write.
        self._threads = ThreadPoolExecutor(2, "assay-keys")
        self._reading: asyncio.Future[None] | None = None
        self._asked_s = 0.0
        self._closed = False

    @property
    def required(self) -> bool:
        """Whether there has ever been a key: from then on callers need one."""
        return bool(self._known)

    async def fresh(self) -> None:
        """Returns when the snapshot is at most MAX_AGE_S old, or the store has not answered in time."""
        await self._read_since(self._clock() - MAX_AGE_S)

    async def admit(self, credential: str) -> Key:
        """Whose key that is. Raises AuthError, which does not repeat what was sent."""
        token = parse_token(credential)
        if token is None:
            raise AuthError(
                "What was sent is not a key of this server: those look like ask-...; see 'assay key'"
            )
        came_s = self._clock()
        await self.fresh()
        key = self._opened_by(token)
        if key is None:
            # It may have been made a moment ago, by another process.
            await self._read_since(came_s)
            key = self._opened_by(token)
        if key is None:
            raise AuthError(
                "This server does not know the key: it was mistyped, rotated, or made for another store; "
                "'assay key list' shows what there is, by the letters between the dashes"
            )
        now = self._clock_ns()
        _check_state(key, now)
        self._note(key.id, now)
        return key

    def find(self, key_id: str) -> Key:
        """The key of that id, as it is now. Raises AuthError once it may not be used any more."""
        if self._read_s is None:
            self.refresh()
        sealed = self._known.get(key_id)
        if sealed is None:
            raise AuthError(f"There is no key {key_id[:20]!r}; 'assay key list' shows what there is")
        _check_state(sealed.key, self._clock_ns())
        return sealed.key

    def refresh(self) -> None:
        """Reads what has changed. Raises StorageError only where nothing was read before."""
        started, changes = self._clock(), self._store.changes
        try:
            changed = self._store.since(self._version)
        except StorageError as error:
            if self._read_s is None:
                raise
            if not self._failing:
                log.warning("keys cannot be read, those of before stand: %s", error.message)
            self._failing = True
            self._read_s = started
            return
        self._failing = False
        if changed:
            self._known = {**self._known, **{sealed.key.id: sealed for sealed in changed}}
            self._version = max(sealed.version for sealed in changed)
        self._changes = changes
        self._read_s = started

    def close(self) -> None:
        """Stores when the keys were used last."""
        self._closed = True
        self._threads.shutdown()
        self._store_used(self._used)

    async def _read_since(self, at_s: float) -> None:
        """Returns with a snapshot whose reading began then or later, unless the store is too slow."""
        while self._read_s is None or self._read_s < at_s or self._changes != self._store.changes:
            if self._reading is None or self._reading.done():
                loop = asyncio.get_running_loop()
                self._asked_s = self._clock()
                self._reading = loop.run_in_executor(self._threads, self.refresh)
            reading = self._reading
            # Nobody who stops waiting takes it away from the others.
            patience_s = max(0.0, PATIENCE_S - (self._clock() - self._asked_s))
            done, _ = await asyncio.wait((reading,), timeout=patience_s)
            if done:
                reading.result()
            elif self._read_s is None:
                raise StorageError("The store does not answer, so nobody can be let in; see to its disk")
            else:
                return

    def _opened_by(self, token: Token) -> Key | None:
        """Whose secret it is, now or before in its time of grace. In constant time."""
        sealed = self._known.get(token.id)
        if sealed is None:
            matches(token, NO_DIGEST)
            return None
        until = sealed.key.old_until_ns
        right = matches(token, sealed.digest)
        before = matches(token, sealed.old_digest or NO_DIGEST)
        in_grace = until is not None and self._clock_ns() < until
        return sealed.key if right or (before and in_grace) else None

    def _note(self, key_id: str, at_ns: int) -> None:
        self._used[key_id] = at_ns
        if self._clock() - self._used_s >= USED_EVERY_S and not self._closed:
            self._used_s = self._clock()
            used, self._used = self._used, {}
            self._threads.submit(self._store_used, used)

    def _store_used(self, used: dict[str, int]) -> None:
        if not used:
            return
        try:
            self._store.used(used)
        except StorageError as error:
            log.warning("it cannot be stored when keys were used last: %s", error.message)
            for key_id, at in used.items():
                self._used.setdefault(key_id, at)


def _check_state(key: Key, now_ns: int) -> None:
    match key.state(now_ns):
        case "active":
            return
        case "expired":
            raise AuthError(
                f"The key {key.name!r} ({key.id}) has expired; rotate it: assay key rotate --expires"
            )
        case "revoked":
            raise AuthError(f"The key {key.name!r} ({key.id}) was revoked; ask for another: assay key create")
        case state:
            assert_never(state)
