"""What keys look like: every key that is made is read, and nothing else is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.keys.token import NO_DIGEST, digest_of, matches, new_id, new_token, parse_token

LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
ids = st.text(LETTERS, min_size=10, max_size=10)
secrets = st.text(LETTERS, min_size=52, max_size=52)


def test_a_new_key_is_read_back() -> None:
    key_id = new_id()
    text = new_token(key_id)
    token = parse_token(text)
    assert token == (key_id, digest_of(text))
    assert text.startswith(f"ask-{key_id}-")


def test_keys_have_256_random_bits_of_their_own() -> None:
    made = {new_token("aaaaaaaaaa").rpartition("-")[2] for _ in range(200)}
    assert len(made) == 200
    assert {len(secret) for secret in made} == {52}
    # Five bits a place; one is left for the last.
    assert all(len({secret[place] for secret in made}) > 16 for place in range(51))
    assert len({secret[51] for secret in made}) == 2


def test_ids_do_not_repeat() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000


@given(ids, secrets)
def test_what_looks_like_a_key_is_read(key_id: str, secret: str) -> None:
    token = parse_token(f"ask-{key_id}-{secret}")
    assert token is not None
    assert token.id == key_id


@given(st.text() | st.from_regex(r"ask-[a-z2-7]{8,12}-[a-z2-7]{50,54}\n?", fullmatch=True))
def test_any_other_text_is_not(text: str) -> None:
    token = parse_token(text)
    assert (token is not None) == (re.fullmatch(r"ask-[a-z2-7]{10}-[a-z2-7]{52}", text) is not None)


@given(ids, secrets, st.integers(0, 66), st.characters())
def test_one_letter_changed_is_another_key(key_id: str, secret: str, place: int, letter: str) -> None:
    text = f"ask-{key_id}-{secret}"
    changed = text[:place] + letter + text[place + 1 :]
    token = parse_token(changed)
    assert token is None or matches(token, digest_of(text)) == (changed == text)


@pytest.mark.parametrize("text", ["", "ask-", "ask--", "ASK-" + "a" * 10 + "-" + "b" * 52, "sk-abc", "ask-é"])
def test_what_is_no_key(text: str) -> None:
    assert parse_token(text) is None


def test_nothing_matches_no_digest() -> None:
    token = parse_token(new_token(new_id()))
    assert token is not None
    assert not matches(token, NO_DIGEST)
