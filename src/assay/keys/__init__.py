"""Keys: who may call, which models, until when. What a key may spend is the budgets' to say."""

from __future__ import annotations

from assay.keys.keyring import Keyring
from assay.keys.store import Issued, Key, KeyStore
from assay.keys.token import Token, parse_token

__all__ = ["Issued", "Key", "KeyStore", "Keyring", "Token", "parse_token"]
