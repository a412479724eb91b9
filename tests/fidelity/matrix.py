"""The fidelity matrix: what of a call, and of its reply, survives between each pair of dialects.

    python tests/fidelity/matrix.py            writes docs/reference/fidelity.md
    python tests/fidelity/matrix.py --check    says whether it is up to date

A call is written in the caller's dialect, understood, written for the upstream, and read there again by the
same dialect's own reader; a reply goes the other way. Nothing here knows what the verdict should be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parent))

from features import REPLIES, REQUESTS, Feature

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.anthropic import Anthropic
from assay.providers.base import WireFormat
from assay.providers.gemini import Gemini
from assay.providers.openai_chat import OpenAIChat
from assay.providers.openai_responses import OpenAIResponses
from assay.providers.proofs import opened_request, opened_response, sealed_event, sealed_request
from assay.providers.sse import SseDecoder
from assay.server import anthropic, gemini, openai_chat, openai_responses
from assay.server.dialect import Dialect
from assay.types import Assembly, Completed, Event, Request, Response, stream_of

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "fidelity.md"

Verdict = Literal["carried", "near", "dropped", "refused", "none", "lost"]
MARKS: dict[Verdict, str] = {
    "carried": "✓",
    "near": "≈",
    "dropped": "told",
    "refused": "400",
    "none": "",
    "lost": "LOST",
}


@dataclass(frozen=True)
class Side:
    """One dialect: both ways of writing and reading it."""

    title: str
    wire: WireFormat
    dialect: Dialect
    streamed: Dialect


CHAT, RESPONSES = openai_chat.CHAT_COMPLETIONS, openai_responses.DIALECT
SIDES = {
    "openai": Side("OpenAI chat", OpenAIChat(extensions=False), CHAT, CHAT),
    "openai-responses": Side("OpenAI Responses", OpenAIResponses(), RESPONSES, RESPONSES),
    "anthropic": Side("Anthropic", Anthropic(), anthropic.MESSAGES, anthropic.MESSAGES),
    "gemini": Side("Gemini", Gemini(), gemini.GENERATE, gemini.STREAM_SSE),
}
COMPATIBLE = Side("compatible", OpenAIChat(), CHAT, CHAT)
CALLERS = list(SIDES.values())
UPSTREAMS = [*CALLERS, COMPATIBLE]

# --- one cell ----------------------------------------------------------------------------------------


def asked(caller: Side, upstream: Side, feature: Feature) -> Verdict:
    """What becomes of a feature of the call."""
    request = _expressed(caller, feature)
    if request is None:
        return "none"
    opened, foreign = opened_request(sealed_request(request, caller.wire.dialect), upstream.wire.dialect)
    try:
        path, body, dropped, _ = upstream.wire.encode(opened)
    except UnsupportedFeature:
        return "refused"
    arrived = upstream.dialect.parse(body, path.rpartition("/")[2].partition(":")[0]).request
    if feature.of(arrived) == feature.of(request):
        return "carried"
    if feature.near(arrived):
        return "near"
    return "dropped" if dropped or foreign else "lost"


def _expressed(caller: Side, feature: Feature) -> Request | None:
    """The call as this caller makes it; None where the dialect has no words for the feature."""
    try:
        path, body, _, _ = caller.wire.encode(feature.sample)
        request = caller.dialect.parse(body, path.rpartition("/")[2].partition(":")[0]).request
    except RequestError:
        return None
    return request if feature.of(request) == feature.of(feature.sample) else None


def answered(caller: Side, upstream: Side, feature: Feature, *, streamed: bool) -> Verdict:
    """What becomes of a feature of the reply."""
    ask = Request("m", (), stream=streamed)
    pass_on = _stream if streamed else _whole
    try:
        reply, _, _ = pass_on(upstream, feature.sample, ask)
    except (RequestError, ValueError):
        return "none"
    if feature.of(reply) != feature.of(feature.sample):
        return "none"
    try:
        arrived, dropped, body = pass_on(caller, _opened(reply, upstream, caller), ask)
    except UnsupportedFeature:
        return "refused"
    if feature.of(arrived) == feature.of(reply):
        return "carried"
    if feature.near(arrived) or (feature.in_bytes is not None and feature.in_bytes in body):
        return "near"
    return "dropped" if dropped else "lost"


def _opened(reply: Response, upstream: Side, caller: Side) -> Response:
    """The reply with its proofs as the caller gets them."""
    sealed = sealed_event(Completed(reply), upstream.wire.dialect)
    assert isinstance(sealed, Completed)
    return opened_response(sealed.response, caller.wire.dialect)


def _whole(side: Side, reply: Response, ask: Request) -> tuple[Response, tuple[str, ...], bytes]:
    body, dropped = side.dialect.write(reply, _options(side))
    return side.wire.decode(ask, body), dropped, body


def _stream(side: Side, reply: Response, ask: Request) -> tuple[Response, tuple[str, ...], bytes]:
    """A stream has no place left to tell what it drops: the whole reply's word is taken."""
    encoder = side.streamed.stream(_options(side))
    data = b"".join(encoder.encode(event) for event in stream_of(reply))
    frames, decoder, assembly = SseDecoder(), side.wire.events(ask), Assembly()
    events: list[Event] = []
    for kind, text in [*frames.feed(data), *frames.end()]:
        events.extend(decoder.feed(kind, text))
    for event in [*events, *decoder.end()]:
        assembly.add(event)
    return assembly.response(), side.dialect.write(reply, _options(side)).dropped, data


def _options(side: Side) -> Any:
    """What a caller that wants all of the reply asks."""
    if side.dialect is CHAT:
        return openai_chat.Options(include_usage=True)
    return gemini.Options(include_thoughts=True) if side.dialect is gemini.GENERATE else None


# --- the page ----------------------------------------------------------------------------------------

INTRODUCTION = """# What survives between dialects

<!-- Made by tests/fidelity/matrix.py from the translators: change those, then run 'make docs'. -->

A caller of an upstream's own dialect is not in these tables' care: its bytes pass through. For the others
each cell is made by running the translators: the call is written in the caller's dialect, understood, written
for the upstream, and read there again; a reply goes the other way.

- **✓** arrives as it was meant.
- **≈** arrives in the nearest words that the other side has: a user's words for a system message, another
  reason to stop (never a plain stop for a reply that was cut short), one total for two counts.
- **told** is left out, since the answer does not depend on it, and named in the header `x-assay-dropped`.
- **400** is refused, with a message that says what to do.
- Empty: the side that would say it has no words for it.
"""


def verdicts() -> Iterable[tuple[str, Side, Side, Feature, Verdict]]:
    """Every cell: table, caller, upstream, feature, verdict."""
    for caller in CALLERS:
        for upstream in UPSTREAMS:
            for feature in REQUESTS:
                yield "calls", caller, upstream, feature, asked(caller, upstream, feature)
            for feature in REPLIES:
                for streamed in (False, True):
                    table = "streams" if streamed else "replies"
                    verdict = answered(caller, upstream, feature, streamed=streamed)
                    yield table, caller, upstream, feature, verdict


def page() -> str:
    lines = [INTRODUCTION]
    cells = {
        (table, caller.title, upstream.title, feature.name): verdict
        for table, caller, upstream, feature, verdict in verdicts()
    }
    for table, heading, features in (
        ("calls", "Calls", REQUESTS),
        ("replies", "Replies", REPLIES),
        ("streams", "Streamed replies", REPLIES),
    ):
        lines += [f"## {heading}", ""]
        for caller in CALLERS:
            others = [side for side in UPSTREAMS if side.title != caller.title]
            arrow = "to" if table == "calls" else "from"
            lines += [f"### The caller speaks {caller.title}", ""]
            lines.append("| | | " + " | ".join(f"{arrow} {side.title}" for side in others) + " |")
            lines.append("|---|---|" + "---|" * len(others))
            for feature in features:
                row = [MARKS[cells[table, caller.title, side.title, feature.name]] for side in others]
                if any(row):
                    lines.append(f"| {feature.group} | {feature.name} | " + " | ".join(row) + " |")
            lines.append("")
    return "\n".join(lines)


def main() -> int:
    made = page()
    if "--check" in sys.argv:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == made:
            return 0
        sys.stderr.write("docs/reference/fidelity.md is out of date; run 'make docs'\n")
        return 1
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
