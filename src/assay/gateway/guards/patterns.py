"""What secrets and personal data look like, with the checks that tell them from look-alikes.

A pattern alone finds order numbers as cards: checksums (Luhn, ISO 13616), official ranges and entropy are
part of a rule. Finding in pieces is .window's.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import math
import re
from collections import Counter
from typing import Final

import msgspec

from assay.gateway.guards.window import Rule, Span, Unfinished

# A match begins where no word goes on; in JSON, the n of \n is no letter.
_LEFT: Final = r"(?:(?<![\w\\])|(?<=\\[nrtbf]))"
_KEY: Final = "A-Za-z0-9_-"


# --- checks ------------------------------------------------------------------------------------------------


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1: the check digit of payment cards.

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether a card of that number may have been issued: its first digits, its length, its check digit."""
    length = len(digits)
    two, three, four = int(digits[:2]), int(digits[:3]), int(digits[:4])
    issued = (
        (digits[0] == "4" and length in (13, 16, 19))  # Visa
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and length == 16)  # Mastercard
        or (two in (34, 37) and length == 15)  # American Express
        or ((four == 6011 or 644 <= three <= 649 or two == 65) and 16 <= length <= 19)  # Discover
        or ((300 <= three <= 305 or two in (36, 38, 39)) and 14 <= length <= 19)  # Diners Club
        or (3528 <= four <= 3589 and 16 <= length <= 19)  # JCB
        or (two == 62 and 16 <= length <= 19)  # UnionPay
        or (2200 <= four <= 2204 and 16 <= length <= 19)  # Mir
        or (four in _MAESTRO and 12 < length <= 19)
    )
    return issued and luhn(digits)


_MAESTRO: Final = frozenset({5018, 5020, 5038, 5893, 6304, 6759, 6761, 6762, 6763})

# ISO 13616, the registry of SWIFT: the length of each country's numbers.
IBAN_LENGTHS: Final = {
    country: int(length)
    for length, countries in {
        "15": "NO", "16": "BE BI", "18": "DK FK FO FI GL NL SD", "19": "MK SI SO",
        "20": "AT BA EE KZ LT LU MN XK", "21": "CH HR LI LV", "22": "BG BH CR DE GB GE IE ME RS VA",
        "23": "AE GI IL IQ OM TL", "24": "AD CZ ES MD PK RO SA SE SK TN VG",
        "25": "LY PT ST", "26": "IS TR", "27": "BY FR GR IT MC MR SM DJ",
        "28": "AL AZ CY DO GT HU LB NI PL SV", "29": "BR EG PS QA UA", "30": "JO KW MU YE",
        "31": "MT SC", "32": "LC", "33": "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip


def is_iban(text: str) -> bool:
    """ISO 13616: the country's length, and the remainder 1 of a division by 97. `text` has no spaces.

    >>> is_iban("DE89370400440532013000"), is_iban("DE89370400440532013001")
    (True, False)
    """
    number = text.upper()
    if not number.isascii() or not number.isalnum() or IBAN_LENGTHS.get(number[:2]) != len(number):
        return False
    return int("".join(str(int(char, 36)) for char in number[4:] + number[:4])) % 97 == 1


def entropy_bits(text: str) -> float:
    """Shannon's entropy of the characters, in bits for each: random keys have above 3.5, words less.

    >>> entropy_bits("aaaa"), entropy_bits("abcd")
    (0.0, 2.0)
    """
    total = len(text)
    return 0.0 - sum(count / total * math.log2(count / total) for count in Counter(text).values())


def _card(match: re.Match[str]) -> Span | None:
    """The longest beginning that is a card's number and ends where a group of digits does."""
    text = match[0]
    for end in range(len(text), 12, -1):
        if end < len(text) and (text[end].isdigit() or not text[end - 1].isdigit()):
            continue
        digits = re.sub(r"[ -]", "", text[:end])
        if len(digits) > 12 and is_card(digits):
            return match.start(), match.start() + end
    return None


def _iban(match: re.Match[str]) -> Span | None:
    text = match[0]
    wanted = IBAN_LENGTHS.get(text[:2].upper(), 0)
    if not wanted:
        return None
    end = count = 0
    while end < len(text) and count < wanted:
        count += text[end].isalnum()
        end += 1
    if count < wanted or text[end : end + 1].isalnum() or not is_iban(re.sub(r"[ -]", "", text[:end])):
        return None
    return match.start(), match.start() + end


# ITU-T E.164: the calling codes in use, by their first digits.
_CALLING: Final = re.compile(
    r"1|7|20|21[12368]|22\d|23\d|24\d|25[0-8]|26\d|27|29[0179]|3[0-469]|35\d|37\d|38[0-35-79]|4[013-9]|42[013]"
    r"|5[1-8]|50\d|59\d|6[0-6]|67[02-9]|68[0-35-9]|69[0-2]|8[1246]|80[08]|85[02356]|87[08]|88[0-36]"
    r"|9[0-58]|96[0-8]|97[0-79]|99[2-68]"
)


def _phone(match: re.Match[str]) -> Span | None:
    digits = re.sub(r"\D", "", match[0])
    return match.span() if 8 <= len(digits) <= 15 and _CALLING.match(digits) else None


def _ip(match: re.Match[str]) -> Span | None:
    try:
        ipaddress.ip_address(match[0])
    except ValueError:
        return None
    return match.span()


def _jwt(match: re.Match[str]) -> Span | None:
    """The first part of a JSON Web Token is a JSON object that names its algorithm (RFC 7515)."""
    head = match["head"]
    try:
        fields = msgspec.json.decode(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    return match.span() if isinstance(fields, dict) and "alg" in fields else None


def _assigned(match: re.Match[str]) -> Span | None:
    value = match["value"]
    mixed = any(char.isdigit() for char in value) and any(char.isalpha() for char in value)
    return match.span("value") if mixed and entropy_bits(value) >= _RANDOM_BITS else None


_RANDOM_BITS: Final = 3.5


# --- what may yet become a match ---------------------------------------------------------------------------


def _when(last: str, chars: int, pattern: str) -> Unfinished:
    """Where `pattern` matches at the end of a text that has one of `last` among its last characters."""
    search = re.compile(pattern + r"\Z", re.ASCII).search

    def unfinished(text: str, low: int) -> int | None:
        if not any(char in last for char in text[-chars:]):
            return None
        match = search(text, low)
        return None if match is None else match.start()

    return unfinished


_DIGITS: Final = "0123456789"
_IBAN_HEAD: Final = re.compile(r"[A-Za-z]{2}\d{2}", re.ASCII)
_IBAN_UNFINISHED: Final = re.compile(_LEFT + r"[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){0,30}[ -]?\Z", re.ASCII)


def _iban_unfinished(text: str, low: int) -> int | None:
    """Behind the first four characters, which are within one word, there may be spaces."""
    if _IBAN_HEAD.search(text, low) is None:
        return None
    match = _IBAN_UNFINISHED.search(text, low)
    return None if match is None else match.start()


_NAMES: Final = (
    r"(?:api[_-]?key|apikey|access[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret|private[_-]?key"
    r"|secret[_-]?access[_-]?key|secret[_-]?key|secret|password|passwd|pwd|token|accountkey)"
)
_VALUE: Final = "A-Za-z0-9_+/=.~-"

_NAME_ENDS: Final = ("key", "token", "secret", "password", "passwd", "pwd")
_ASSIGNMENT: Final = re.compile(
    rf"(?i:{_NAMES})[\"']?[ \t]{{0,2}}(?:[:=][ \t]{{0,2}}[\"']?[{_VALUE}]{{0,64}})?\Z"
)


def _assignment_unfinished(text: str, low: int) -> int | None:
    """Where there is white space in it: what has none is within one word."""
    end = 1 + max(text.rfind(" "), text.rfind("\t"))
    head = text[low:end].rstrip(" \t")
    last = head[1 + max(head.rfind(" "), head.rfind("\t"), head.rfind("\n")) :]
    if not (":" in last or "=" in last or last.lower().rstrip("\"'").endswith(_NAME_ENDS)):
        return None
    match = _ASSIGNMENT.search(text, low)
    return None if match is None else match.start()


# --- secrets -----------------------------------------------------------------------------------------------


def _token(kind: str, mark: str, pattern: str, reach: int, run: str = _KEY) -> Rule:
    """A key that is known by how it begins, and goes on as far as its characters do."""
    start = re.compile(_LEFT + pattern)
    return Rule(kind, start, reach + 1, mark, run=re.compile(f"[{run}]*"), word=True)


SECRETS: Final[tuple[Rule, ...]] = (
    # OpenAI, Anthropic, OpenRouter, DeepSeek; Assay's own begin with ask-.
    _token("api_key", "sk-", rf"a?sk-[{_KEY}]{{20}}", 24),
    _token("api_key", "AIza", rf"AIza[{_KEY}]{{35}}", 39),  # Google
    _token("api_key", "gsk_", r"gsk_[A-Za-z0-9]{20}", 24),  # Groq
    _token("api_key", "xai-", r"xai-[A-Za-z0-9]{20}", 24),
    _token("api_key", "hf_", r"hf_[A-Za-z0-9]{20}", 23),  # Hugging Face
    _token("api_key", "pplx-", r"pplx-[A-Za-z0-9]{20}", 25),
    _token("api_key", "r8_", r"r8_[A-Za-z0-9]{20}", 23),  # Replicate
    _token("api_key", "k_", r"[sr]k_(?:live|test)_[A-Za-z0-9]{16}", 24),  # Stripe
    _token("api_key", "SG.", rf"SG\.[{_KEY}]{{16,32}}\.[{_KEY}]{{16}}", 52),  # SendGrid
    _token("api_key", "npm_", r"npm_[A-Za-z0-9]{30}", 34),
    _token("api_key", "pypi-", rf"pypi-[{_KEY}]{{50}}", 55),
    _token("cloud_key", "AKIA", r"AKIA[A-Z0-9]{16}", 20),  # AWS
    _token("cloud_key", "ASIA", r"ASIA[A-Z0-9]{16}", 20),
    _token("cloud_key", "ya29.", rf"ya29\.[{_KEY}]{{20}}", 25, "." + _KEY),  # Google OAuth
    _token("cloud_key", "GOCSPX-", rf"GOCSPX-[{_KEY}]{{20}}", 27),
    _token("cloud_key", "dop_v1_", r"dop_v1_[a-f0-9]{32}", 39),  # DigitalOcean
    _token("cloud_key", "dapi", r"dapi[a-f0-9]{32}", 36),  # Databricks
    _token("repo_token", "gh", r"gh[pousr]_[A-Za-z0-9]{30}", 34),
    _token("repo_token", "github_pat_", r"github_pat_[A-Za-z0-9_]{22}", 33),
    _token("repo_token", "glpat-", rf"glpat-[{_KEY}]{{20}}", 26),
    _token("chat_token", "xox", r"xox[abeoprs]-[A-Za-z0-9-]{10}", 15),  # Slack
    Rule(
        "jwt",
        re.compile(rf"{_LEFT}(?P<head>eyJ[{_KEY}]{{14,400}})\.eyJ"),
        409,
        "eyJ",
        _jwt,
        run=re.compile(rf"[.{_KEY}]*"),
        word=True,
    ),
    Rule(
        "private_key",
        re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"),
        80,
        "-----BEGIN ",
        until=re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"),
        limit=16_384,
        unfinished=_when("-", 76, r"-{1,5}(?:(?<=-----)B[A-Z0-9 ]{0,66}-{0,4})?"),
    ),
    Rule(
        "password",  # in a URL: scheme://user:password@host
        re.compile(r"(?<=://)(?P<user>[\w.%+-]{0,64}):(?P<value>[^\s:/@\"'<>\\]{1,100})@"),
        167,
        "@",
        lambda match: match.span("value"),
        word=True,
    ),
    Rule(
        "secret",  # name = value, where the value looks random
        re.compile(rf"(?i:{_NAMES})[\"']?[ \t]{{0,2}}[:=][ \t]{{0,2}}[\"']?(?P<value>[{_VALUE}]{{16,64}})"),
        94,
        re.compile(rf"[:=][ \t]{{0,2}}[\"']?[{_VALUE}]{{16}}"),
        _assigned,
        run=re.compile(f"[{_VALUE}]*"),
        unfinished=_assignment_unfinished,
        word=True,
    ),
)  # fmt: skip

# --- personal data -----------------------------------------------------------------------------------------

PERSONAL: Final[tuple[Rule, ...]] = (
    Rule(
        "email",
        re.compile(
            r"(?:(?<![\w.%+'\\-])|(?<=\\[nrtbf]))[\w.%+'-]{1,64}@(?:[\w-]{1,63}\.){1,4}"
            r"(?:xn--[\w-]{2,40}|[^\W\d_]{2,24})"
        ),
        366,
        "@",
        word=True,
    ),
    Rule(
        "card",
        re.compile(rf"{_LEFT}(?<!\d\.)\d(?:[ -]?\d){{12,18}}(?!\w)", re.ASCII),
        38,
        re.compile(r"\d(?:[ -]?\d){12}", re.ASCII),
        _card,
        unfinished=_when(_DIGITS, 2, r"\d(?:[ -]?\d){0,18}[ -]?"),
    ),
    Rule(
        "iban",
        re.compile(rf"{_LEFT}[A-Za-z]{{2}}\d{{2}}(?:[ -]?[A-Za-z0-9]){{11,30}}", re.ASCII),
        66,
        _IBAN_HEAD,
        _iban,
        unfinished=_iban_unfinished,
        word=True,
    ),
    Rule(
        "phone",
        re.compile(r"(?:(?<![\w\\+])|(?<=\\[nrtbf]))\+[1-9](?:[ .()/-]{0,2}\d){6,14}(?!\w)", re.ASCII),
        45,
        "+",
        _phone,
        unfinished=_when(_DIGITS + "+", 3, r"\+(?:\d(?:[ .()/-]{0,2}\d){0,14}[ .()/-]{0,2})?"),
    ),
    Rule(
        "ssn",  # as the Social Security Administration gives them out
        re.compile(
            rf"{_LEFT}(?<!-)(?!000|666|9)\d{{3}}(?P<by>[- ])(?!00)\d{{2}}(?P=by)(?!0000)\d{{4}}(?![\w-])",
            re.ASCII,
        ),
        12,
        re.compile(r"\d{3}[- ]\d{2}[- ]", re.ASCII),
        unfinished=_when(_DIGITS, 2, r"\d{1,3}(?:[- ](?:\d{1,2}(?:[- ]\d{0,4})?)?)?"),
    ),
)
ADDRESSES: Final[tuple[Rule, ...]] = (
    Rule(
        "ip",
        re.compile(rf"{_LEFT}(?<!\.)\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?!\.?\w)", re.ASCII),
        18,
        ".",
        _ip,
        word=True,
    ),
    Rule(
        "ip",
        re.compile(
            r"(?:(?<![\w:.\\])|(?<=\\[nrtbf]))[0-9A-Fa-f:]{2,39}(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?(?![\w:])",
            re.ASCII,
        ),
        57,
        ":",
        _ip,
        word=True,
    ),
)  # fmt: skip

SECRET_KINDS: Final = tuple(dict.fromkeys(rule.kind for rule in SECRETS))
PERSONAL_KINDS: Final = tuple(dict.fromkeys(rule.kind for rule in (*PERSONAL, *ADDRESSES)))


def secrets(kinds: tuple[str, ...] = ()) -> tuple[Rule, ...]:
    """The rules for secrets, all or those kinds."""
    return tuple(rule for rule in SECRETS if not kinds or rule.kind in kinds)


def personal(kinds: tuple[str, ...] = ()) -> tuple[Rule, ...]:
    """The rules for personal data, all or those kinds; `ip`, which logs are full of, only by name."""
    return tuple(rule for rule in (*PERSONAL, *ADDRESSES) if rule.kind in (kinds or DEFAULT_PERSONAL))


DEFAULT_PERSONAL: Final = tuple(dict.fromkeys(rule.kind for rule in PERSONAL))
