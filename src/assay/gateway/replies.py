"""Replies that are kept: in memory for this process, in the store for restarts and other workers.

What may be kept, and for whom, is decided in .cache; this file knows keys and bytes. Both shelves are bounded
by bytes and let go of what is oldest: the memory of what was used least of late, the store of what was made
first.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from assay.errors import StorageError
from assay.storage import Store, metadata
from assay.types import Response, Value

log = logging.getLogger("assay.cache")

MEMORY_BYTES: Final = 64 * 1024 * 1024
DISK_BYTES: Final = 512 * 1024 * 1024
MAX_ENTRY_BYTES: Final = 8 * 1024 * 1024
"""A larger reply is not kept."""
WAITING_BYTES: Final = 16 * 1024 * 1024
"""How much may wait to be stored; further replies are kept in memory alone."""
GATHER_S: Final = 0.2
"""How long a reply may wait for others, to be stored with them."""
PRUNE_EVERY: Final = 200
LOOK_EVERY_S: Final = 1.0
"""How often it is looked up whether another process has cleared the cache."""
_NS: Final = 1_000_000_000

replies = sa.Table(
    "cached_replies",
    metadata,
    # A digest of everything that shapes the answer, whose it is included.
    sa.Column("key", sa.String(64), primary_key=True),
    # The name that callers use: a model's or a route's.
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("made_ns", sa.BigInteger, nullable=False, index=True),
    sa.Column("expires_ns", sa.BigInteger, nullable=False, index=True),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    # For replies to questions that are alike: what they must have in common, and where the question lies.
    sa.Column("partition", sa.String(64)),
    sa.Column("vector", sa.LargeBinary),
    sa.Index("ix_cached_replies_partition", "partition", "made_ns"),
)
clears = sa.Table(
    "cache_clears",
    metadata,
    # "" stands for all of them. What was made before is no longer given to anybody.
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
)


class Entry(Value):
    """A reply, when it was made (seconds since 1970), and for which name.

    `wire` are the upstream's own bytes, for a caller whose call has the digest `twin`.
    """

    model: str
    response: Response
    made_s: float
    wire: bytes | None = None
    twin: bytes = b""


class Place(Value):
    """Where a question lies among those of its partition."""

    partition: str
    vector: bytes


class Kept(Value):
    """What is stored for one name."""

    model: str
    replies: int
    bytes: int
    oldest_ns: int


# Made once: making it takes as long as running it.
_GET = sa.select(replies.c.body).where(
    replies.c.key == sa.bindparam("asked"), replies.c.expires_ns > sa.bindparam("now_ns")
)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class Shelf:
    """Replies in the store, for all processes. Calls block, and raise StorageError."""

    def __init__(self, store: Store, *, max_bytes: int = DISK_BYTES) -> None:
        self._store = store
        self._max_bytes = max_bytes

    def get(self, key: str, now_ns: int) -> bytes | None:
        with self._store.read() as connection:
            found: bytes | None = connection.scalar(_GET, {"asked": key, "now_ns": now_ns})
        return found

    def put(self, rows: list[dict[str, Any]]) -> None:
        """The newest reply to a question takes the place of the one before."""
        with self._store.write() as connection:
            connection.execute(sa.insert(replies).prefix_with("OR REPLACE", dialect="sqlite"), rows)

    def near(self, partition: str, now_ns: int, limit: int) -> list[tuple[str, bytes]]:
        """Keys and places of the newest questions of a partition."""
        columns = replies.c.key, replies.c.vector
        query = (
            sa.select(*columns)
            .where(replies.c.partition == partition, replies.c.expires_ns > now_ns)
            .order_by(replies.c.made_ns.desc())
            .limit(limit)
        )
        with self._store.read() as connection:
            return [(row.key, row.vector) for row in connection.execute(query)]

    def prune(self, now_ns: int) -> int:
        """Takes away what has expired, then the oldest until the rest has room. Gives how many."""
        gone = 0
        with self._store.write() as connection:
            gone += connection.execute(sa.delete(replies).where(replies.c.expires_ns <= now_ns)).rowcount
            total = connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(replies.c.size), 0)))
            over = (total or 0) - self._max_bytes
            if over > 0:
                oldest = sa.select(replies.c.key, replies.c.size).order_by(replies.c.made_ns)
                leaving = []
                for row in connection.execute(oldest):
                    if over <= 0:
                        break
                    leaving.append({"leaving": row.key})
                    over -= row.size
                one = replies.c.key == sa.bindparam("leaving")
                connection.execute(sa.delete(replies).where(one), leaving)
                gone += len(leaving)
        return gone

    def cleared(self) -> dict[str, int]:
        """When each name was cleared last; "" is all of them."""
        with self._store.read() as connection:
            return {row.model: row.at_ns for row in connection.execute(sa.select(clears))}

    def clear(self, model: str | None, now_ns: int) -> int:
        """Forgets what is kept for a name, or all, here and in the memory of every process."""
        mark = {"model": model or "", "at_ns": now_ns}
        gone = sa.delete(replies)
        if model is not None:
            gone = gone.where(replies.c.model == model)
        with self._store.write() as connection:
            connection.execute(sa.insert(clears).prefix_with("OR REPLACE", dialect="sqlite"), [mark])
            return connection.execute(gone).rowcount

    def kept(self) -> list[Kept]:
        """What is stored, by name."""
        columns = (sa.func.count(), sa.func.sum(replies.c.size), sa.func.min(replies.c.made_ns))
        query = sa.select(replies.c.model, *columns).group_by(replies.c.model).order_by(replies.c.model)
        with self._store.read() as connection:
            return [Kept(*row) for row in connection.execute(query)]


class Replies:
    """The replies of a process: `near` looks in its memory, `find` on the shelf, where there is one.

    A store that is away costs hits, never calls: it is logged once.
    """

    def __init__(
        self,
        shelf: Shelf | None = None,
        *,
        max_bytes: int = MEMORY_BYTES,
        clock: Callable[[], float] = time.time,
        gather_s: float = GATHER_S,
    ) -> None:
        self.shelf = shelf
        self._gather_s = gather_s
        self._hurry = threading.Event()
        self.clock = clock
        self._max_bytes = max_bytes
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._threads = ThreadPoolExecutor(2, "assay-cache")
        self._lock = threading.Lock()
        self._waiting: list[dict[str, Any]] = []
        self._waiting_bytes = 0
        self._storing = False
        self._stored = 0
        self._cleared: dict[str, int] = {}
        self._looked_s, self._looked = clock(), False
        self._failing = False
        self._closed = False

    @property
    def size_bytes(self) -> int:
        """What is held in memory."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._memory)

    def near(self, key: str, ttl_s: float) -> Entry | None:
        """From memory, at once."""
        body = self._memory.get(key)
        if body is None:
            return None
        if self.shelf is not None and self.clock() - self._looked_s >= LOOK_EVERY_S and not self._closed:
            self._looked_s = self.clock()
            self._threads.submit(self._look)
        entry = self._valid(_decode(body), ttl_s)
        if entry is None:
            self._drop(key)
        else:
            self._memory.move_to_end(key)
        return entry

    async def find(self, key: str, ttl_s: float) -> Entry | None:
        """From the store, which another process may have filled."""
        if self.shelf is None or self._closed:
            return None
        body = await asyncio.get_running_loop().run_in_executor(self._threads, self._read, key)
        if body is None:
            return None
        try:
            entry = self._valid(_decode(body), ttl_s)
        except msgspec.MsgspecError:
            # Another version of Assay wrote it.
            return None
        if entry is not None:
            self._hold(key, body)
        return entry

    async def others(self, partition: str, limit: int) -> list[tuple[str, bytes]]:
        """Keys and places of the newest questions of a partition, from the store."""
        if self.shelf is None or self._closed:
            return []
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._near, partition, limit)

    def keep(self, key: str, entry: Entry, ttl_s: float, place: Place | None = None) -> None:
        """Holds it in memory, and has it stored by and by."""
        body = _encode(entry)
        if len(body) > MAX_ENTRY_BYTES:
            return
        self._hold(key, body)
        if self.shelf is None or self._closed or self._waiting_bytes >= WAITING_BYTES:
            return
        made_ns = int(entry.made_s * _NS)
        row = {
            "key": key,
            "model": entry.model,
            "made_ns": made_ns,
            "expires_ns": made_ns + int(ttl_s * _NS),
            "size": len(body) + (len(place.vector) if place else 0),
            "body": body,
            "partition": place.partition if place else None,
            "vector": place.vector if place else None,
        }
        with self._lock:
            self._waiting.append(row)
            self._waiting_bytes += len(body)
            idle, self._storing = not self._storing, True
        if idle:
            self._threads.submit(self._store)

    def close(self) -> None:
        """Stores what waits."""
        self._closed = True
        self._hurry.set()
        self._threads.shutdown()

    def _valid(self, entry: Entry, ttl_s: float) -> Entry | None:
        """The entry, unless it is too old or was cleared."""
        cleared_ns = max(self._cleared.get("", 0), self._cleared.get(entry.model, 0))
        if self.clock() - entry.made_s >= ttl_s or entry.made_s * _NS < cleared_ns:
            return None
        return entry

    def _hold(self, key: str, body: bytes) -> None:
        self._drop(key)
        self._memory[key] = body
        self._bytes += len(body)
        while self._bytes > self._max_bytes:
            _, gone = self._memory.popitem(last=False)
            self._bytes -= len(gone)

    def _drop(self, key: str) -> None:
        self._bytes -= len(self._memory.pop(key, b""))

    # --- in a thread ---------------------------------------------------------------------------------

    def _read(self, key: str) -> bytes | None:
        assert self.shelf is not None
        now_s = self.clock()
        try:
            if now_s - self._looked_s >= LOOK_EVERY_S or not self._looked:
                self._looked_s, self._looked = now_s, True
                self._cleared = self.shelf.cleared()
            body = self.shelf.get(key, int(now_s * _NS))
        except StorageError as error:
            self._failed(error)
            return None
        self._failing = False
        return body

    def _near(self, partition: str, limit: int) -> list[tuple[str, bytes]]:
        assert self.shelf is not None
        try:
            return self.shelf.near(partition, int(self.clock() * _NS), limit)
        except StorageError as error:
            self._failed(error)
            return []

    def _look(self) -> None:
        assert self.shelf is not None
        try:
            self._cleared = self.shelf.cleared()
        except StorageError as error:
            self._failed(error)

    def _store(self) -> None:
        """Stores all that waits, and what is added meanwhile."""
        assert self.shelf is not None
        while True:
            self._hurry.wait(self._gather_s)
            with self._lock:
                batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
                self._storing = bool(batch)
            if not batch:
                return
            try:
                self.shelf.put(batch)
                if self._stored % PRUNE_EVERY + len(batch) >= PRUNE_EVERY or not self._stored:
                    self.shelf.prune(int(self.clock() * _NS))
                self._stored += len(batch)
                self._failing = False
            except StorageError as error:
                self._failed(error)

    def _failed(self, error: StorageError) -> None:
        if not self._failing:
            log.warning("the cache goes on without the store: %s", error.message)
        self._failing = True
