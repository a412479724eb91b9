"""What stands in the test bed: the gateway's configuration, and the official SDKs pointed at it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anthropic
import openai

from .drivers import gemini as google
from .drivers.anthropic import AnthropicDriver
from .drivers.base import Driver
from .drivers.gemini import GeminiDriver
from .drivers.openai_chat import OpenAIChatDriver
from .drivers.openai_responses import OpenAIResponsesDriver
from .upstreams.apis import PROVIDERS
from .upstreams.app import Upstreams

BASES = {
    "openai": "/v1",
    "openai-responses": "/v1",
    "compatible": "/v1",
    "anthropic": "/v1",
    "gemini": "/v1beta",
}
REAL_NAMES = {
    "openai": "gpt-5.1",
    "openai-responses": "gpt-5.1",
    "compatible": "llama3.2",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
}
TEXTS = (
    "text",
    "weather",
    "tools",
    "indexed",
    "forced",
    "schema",
    "reasoning",
    "length",
    "refusal",
    "blocked",
    "embed",
    "count",
)
ERRORS = ("invalid", "too-long", "bad-key", "no-model", "rate", "broken", "overloaded", "first", "mid")
FAULTS = ("truncated", "early", "stall", "garbage", "empty")
PIECES = ("bytes", "sevens", "crlf", "heartbeats", "once")
SCENARIOS = (
    *TEXTS,
    *(f"error-{name}" for name in ERRORS),
    *FAULTS,
    *(f"{name}.{how}" for name in ("text", "tools", "reasoning") for how in PIECES),
)

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def configuration(upstreams: Upstreams) -> str:
    """A provider for each dialect, with a model for each scenario: `gemini.tools`; `slow.gemini` stalls."""
    lines = []
    for name in PROVIDERS:
        lines.append(
            f'[providers.{name}]\ndialect = "{name}"\nbase_url = "{upstreams.url(name)}{BASES[name]}"'
        )
        lines.append('api_key = "env:UPSTREAM_KEY"\nprices = "free"')
        for scenario in SCENARIOS:
            lines.append(f'[models."{name}.{scenario}"]\nprovider = "{name}"')
            lines.append(f'model = "{REAL_NAMES[name]}--{scenario}"')
        lines.append(f'[models."slow.{name}"]\nprovider = "{name}"\ndeadline_s = 0.3')
        lines.append(f'model = "{REAL_NAMES[name]}--stall"')
    return "\n".join(lines)


class Callers:
    """The SDKs' clients, made once: nothing but the base URL is set, and no retries, so that errors show."""

    def __init__(self, url: str) -> None:
        self.openai = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
        self.openai_async = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
        self.anthropic = anthropic.Anthropic(base_url=url, api_key="any", max_retries=0)
        self.anthropic_async = anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0)
        self.google = google.clients(url)

    def driver(self, client: str, mode: str, how: str) -> Driver:
        """`mode` is whole or stream, `how` sync or async."""
        stream, sync = mode == "stream", how == "sync"
        match client:
            case "openai":
                return OpenAIChatDriver(self.openai if sync else self.openai_async, stream)
            case "responses":
                return OpenAIResponsesDriver(self.openai if sync else self.openai_async, stream)
            case "anthropic":
                return AnthropicDriver(self.anthropic if sync else self.anthropic_async, stream)
            case "gemini":
                return GeminiDriver(self.google if sync else self.google.aio, stream)
        raise ValueError(client)

    async def aclose(self) -> None:
        self.openai.close()
        self.anthropic.close()
        self.google.close()
        await self.openai_async.close()
        await self.anthropic_async.close()
        await self.google.aio.aclose()
