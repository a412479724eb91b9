"""Keys on disk: made, listed, revoked, rotated. Telling callers apart is assay.keys.keyring's."""

from __future__ import annotations

import builtins
import re
import time
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import msgspec
import sqlalchemy as sa

from assay.errors import Conflict, NotFound, RequestError
from assay.keys.tables import keys
from assay.keys.token import digest_of, new_id, new_token
from assay.storage import Store
from assay.types import Value
from assay.types.limits import UNLIMITED, Limits

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/ -]{0,62}[A-Za-z0-9]|[A-Za-z0-9]")
_MAX_PATTERNS: Final = 100
_MAX_PATTERN_CHARS: Final = 200
_NS: Final = 1_000_000_000
EVERYTHING: Final = ("*",)

State = Literal["active", "expired", "revoked"]


class Key(Value, omit_defaults=False):
    """A key, without the key: what it is called and what it may do. Times are in ns since 1970.

    `models` are globs over the names of models and routes. `console` is whether it opens the console from
    other machines. `old_until_ns` is when the key before the last rotation ends. `last_used_ns` is right to
    within a minute.
    """

    id: str
    name: str
    team: str | None = None
    models: tuple[str, ...] = EVERYTHING
    console: bool = False
    created_ns: int = 0
    rotated_ns: int | None = None
    old_until_ns: int | None = None
    expires_ns: int | None = None
    revoked_ns: int | None = None
    last_used_ns: int | None = None
    limits: Limits = UNLIMITED

    def allows(self, model: str) -> bool:
        """Whether a model or route of that name may be called."""
        return any(pattern == "*" or fnmatchcase(model, pattern) for pattern in self.models)

    def state(self, at_ns: int) -> State:
        """What has become of it at that moment."""
        if self.revoked_ns is not None:
            return "revoked"
        return "expired" if self.expires_ns is not None and self.expires_ns <= at_ns else "active"


class Issued(Value):
    """A key that was just made. `token` is the key itself: it is told this once and kept nowhere."""

    key: Key
    token: str

    def __repr__(self) -> str:
        return f"Issued(key={self.key!r}, token=...)"


class Sealed(Value):
    """A key with the digests that it is known by, and the version of the table that it came with."""

    key: Key
    digest: str
    old_digest: str | None
    version: int


class KeyStore:
    """Keys in a Store. Calls block.

    A key is named by its id, or by its name while it is not revoked. Raises NotFound for one that is not
    there, Conflict for one that cannot be changed so any more, RequestError for names, patterns and times
    that cannot be, and StorageError if the store cannot do its part.
    """

    def __init__(self, store: Store, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self._clock_ns = clock_ns
        self.changes = 0
        """How often this object has changed a key: who has read before that reads again."""

    # --- reading

    def list(self, *, revoked: bool = False) -> tuple[Key, ...]:
        """All keys, the oldest first; those that were revoked only if asked for."""
        query = sa.select(keys).order_by(keys.c.created_ns, keys.c.id)
        if not revoked:
            query = query.where(keys.c.revoked_ns.is_(None))
        with self._store.read() as connection:
            return tuple(_key(row) for row in connection.execute(query).mappings())

    def get(self, ref: str) -> Key:
        """The key of that id or name."""
        with self._store.read() as connection:
            return _find(connection, ref)

    def exist(self) -> bool:
        """Whether there has ever been a key: from then on callers need one."""
        with self._store.read() as connection:
            return connection.scalar(sa.select(keys.c.id).limit(1)) is not None

    def since(self, version: int) -> builtins.list[Sealed]:
        """The keys that were made or changed after that version of the table."""
        query = sa.select(keys).where(keys.c.version > version)
        with self._store.read() as connection:
            return [
                Sealed(_key(row), row["digest"], row["old_digest"], row["version"])
                for row in connection.execute(query).mappings()
            ]

    # --- changing

    def create(
        self,
        name: str,
        *,
        team: str | None = None,
        models: Iterable[str] = EVERYTHING,
        expires_s: float | None = None,
        console: bool = False,
        limits: Limits = UNLIMITED,
    ) -> Issued:
        """A new key, which ends `expires_s` seconds from now, or never. Raises Conflict for a name in use."""
        _check_limits(limits)
        named = _named(name, "name")
        belongs = None if team is None else _named(team, "team")
        patterns = _patterns(models)
        now = self._clock_ns()
        key_id = new_id()
        token = new_token(key_id)
        key = Key(
            key_id,
            named,
            belongs,
            patterns,
            console,
            created_ns=now,
            expires_ns=None if expires_s is None else _later(now, expires_s, "expires_s"),
            limits=limits,
        )
        with self._store.write() as connection:
            taken = sa.select(keys.c.id).where(keys.c.name == named, keys.c.revoked_ns.is_(None))
            if (other := connection.scalar(taken)) is not None:
                raise Conflict(
                    f"There is a key {named!r} already ({other}); choose another name, or give it a new "
                    f"secret: assay key rotate {named!r}"
                )
            row = {
                "id": key_id,
                "name": named,
                "team": belongs,
                "models": patterns,
                "console": console,
                "limits": limits,
                "digest": digest_of(token),
                "created_ns": now,
                "expires_ns": key.expires_ns,
                "version": _next_version(connection),
            }
            connection.execute(sa.insert(keys), row)
        self.changes += 1
        return Issued(key, token)

    def revoke(self, ref: str) -> Key:
        """Ends a key for good; a key that is revoked already is given back as it is."""
        with self._store.write() as connection:
            key = _find(connection, ref)
            if key.revoked_ns is not None:
                return key
            changed = {"revoked_ns": self._clock_ns(), "old_digest": None, "old_until_ns": None}
            key = _change(connection, key.id, changed)
        self.changes += 1
        return key

    def rotate(self, ref: str, *, grace_s: float = 0.0, expires_s: float | None = None) -> Issued:
        """A new secret for a key that stays what it is: id, name, team, models and all that counts on them.

        The secret before is good for another `grace_s` seconds, any older one ends now. `expires_s`, in
        seconds from now, moves the key's end.
        """
        with self._store.write() as connection:
            key = _find(connection, ref)
            now = self._clock_ns()
            until = _later(now, grace_s, "grace_s") if grace_s else None
            expires = key.expires_ns if expires_s is None else _later(now, expires_s, "expires_s")
            _check_rotatable(key, now, moved=expires_s is not None)
            token = new_token(key.id)
            changed = {
                "digest": digest_of(token),
                "old_digest": keys.c.digest if until is not None else None,
                "old_until_ns": until,
                "rotated_ns": now,
                "expires_ns": expires,
            }
            key = _change(connection, key.id, changed)
        self.changes += 1
        return Issued(key, token)

    def limit(self, ref: str, limits: Limits) -> Key:
        """What a key may ask from now on, in place of what it might before."""
        _check_limits(limits)
        with self._store.write() as connection:
            key = _change(connection, _find(connection, ref).id, {"limits": limits})
        self.changes += 1
        return key

    def used(self, at_ns: Mapping[str, int]) -> None:
        """Notes when keys were used last; a later time stands."""
        for_key = sa.update(keys).where(
            keys.c.id == sa.bindparam("key"),
            sa.func.coalesce(keys.c.last_used_ns, 0) < sa.bindparam("at"),
        )
        rows = [{"key": key_id, "at": at} for key_id, at in at_ns.items()]
        with self._store.write() as connection:
            connection.execute(for_key.values(last_used_ns=sa.bindparam("at")), rows)


# --- rows ----------------------------------------------------------------------------------------


def _key(row: sa.RowMapping) -> Key:
    kept = {name: row[name] for name in Key.__struct_fields__}
    limits = msgspec.convert(row["limits"] or {}, Limits)
    return Key(**{**kept, "models": tuple(row["models"]), "limits": limits})


def _find(connection: sa.Connection, ref: str) -> Key:
    for wanted in (keys.c.id == ref, sa.and_(keys.c.name == ref, keys.c.revoked_ns.is_(None))):
        row = connection.execute(sa.select(keys).where(wanted)).mappings().one_or_none()
        if row is not None:
            return _key(row)
    raise NotFound(f"There is no key {ref[:100]!r}; 'assay key list' shows what there is")


def _change(connection: sa.Connection, key_id: str, changed: dict[str, Any]) -> Key:
    mine = sa.update(keys).where(keys.c.id == key_id)
    connection.execute(mine.values(**changed, version=_next_version(connection)))
    return _find(connection, key_id)


def _next_version(connection: sa.Connection) -> int:
    return (connection.scalar(sa.select(sa.func.max(keys.c.version))) or 0) + 1


# --- what can be ---------------------------------------------------------------------------------


def _named(text: str, what: str) -> str:
    if not _NAME.fullmatch(text):
        raise RequestError(
            f"{text[:100]!r} cannot be the {what} of a key: use 1 to 64 letters, digits, spaces and "
            ". _ @ : / -, with a letter or digit at each end",
            param=what,
        )
    return text


def _patterns(models: Iterable[str]) -> tuple[str, ...]:
    if isinstance(models, str):
        raise RequestError("'models' is a list of globs, not one text", param="models")
    found = tuple(dict.fromkeys(models))
    if not found or len(found) > _MAX_PATTERNS:
        raise RequestError(
            f"A key names 1 to {_MAX_PATTERNS} models or globs, not {len(found)}", param="models"
        )
    for pattern in found:
        if not 0 < len(pattern) <= _MAX_PATTERN_CHARS or not pattern.isprintable():
            raise RequestError(
                f"{pattern[:100]!r} is no name of a model, and no glob: use 1 to {_MAX_PATTERN_CHARS} "
                "printable characters",
                param="models",
            )
    return found


def _check_limits(limits: Limits) -> None:
    for name in Limits.__struct_fields__:
        value = getattr(limits, name)
        if value is not None and not 0 < value < 1 << 53:
            raise RequestError(f"{name} must be at least 1", param=name)


def _later(now_ns: int, seconds: float, what: str) -> int:
    if not 0 < seconds < 100 * 366 * 86_400:
        raise RequestError(f"{what} must be above 0 seconds and below 100 years", param=what)
    return now_ns + int(seconds * _NS)


def _check_rotatable(key: Key, now_ns: int, *, moved: bool) -> None:
    match key.state(now_ns):
        case "revoked":
            raise Conflict(f"The key {key.name!r} ({key.id}) is revoked for good; create a new one")
        case "expired" if not moved:
            raise Conflict(f"The key {key.name!r} ({key.id}) has expired; rotate it with a new --expires")
        case _:
            pass
