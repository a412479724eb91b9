"""A LangGraph agent with two tools on top of Assay: which of two cities is warmer, and by how much?"""

import operator
import os
from typing import Literal

os.environ["LANGSMITH_TRACING_V2"] = "false"  # the record is kept by Assay; nothing is sent elsewhere

from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

WEATHER = {"Lisbon": "26 degrees Celsius, clear sky", "Oslo": "17 degrees Celsius, light rain"}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
QUESTION = "Which is warmer now, Oslo or Lisbon, and by how many degrees?"


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


TOOLS = [get_weather, calculate]
model = ChatOpenAI(
    model=os.environ.get("ASSAY_MODEL", "gpt-4o-mini"),
    base_url=os.environ.get("ASSAY_BASE_URL", "http://127.0.0.1:8700/v1"),
    api_key=os.environ.get("ASSAY_API_KEY", "none"),
    use_responses_api=os.environ.get("ASSAY_API") == "responses",
).bind_tools(TOOLS)


def think(state: MessagesState) -> MessagesState:
    return {"messages": [model.invoke(state["messages"])]}


graph = StateGraph(MessagesState)
graph.add_node("think", think)
graph.add_node("tools", ToolNode(TOOLS))
graph.add_edge(START, "think")
graph.add_conditional_edges("think", tools_condition)
graph.add_edge("tools", "think")
agent = graph.compile()

if __name__ == "__main__":
    asked = {"messages": [("system", "Look the weather up; do not guess."), ("user", QUESTION)]}
    for message, _ in agent.stream(asked, stream_mode="messages"):
        if isinstance(message, AIMessageChunk):
            print(message.text, end="", flush=True)
    print()
