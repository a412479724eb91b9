"""Checksums and official ranges, beside published examples and beside made-up look-alikes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import ConfigError
from assay.gateway.guards import deny
from assay.gateway.guards.patterns import IBAN_LENGTHS, is_card, is_iban, luhn, personal, secrets
from assay.gateway.guards.window import Wanted, Window

# The registry's own examples (SWIFT IBAN Registry).
IBANS = [
    "AD1200012030200359100100", "AT611904300234573201", "BE68539007547034", "BR1800360305000010009795493C1",
    "CH9300762011623852957", "DE89370400440532013000", "ES9121000418450200051332",
    "FR1420041010050500013M02606",
    "GB29NWBK60161331926819", "IT60X0542811101000000123456", "MT84MALT011000012345MTLCAST001S",
    "NL91ABNA0417164300", "NO9386011117947", "PL61109010140000071219812874", "SA0380000000608010167519",
]  # fmt: skip
CARDS = [
    "4111111111111111", "4222222222222", "5555555555554444", "2223003122003222", "378282246310005",
    "371449635398431", "6011111111111117", "30569309025904", "3530111333300000", "6304000000000000",
]  # fmt: skip


@pytest.mark.parametrize("number", IBANS)
def test_ibans_of_the_registry_are_valid_and_no_single_change_is(number: str) -> None:
    assert is_iban(number)
    assert is_iban(number.lower())
    for place in range(2, len(number)):
        for digit in "0123456789":
            if digit != number[place]:
                assert not is_iban(number[:place] + digit + number[place + 1 :])


@given(st.sampled_from(sorted(IBAN_LENGTHS)), st.data())
def test_an_iban_is_valid_for_exactly_one_pair_of_check_digits(country: str, data: st.DataObject) -> None:
    length = IBAN_LENGTHS[country] - 4
    account = data.draw(st.text("0123456789ABCXYZ", min_size=length, max_size=length))
    valid = [check for check in range(2, 99) if is_iban(f"{country}{check:02}{account}")]
    assert len(valid) == 1


@pytest.mark.parametrize("number", CARDS)
def test_cards_are_told_by_their_first_digits_and_their_last(number: str) -> None:
    assert is_card(number)
    wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
    assert not is_card(wrong)


@given(st.text("0123456789", min_size=1, max_size=30))
def test_luhn_holds_for_exactly_one_check_digit_and_finds_a_changed_one(digits: str) -> None:
    valid = [check for check in "0123456789" if luhn(digits + check)]
    assert len(valid) == 1
    changed = str((int(digits[0]) + 1) % 10) + digits[1:]
    assert not luhn(changed + valid[0])


def found(text: str, *kinds: str) -> list[str]:
    rules = (*secrets(kinds), *personal(kinds))
    wanted = [Wanted(rule, "g", hides=True, keeps=True) for rule in rules]
    return [one.rule.kind for one in Window(wanted).feed(text, final=True)[1]]


@pytest.mark.parametrize(
    "text",
    [
        "order 4111111111111112 of 2024",
        "1234567890123456",
        "4111 1111 1111 11112",
        "0.4111111111111111",
        "a4111111111111111",
        "DE89 3704 0044 0532 0130 01",
        "ZZ89370400440532013000",
        "DE8937040044053201300012",
        "000-12-3456",
        "666-12-3456",
        "912-34-5678",
        "123-00-4567",
        "123-45-0000",
        "123-45 6789",
        "1123-45-6789",
        "+999 123 456 789",
        "+1 23",
        "1+4912345678",
        "bob@localhost",
        "@example.com",
        "foo@bar@",
        "sk-short",
        "task-force-abcdefghijklmnopqrstuv",
        "risk-aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "eyJub3RoaW5nIjoxfQAAAA.eyJhYWFhIn0.abc",
        "password = correcthorsebatterystaple",
        "token: aaaaaaaaaaaaaaaaaaaaaa1",
        "BEGIN PRIVATE KEY",
    ],
)
def test_look_alikes_are_left_alone(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize("text", ["999.1.1.1", "1.2.3", "version 1.2.3.4.5", "12:30", "a::b::c", "::"])
def test_what_is_no_address_of_the_internet(text: str) -> None:
    assert found(text, "ip") == (["ip"] if text == "::" else [])


def test_addresses_of_the_internet_are_looked_for_only_by_name() -> None:
    assert found("10.0.0.1") == []
    assert found("10.0.0.1 and bob@example.com", "ip") == ["ip"]


def test_a_card_behind_other_digits_is_found() -> None:
    wanted = [Wanted(rule, "g", hides=True, keeps=True) for rule in personal()]
    text = "call 99 4111 1111 1111 1111 12"
    assert Window(wanted).feed(text, final=True)[0] == "call 99 [card] 12"


# --- words and patterns of one's own -----------------------------------------------------------------------


def denied(text: str, *rules: str, words: tuple[str, ...] = ()) -> str:
    wanted = [Wanted(rule, "g", True, True) for rule in (*deny.words(words), *deny.patterns(rules))]
    return Window(wanted).feed(text, final=True)[0]


def test_words_are_whole_and_in_any_case() -> None:
    assert denied("Falcon, falcons and the falcon", words=("falcon",)) == "[denied], falcons and the [denied]"
    assert denied("project  x, Project X", words=("project x",)) == "project  x, [denied]"


def test_patterns_are_regular_expressions() -> None:
    assert denied("PRJ-1234 prj-1", r"PRJ-\d{1,6}", r"(?i)prj-\d") == "[denied] [denied]"


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a+)+", "without an upper bound"),
        ("a*b", "without an upper bound"),
        ("(a{1,9}){1,9}b", "ways"),
        (r"\d{0,20}\d{0,20}\d{0,20}x", "ways"),
        ("(a|aa){1,30}", "ways"),
        ("(?=a)b", "looks around"),
        (r"(a)\1", "looks around"),
        ("a{0,3}", "empty"),
        ("x{200}y{100}", "300 characters"),
        ("(", "not a regular expression"),
        ("(a{2}){99999999}", "upper bound"),
    ],
)
def test_patterns_that_may_take_for_ever_are_refused(pattern: str, why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        deny.patterns([pattern])


@given(st.text(alphabet="ab1(){}|?*+.\\d[]^$,", max_size=15))
def test_any_pattern_is_refused_or_runs(pattern: str) -> None:
    try:
        rules = deny.patterns([pattern])
    except ConfigError:
        return
    wanted = [Wanted(rule, "g", True, True) for rule in rules]
    Window(wanted).feed("ab1ab1ab1ab1" * 5, final=True)
