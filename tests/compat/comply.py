"""What llm-comply's cases come to through the gateway, upstream by upstream, and the page that tells it.

    python tests/compat/comply.py            writes docs/reference/conformance.md
    python tests/compat/comply.py --check    says whether it is up to date

REMARKS is all that is not a plain pass. Whether that is the truth, test_llm_comply.py runs the suite for.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import llm_comply
from llm_comply.test_case import TestCase as Case
from llm_comply.tests import get_tests

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "conformance.md"
_SPECS = Path(llm_comply.__file__).parent / "specs"


@dataclass(frozen=True)
class Format:
    """One of the suite's formats, and how its callers reach the gateway.

    `model` begins the name of a model for which the suite leaves no case out.
    """

    name: str
    title: str
    base: str
    key_header: str
    bearer: bool
    model: str
    spec: str | None = None

    @property
    def cases(self) -> list[Case]:
        return get_tests(self.name)

    @property
    def spec_path(self) -> str | None:
        """The API's published description, which the suite brings along."""
        return str(_SPECS / self.spec) if self.spec else None


_KEY = "Authorization"
FORMATS = (
    Format("openai-chat", "OpenAI chat completions", "/v1", _KEY, True, "gpt-5", "openai_chat.json"),
    Format("open-responses", "Open Responses", "/v1", _KEY, True, "gpt-5", "openresponses.json"),
    Format("anthropic", "Anthropic Messages", "/v1", "x-api-key", False, "claude-sonnet-4", "anthropic.json"),
    Format("google-genai", "Gemini generateContent", "", "x-goog-api-key", False, "gemini-3"),
)
REMOTE = ("openai", "openai-responses", "compatible", "anthropic", "gemini")
UPSTREAMS = (*REMOTE, "local")
OWN = {
    ("openai-chat", "openai"),
    ("openai-chat", "compatible"),
    ("open-responses", "openai"),
    ("open-responses", "openai-responses"),
    ("anthropic", "anthropic"),
    ("google-genai", "gemini"),
}
"""Where the caller's dialect is the upstream's, and bytes go through as they are."""


# --- what is not a plain pass --------------------------------------------------------------------


@dataclass(frozen=True)
class Remark:
    """Cells of the tables that are no plain pass. `case` is a pattern of the suite's ids.

    refused: the answer is 400, and its message holds the one text in `said`.
    advice: the case passes, with as many pieces of advice as there are texts, each holding its text.
    open: not run.
    """

    case: str
    upstreams: tuple[str, ...]
    kind: Literal["refused", "advice", "open"]
    said: tuple[str, ...]
    why: str


_REASONING = (
    "Chat completions have no parameter `reasoning`. They have `reasoning_effort`, which the case sends "
    "beside it: without the other one it passes."
)
_THROUGH = (
    f"{_REASONING} Here it is the upstream that refuses: the scripted one takes no field that its SDK does "
    "not know."
)
_ID = (
    "Advice: the id does not begin with `chatcmpl-`. It is the reply's own id, under which the upstream's "
    "logs have it."
)
_COMPACT = "Compaction is not served. The answer is 404, which the suite takes, with advice."
_SILENT = (
    "Advice: no thoughts in the reply. OpenAI's chat completions count the tokens of thoughts and keep the "
    "text to themselves."
)
_BLIND = "The built-in model reads no images."
_PLAIN = "The built-in model does not reason."
_OPEN = "Not run, for the time it takes: the built-in model is small and counts on past five."
_NO_EFFORT = ("does not support reasoning_effort",)
_TRANSLATED = ("openai-responses", "anthropic", "gemini")
_LOCAL = ("local",)

REMARKS = (
    Remark(
        "chat-reasoning-summary",
        (*_TRANSLATED, "local"),
        "refused",
        ("Unrecognized request argument supplied: reasoning. Did you mean 'reasoning_effort'?",),
        _REASONING,
    ),
    Remark("chat-reasoning-summary", ("openai",), "refused", ("body.reasoning: unknown field",), _THROUGH),
    *(
        Remark(f"chat-{case}", _TRANSLATED, "advice", ("missing 'chatcmpl-' prefix",), _ID)
        for case in ("basic-response", "system-prompt", "multi-turn", "tool-calling", "image-input")
    ),
    Remark(
        "compact-response", UPSTREAMS, "advice", ("output is missing", "'compact'", "'compaction'"), _COMPACT
    ),
    Remark("anth-thinking-display", ("openai",), "advice", ("no thinking content block",), _SILENT),
    Remark("google-thinking", ("openai",), "advice", ("no thought parts",), _SILENT),
    Remark("*image-input", _LOCAL, "refused", ("does not support a part of type Image",), _BLIND),
    Remark("reasoning-summary", _LOCAL, "refused", _NO_EFFORT, _PLAIN),
    Remark("anth-thinking-display", _LOCAL, "refused", _NO_EFFORT, _PLAIN),
    Remark("google-thinking", _LOCAL, "refused", _NO_EFFORT, _PLAIN),
    Remark("*streaming-response", _LOCAL, "open", (), _OPEN),
)


def remark(case: str, upstream: str) -> Remark | None:
    """What there is to say about a cell; None for a plain pass."""
    found = [one for one in REMARKS if upstream in one.upstreams and fnmatchcase(case, one.case)]
    if len(found) > 1:
        raise ValueError(f"{case} to {upstream} has {len(found)} remarks")
    return found[0] if found else None


def cells(upstreams: tuple[str, ...]) -> Iterator[tuple[Format, str, Case]]:
    """All that is to be run."""
    for form in FORMATS:
        for upstream in upstreams:
            for case in form.cases:
                said = remark(case.id, upstream)
                if said is None or said.kind != "open":
                    yield form, upstream, case


# --- the page ------------------------------------------------------------------------------------

_HEAD = """\
# Conformance

<!-- Made by tests/compat/comply.py from its table, which tests/compat/test_llm_comply.py holds to what the
     suite finds. After changing the table run 'python tests/compat/comply.py'. -->

[llm-comply](https://github.com/Oaklight/llm-comply) {version} checks whether a server speaks an API as it is
published: replies, and the events of streams, against the API's schema, and what they say. The tests run its
cases against a real `assay up`, in front of scripted upstreams of every dialect, which answer by looking at
what reaches them, and of the built-in model at temperature 0. They fail when a cell is better or worse than
it says here, when the suite leaves a case out, and when what reaches an upstream of another dialect is not
what that API's official SDK could have sent.

{counts}

- **✓** passes; with a number, with the suite's advice, which the remark of that number tells.
- **400** is refused, with a message that says what to do.
- **–** is not run.

The command above each table does the same to a gateway of yours; the suite leaves its cases of reasoning out
when the model's name is none that it knows to reason.

In *italics*, the caller speaks the upstream's own dialect and its bytes go through as they are: those cells
say that the gateway does not stand in the way. The scripted upstreams keep to the published descriptions
there, which the real ones do not always.
"""
_TAIL = """\
## What the suite leaves out

tests/compat/test_published_schemas.py holds to the same schemas, for callers of another dialect than the
upstream's: streams of tools, thoughts and refusals, and errors, whole and streamed. They fit, with one
difference: thoughts are streamed to callers of the Responses API as `response.reasoning_text.delta`, which is
OpenAI's name for it and the one that SDKs read; Open Responses calls it `response.reasoning.delta`.
"""


def page() -> str:
    numbers: dict[str, int] = {}
    tables = "\n".join(_table(form, numbers) for form in FORMATS)
    remarks = "\n".join(f"{number}. {why}" for why, number in numbers.items())
    head = _HEAD.format(version=llm_comply.__version__, counts=_counts())
    return f"{head}\n{tables}\n## Remarks\n\n{remarks}\n\n{_TAIL}"


def _counts() -> str:
    found = Counter(
        one.kind if (one := remark(case.id, upstream)) else "plain"
        for form in FORMATS
        for case in form.cases
        for upstream in UPSTREAMS
    )
    passed = found["plain"] + found["advice"]
    return (
        f"Of {found.total()} cells {passed} pass, {found['advice']} of them with advice; {found['refused']} "
        f"are refused and {found['open']} not run."
    )


def _table(form: Format, numbers: dict[str, int]) -> str:
    lines = [f"## {form.title}", "", f"    {_command(form)}", ""]
    lines.append(f"| | {' | '.join(UPSTREAMS)} |")
    lines.append("|---" * (len(UPSTREAMS) + 1) + "|")
    for case in form.cases:
        row = [_cell(form, case, upstream, numbers) for upstream in UPSTREAMS]
        lines.append(f"| {case.name} (`{case.id}`) | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _command(form: Format) -> str:
    plain = "" if form.bearer else f" --auth-header {form.key_header} --no-bearer"
    return f"llm-comply --format {form.name} -u http://127.0.0.1:8700{form.base} -k any{plain} -m MODEL"


def _cell(form: Format, case: Case, upstream: str, numbers: dict[str, int]) -> str:
    found = remark(case.id, upstream)
    mark = "✓"
    if found is not None:
        number = numbers.setdefault(found.why, len(numbers) + 1)
        mark = {"refused": "400", "advice": "✓", "open": "–"}[found.kind] + f" ({number})"
    return f"*{mark}*" if (form.name, upstream) in OWN else mark


def main() -> int:
    made = page()
    if "--check" in sys.argv:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == made:
            return 0
        sys.stderr.write(
            "docs/reference/conformance.md is out of date; run 'python tests/compat/comply.py'\n"
        )
        return 1
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
