"""A CrewAI agent with two tools on top of Assay: which of two cities is warmer, and by how much?"""

import logging
import operator
import os
from typing import Literal

os.environ["CREWAI_DISABLE_TELEMETRY"] = "true"  # the record is kept by Assay; nothing is sent elsewhere
os.environ["CREWAI_TRACING_ENABLED"] = "false"
os.environ["CREWAI_DISABLE_VERSION_CHECK"] = "true"
os.environ["OTEL_SDK_DISABLED"] = "true"

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from crewai.types.streaming import StreamChunkType

WEATHER = {"Lisbon": "26 degrees Celsius, clear sky", "Oslo": "17 degrees Celsius, light rain"}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
QUESTION = "Which is warmer now, Oslo or Lisbon, and by how many degrees?"

logging.getLogger("crewai").setLevel(logging.ERROR)  # else each call warns that it counts tokens by guess


@tool
def get_weather(city: str) -> str:
    """The weather in a city at this moment."""
    print(f"> get_weather({city!r})\n", end="")
    return WEATHER.get(city, "unknown")


@tool
def calculate(left: float, sign: Literal["+", "-", "*", "/"], right: float) -> float:
    """The result of one arithmetic operation on two numbers."""
    print(f"> calculate({left:g} {sign} {right:g})\n", end="")
    return ARITHMETIC[sign](left, right)


model = LLM(
    model=os.environ.get("ASSAY_MODEL", "gpt-4o-mini"),
    custom_openai=True,  # CrewAI's own OpenAI client for any model name; it needs no litellm
    base_url=os.environ.get("ASSAY_BASE_URL", "http://127.0.0.1:8700/v1"),
    api_key=os.environ.get("ASSAY_API_KEY", "none"),
)
reporter = Agent(
    role="Weather reporter",
    goal="Answer questions about the weather",
    backstory="You look the weather up; you do not guess.",
    tools=[get_weather, calculate],
    llm=model,
)
answer = Task(description=QUESTION, expected_output="One sentence.", agent=reporter)
crew = Crew(agents=[reporter], tasks=[answer], stream=True)

if __name__ == "__main__":
    for chunk in crew.kickoff():
        if chunk.chunk_type is StreamChunkType.TEXT:
            print(chunk.content, end="", flush=True)
    print()
