"""The sixteen faults, the calls that meet them, and how each has to end. Played by .play."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from compat.bed import BASES, REAL_NAMES
from compat.upstreams.app import Upstreams

Mode = Literal["whole", "stream"]
LIMIT_S = 0.4
"""The time that a silent upstream is given."""


@dataclass(frozen=True)
class Fault:
    """`kinds` are the scenarios of the upstream that show it; `status` is what it is told as.

    `says`: a stream has said something before it. `elsewhere`: another model may do better. `waits`: only a
    limit of time ends it.
    """

    title: str
    kinds: tuple[str, ...]
    status: int
    says: bool = False
    elsewhere: bool = True
    waits: bool = False


FAULTS = (
    Fault("refused connection", ("refused",), 503),
    Fault("connect hangs", ("hang",), 504, waits=True),
    Fault("accepts and stays silent", ("silent",), 504, waits=True),
    Fault("429 with Retry-After as seconds, as a date", ("error-rate", "rate-date"), 429),
    Fault("500, 502, 503, 529", ("status-500", "status-502", "status-503", "status-529"), 503),
    Fault("400: the context is too long", ("error-too-long",), 400),
    Fault("401, 403: the key is refused", ("keyed-401", "keyed-403"), 502),
    Fault("slow first token", ("slow",), 504, waits=True),
    Fault("stall mid-stream", ("stall",), 504, says=True, waits=True),
    Fault("disconnect mid-stream", ("truncated",), 502, says=True),
    Fault("stream without a finish reason", ("early",), 502, says=True),
    Fault("malformed chunk, first and mid-stream", ("garbage", "malformed"), 502),
    Fault("error as the first event of a 200", ("error-first",), 503),
    Fault("error mid-stream", ("error-mid",), 503, says=True),
    Fault("empty body", ("empty",), 502),
    Fault("client goes away", ("stall",), 0, waits=True),
)
FILTER = Fault("400: the content is filtered", ("filter",), 400, elsewhere=False)
"""The other half of the sixth: a request that is wrong for everybody."""
LEFT = FAULTS[-1]

PAIRS = {
    "openai": (("openai", "anthropic"), ("anthropic", "openai")),
    "responses": (("openai-responses", "gemini"), ("gemini", "openai-responses")),
    "anthropic": (("anthropic", "gemini"), ("compatible", "anthropic")),
    "gemini": (("gemini", "compatible"), ("openai", "gemini")),
}
"""For each caller: an upstream that fails, and one to fall back to; once the first speaks as the caller does,
once the second."""


_REFUSALS = {"error-rate", "rate-date", "error-too-long", "filter"}


@dataclass(frozen=True)
class Case:
    """One call. Its name is what the caller asks for."""

    fault: Fault
    kind: str
    caller: str
    bad: str
    good: str
    mode: Mode
    fallback: bool

    @property
    def name(self) -> str:
        left = "left." if self.fault is LEFT else ""
        ends = "with" if self.fallback else "without"
        return f"{left}{self.kind}.{self.caller}.{self.bad}.{self.mode}.{ends}"

    @property
    def mid_stream(self) -> bool:
        """Whether the caller has seen something before it fails."""
        return self.mode == "stream" and (self.fault.says or self.kind == "malformed")

    @property
    def broken(self) -> bool:
        """Whether the upstream answers that it is broken, and not that it has no room."""
        whole_500 = self.kind == "error-mid" and self.mode == "whole"
        return whole_500 or self.kind in {"status-500", "status-502"}

    @property
    def refused(self) -> bool:
        """Whether the upstream answers with the status of an error."""
        return self.broken or self.kind in _REFUSALS or self.kind.startswith(("status-", "keyed-"))

    @property
    def end(self) -> Literal["left", "answer", "status", "in stream"]:
        if self.fault is LEFT:
            return "left"
        if self.mid_stream:
            return "in stream"
        return "answer" if self.fallback and self.fault.elsewhere else "status"

    @property
    def second(self) -> str:
        """The provider of the fallback: the same API with another key, where the first is refused."""
        return f"{self.bad}-second" if self.kind.startswith("keyed") else self.good


def cases() -> Iterator[Case]:
    for fault in (*FAULTS, FILTER):
        for kind in fault.kinds:
            for caller, pairs in PAIRS.items():
                for bad, good in pairs:
                    for mode in ("whole", "stream"):
                        for fallback in (True, False):
                            yield Case(fault, kind, caller, bad, good, mode, fallback)


def configuration(played: list[Case], upstreams: Upstreams, refused: int, hangs: int) -> str:
    """assay.toml: a model that fails for each case, and a route where there is a fallback.

    `refused` and `hangs` are ports that accept nobody.
    """
    lines = []
    ports = {"refused": refused, "hang": hangs}
    for name, base in BASES.items():
        for suffix, url, key in (
            ("", upstreams.url(name), "UPSTREAM_KEY"),
            ("-second", upstreams.url(name), "SECOND_KEY"),
            *((f"-{kind}", f"http://127.0.0.1:{port}", "UPSTREAM_KEY") for kind, port in ports.items()),
        ):
            lines.append(f'[providers."{name}{suffix}"]\ndialect = "{name}"\nbase_url = "{url}{base}"')
            lines.append(f'api_key = "env:{key}"\nprices = "free"')
    for case in played:
        provider = f"{case.bad}-{case.kind}" if case.kind in ports else case.bad
        name = f"bad.{case.name}" if case.fallback else case.name
        lines.append(f'[models."{name}"]\nprovider = "{provider}"')
        lines.append(f'model = "{REAL_NAMES[case.bad]}--{case.kind}~{case.name}"')
        if case.fault.waits and case.fault is not LEFT:
            limits = ("first_token_s", "between_tokens_s") if case.mode == "stream" else ("deadline_s",)
            lines += [f"{limit} = {LIMIT_S}" for limit in limits]
        if not case.fallback:
            continue
        dialect = case.second.removesuffix("-second")
        kind = case.kind if case.second != dialect else "text"
        lines.append(f'[models."good.{case.name}"]\nprovider = "{case.second}"')
        lines.append(f'model = "{REAL_NAMES[dialect]}--{kind}~{case.name}"')
        lines.append(f'[routes."{case.name}"]\ntry = ["bad.{case.name}", "good.{case.name}"]\nretries = 0')
    return "\n".join(lines)
