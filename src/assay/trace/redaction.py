"""Secrets out of what is stored: keys that are known, and what looks like one. Spans pass here once, as rows.

Every text of a row goes through, messages included, in the thread that stores; nobody who calls waits for it.
What is found is replaced by [redacted], in the text as JSON: without quotes and backslashes it fits anywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

REDACTED: Final = "[redacted]"
MIN_CHARS: Final = 8
"""Shorter secrets are not looked for by their text: they would be found in many words."""

_KEY: Final = "[A-Za-z0-9_-]"
_KINDS: Final = (
    # OpenAI, Anthropic, OpenRouter, DeepSeek and others; Assay's own, ask-, have it in them.
    ("sk-", rf"sk-{_KEY}{{20,}}"),
    ("AIza", rf"AIza{_KEY}{{35}}"),  # Google
    ("gsk_", r"gsk_[A-Za-z0-9]{40,}"),  # Groq
    ("xai-", r"xai-[A-Za-z0-9]{40,}"),
    ("hf_", r"hf_[A-Za-z0-9]{30,}"),  # Hugging Face
    ("AKIA", r"AKIA[A-Z0-9]{16}"),  # AWS
    ("ASIA", r"ASIA[A-Z0-9]{16}"),
    ("ghp_", r"ghp_[A-Za-z0-9]{36,}"),  # GitHub
    ("gho_", r"gho_[A-Za-z0-9]{36,}"),
    ("ghs_", r"ghs_[A-Za-z0-9]{36,}"),
    ("github_pat_", r"github_pat_[A-Za-z0-9_]{22,}"),
    ("glpat-", rf"glpat-{_KEY}{{20,}}"),  # GitLab
    ("xox", r"xox[abeoprs]-[A-Za-z0-9-]{10,}"),  # Slack
    ("k_live_", r"k_live_[A-Za-z0-9]{16,}"),  # Stripe, after s or r
    ("eyJ", rf"eyJ{_KEY}{{8,}}\.eyJ{_KEY}{{8,}}\.{_KEY}{{8,}}"),  # JSON Web Tokens
    (
        "PRIVATE KEY",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[A-Za-z0-9+/=\s:,-]|\\+[nr])*?-----END [A-Z ]*KEY-----",
    ),
)
# Each begins with its mark, which is fast to find; what stands before it is looked at afterwards.
_PATTERNS: Final = tuple((mark, re.compile(pattern)) for mark, pattern in _KINDS)
_BEARER: Final = re.compile(r"earer\s+[A-Za-z0-9._~+/-]{16,}=*", re.IGNORECASE)
_BEARER_MARKS: Final = ("earer ", "EARER ")
_LATE: Final = ("sk-", "k_live_")
_FIRST: Final = frozenset("asr")
# A key does not begin in the middle of a word: the base64 of an image has every beginning in it somewhere.
_IN_WORD: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-")


class Redactor:
    """Takes `secrets`, wherever they stand, and what looks like a key out of a text.

    >>> Redactor(["correct-horse-battery"])("it is correct-horse-battery, and sk-0123456789abcdefghijklmn")
    'it is [redacted], and [redacted]'
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spelled = {form for secret in secrets if len(secret) >= MIN_CHARS for form in _spellings(secret)}
        # The longest first: one may begin another.
        self._secrets = sorted(spelled, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, REDACTED)
        for mark, pattern in _PATTERNS:
            if mark in text:
                text = pattern.sub(_instead, text)
        if any(mark in text for mark in _BEARER_MARKS):
            text = _BEARER.sub(lambda found: f"{found[0][:6]}{REDACTED}", text)
        return text


def _instead(found: re.Match[str]) -> str:
    """[redacted], unless the key would begin in the middle of a word."""
    text, at = found.string, found.start()
    if found[0].startswith(_LATE):
        # ask-..., sk_live_..., rk_live_...: their first letter stays.
        at -= text[at - 1 : at] in _FIRST
    before = text[at - 1 : at]
    # In JSON the n of \\n is no letter.
    escaped = before in ("n", "r", "t") and text[at - 2 : at - 1] == "\\"
    return REDACTED if before not in _IN_WORD or escaped else found[0]


def _spellings(secret: str) -> set[str]:
    """As it is, and as it stands in JSON, in JSON within JSON too."""
    once = json.dumps(secret, ensure_ascii=False)[1:-1]
    return {secret, once, json.dumps(once, ensure_ascii=False)[1:-1]}
