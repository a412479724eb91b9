"""What a key looks like to its holder: `ask-ID-SECRET`. Which keys there are is assay.keys.store's."""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import b32encode
from hashlib import sha256
from typing import Final, NamedTuple

PREFIX: Final = "ask-"
_ID: Final = r"[a-z2-7]{10}"
_FORM: Final = re.compile(rf"ask-(?P<id>{_ID})-[a-z2-7]{{52}}", re.ASCII)
_SECRET_BYTES: Final = 32
NO_DIGEST: Final = "0" * 64
"""Compared with where there is no such key, so that the answer takes as long."""


class Token(NamedTuple):
    """A key as it was sent: its public id, and the digest that tells whether it is the right one."""

    id: str
    digest: str


def new_id() -> str:
    """50 random bits: the part of a key that may be seen, in lists and in traces."""
    return _base32(secrets.token_bytes(7))[:10]


def new_token(key_id: str) -> str:
    """A key that nobody has seen before, with 256 random bits after its id."""
    return f"{PREFIX}{key_id}-{_base32(secrets.token_bytes(_SECRET_BYTES))}"


def digest_of(token: str) -> str:
    """What is stored in place of the key.

    A plain SHA-256, on purpose. Salts, stretching and peppers protect what people make up, which can be
    guessed; nobody guesses 256 random bits, however fast each guess is. A slow hash would cost every call
    its milliseconds, and let anybody without a key cost the server as much.
    """
    return sha256(token.encode()).hexdigest()


def parse_token(text: str) -> Token | None:
    """The id and the digest of a key; None for what no key looks like. Any text is taken."""
    found = _FORM.fullmatch(text)
    return None if found is None else Token(found["id"], digest_of(text))


def matches(token: Token, digest: str) -> bool:
    """In constant time."""
    return hmac.compare_digest(token.digest, digest)


def _base32(data: bytes) -> str:
    return b32encode(data).decode().rstrip("=").lower()
