"""Finding in pieces: the same findings and the same text however it is cut, and nothing out too early."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assay.gateway.guards.patterns import ADDRESSES, PERSONAL, SECRETS
from assay.gateway.guards.window import Rule, Wanted, Window

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK=\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
SAMPLES = {
    "sk-proj-abcdefghij0123456789ABCDEFGH": "api_key",
    "ask-abcdefghij0123456789": "api_key",
    "AIza" + "B" * 35: "api_key",
    "sk_live_0123456789abcdef": "api_key",
    "AKIAIOSFODNN7EXAMPLE": "cloud_key",
    "ghp_" + "a1" * 18: "repo_token",
    "xoxb-123456789012-abcdef": "chat_token",
    JWT: "jwt",
    KEY: "private_key",
    "bob@example.com": "email",
    "jean.o'neil+x@mail.example.co.uk": "email",
    "4111 1111 1111 1111": "card",
    "3782-822463-10005": "card",
    "5555555555554444": "card",
    "DE89 3704 0044 0532 0130 00": "iban",
    "GB82WEST12345698765432": "iban",
    "+49 (30) 901820": "phone",
    "+1-202-555-0123": "phone",
    "078-05-1120": "ssn",
    "192.168.0.17": "ip",
    "2001:db8::8a2e:370:7334": "ip",
}
ALL = (*SECRETS, *PERSONAL, *ADDRESSES)
HIDING = [Wanted(rule, "g", hides=True, keeps=True) for rule in ALL]


def whole(text: str, wanted: list[Wanted] = HIDING) -> tuple[str, list[str]]:
    out, found = Window(wanted).feed(text, final=True)
    return out, sorted(one.rule.kind for one in found)


def in_pieces(pieces: list[str], wanted: list[Wanted] = HIDING) -> tuple[str, list[str]]:
    window = Window(wanted)
    out, kinds = "", []
    for piece in pieces:
        more, found = window.feed(piece)
        out += more
        kinds += found
    more, found = window.feed("", final=True)
    return out + more, sorted(one.rule.kind for one in (*kinds, *found))


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize(("text", "kind"), SAMPLES.items())
def test_each_kind_is_found_among_words(text: str, kind: str) -> None:
    assert whole(f"It is {text} as I said.") == (f"It is [{kind}] as I said.", [kind])
    assert whole(text)[0] == f"[{kind}]"
    assert whole(f'("{text}")')[0] == f'("[{kind}]")'


@pytest.mark.parametrize(("text", "kind"), SAMPLES.items())
def test_no_cut_lets_any_of_it_out(text: str, kind: str) -> None:
    """One character at a time: at no time has a character of it been released."""
    window, out = Window(HIDING), ""
    for char in f"see {text}":
        out += window.feed(char)[0]
        assert out in ("", "see", "see ", f"see [{kind}]")
    assert out + window.feed("", final=True)[0] == f"see [{kind}]"


PIECE = st.one_of(
    st.sampled_from(list(SAMPLES)),
    st.sampled_from([text[: len(text) * 2 // 3] for text in SAMPLES]),
    st.sampled_from([" ", "-", "\n", "\\n", ".", ",", "@", "+", "4", "11", "eyJ", "pwd = ", "://u:", "DE"]),
    st.text(alphabet='aB1 -+@._:=/\\n"', max_size=12),
    st.text(max_size=5),
)
TEXT = st.lists(PIECE, max_size=12).map("".join)


@given(TEXT, st.lists(st.integers(0, 2000), max_size=40))
@example("4111 1111 1111 1111" + " 4111 1111 1111 1111" * 3, [3, 21, 22, 23])
@example("password = Ab1Cd2Ef3Gh4Ij5Kl6", [4, 8, 9, 11, 12, 20])
@example(KEY.replace("END", "BEGIN") + "x" * 100, [100, 101])
@example(KEY + KEY, [31])
def test_any_cut_gives_what_the_whole_gives(text: str, places: list[int]) -> None:
    assert in_pieces(cut(text, places)) == whole(text)


@given(TEXT)
def test_single_characters_give_what_the_whole_gives(text: str) -> None:
    assert in_pieces(list(text)) == whole(text)


@pytest.mark.parametrize("rule", [rule for rule in ALL if not rule.until], ids=lambda rule: rule.kind)
def test_what_is_unfinished_is_held_at_every_place(rule: Rule) -> None:
    """Of any text that the rule's pattern matches, no beginning is let go."""
    wanted = [Wanted(rule, "g", hides=True, keeps=True)]

    @given(st.from_regex(rule.start), st.text(alphabet=" -.x1", max_size=4), st.text(max_size=3))
    def held(text: str, before: str, after: str) -> None:
        text = before + text[-400:] + after
        assert in_pieces(list(text), wanted) == whole(text, wanted)

    held()


def test_long_texts_are_forgotten_and_a_match_over_the_cut_is_found() -> None:
    window, out = Window(HIDING), ""
    for _ in range(400):
        out += window.feed("some words, 12 of them and more; ")[0]
        assert len(window._buffer) < 2_000
    for char in "bob@example.com!":
        out += window.feed(char)[0]
    out += window.feed("", final=True)[0]
    assert out == "some words, 12 of them and more; " * 400 + "[email]!"


def test_words_are_held_back_only_until_they_end() -> None:
    window = Window(HIDING)
    assert window.feed("The order ")[0] == "The order "
    assert window.feed("was sent")[0] == "was "
    assert window.feed(" on")[0] == "sent "


def test_what_is_only_told_of_is_released_at_once() -> None:
    window = Window([Wanted(rule, "g", hides=False, keeps=False) for rule in ALL])
    out, found = window.feed("bob@exa")
    assert (out, found) == ("bob@exa", [])
    out, found = window.feed("mple.com ")
    assert (out, [one.rule.kind for one in found]) == ("mple.com ", ["email"])


def test_overlapping_findings_become_one_under_the_first_kind() -> None:
    rules = [Rule("a", re.compile("xyz"), 4), Rule("b", re.compile("zzz"), 4)]
    wanted = [Wanted(rule, "g", hides=True, keeps=True) for rule in rules]
    assert whole("1xyzzz2", wanted) == ("1[a]2", ["a", "b"])
    assert in_pieces(list("1xyzzz2"), wanted) == ("1[a]2", ["a", "b"])


def test_a_flush_lets_out_what_is_held_and_hides_the_rest_of_a_match() -> None:
    window = Window(HIDING)
    assert window.feed("to bob@exa")[0] == "to "
    assert window.flush() == ("bob@exa", [])
    out = window.feed("mple.com now")[0] + window.feed("", final=True)[0]
    assert out == "[email] now"


@pytest.mark.parametrize("text", SAMPLES)
def test_a_flush_hides_what_is_whole(text: str) -> None:
    window = Window(HIDING)
    out = window.feed(f"to {text}")[0]
    flushed, _ = window.flush()
    assert out + flushed == f"to [{SAMPLES[text]}]"
    assert window.flush() == ("", [])
    assert window.feed(", and more", final=True)[0] == ", and more"
