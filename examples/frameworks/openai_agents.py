"""An agent of the OpenAI Agents SDK with two tools on top of Assay: which of two cities is warmer?

The SDK speaks the Responses API unless told otherwise: ASSAY_API=chat_completions.
"""

import asyncio
import operator
import os
from typing import Literal

from agents import (
    Agent,
    Runner,
    function_tool,
    set_default_openai_api,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

WEATHER = {"Lisbon": "26 degrees Celsius, clear sky", "Oslo": "17 degrees Celsius, light rain"}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
QUESTION = "Which is warmer now, Oslo or Lisbon, and by how many degrees?"

set_tracing_disabled(True)  # the record is kept by Assay; nothing is sent elsewhere
set_default_openai_api(os.environ.get("ASSAY_API", "responses"))
set_default_openai_client(
    AsyncOpenAI(
        base_url=os.environ.get("ASSAY_BASE_URL", "http://127.0.0.1:8700/v1"),
        api_key=os.environ.get("ASSAY_API_KEY", "none"),
    )
)


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city at this moment."""
    print(f"> get_weather({city!r})\n", end="")
    return WEATHER.get(city, "unknown")


@function_tool
def calculate(left: float, sign: Literal["+", "-", "*", "/"], right: float) -> float:
    """The result of one arithmetic operation on two numbers."""
    print(f"> calculate({left:g} {sign} {right:g})\n", end="")
    return ARITHMETIC[sign](left, right)


agent = Agent(
    name="Weather reporter",
    instructions="Look the weather up; do not guess.",
    model=os.environ.get("ASSAY_MODEL", "gpt-4o-mini"),
    tools=[get_weather, calculate],
)


async def main() -> None:
    run = Runner.run_streamed(agent, QUESTION)
    async for event in run.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            print(event.data.delta, end="", flush=True)
    print()


if __name__ == "__main__":
    asyncio.run(main())
