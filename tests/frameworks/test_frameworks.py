"""Agents of other frameworks on top of the gateway, told only its address: they call tools and stream."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from .upstream import USAGE

pytestmark = pytest.mark.frameworks

CALLS = ["> calculate(26 - 17)", "> get_weather('Lisbon')", "> get_weather('Oslo')"]
FIRST_HALF = "Lisbon is warmer: "
SECOND_HALF = "26 against 17, 9 degrees more."
EXAMPLES = {
    "langgraph": "langgraph_agent.py",
    "crewai": "crewai_agent.py",
    "openai_agents": "openai_agents.py",
}
IN_WHOLE_REPLIES = {
    "langgraph": "from langgraph_agent import agent, QUESTION\n"
    "print(agent.invoke({'messages': [('user', QUESTION)]})['messages'][-1].text)",
    "crewai": "import os\nfrom crewai_agent import crew, model\ncrew.stream = False\n"
    "model.api = 'responses' if os.environ['ASSAY_API'] == 'responses' else 'completions'\n"
    "print(crew.kickoff())",
    "openai_agents": "from openai_agents import agent, QUESTION, Runner\n"
    "print(Runner.run_sync(agent, QUESTION).final_output)",
}


@dataclass(frozen=True)
class Way:
    """From the API that the framework speaks, by the dialect of the provider, to the API that is asked."""

    spoken: str
    dialect: str
    asked: str


WAYS = {
    "chat": Way("chat_completions", "compatible", "chat"),
    "responses": Way("responses", "openai", "responses"),
    "responses as chat": Way("responses", "compatible", "chat"),
}

every_framework = pytest.mark.parametrize("name", EXAMPLES)
pairs = [(name, way) for name in EXAMPLES for way in WAYS]
# CrewAI 1.15 leaves tool calls out when it streams Responses, whoever answers it.
streamed = [(name, way) for name, way in pairs if name != "crewai" or way == "chat"]


@pytest.fixture
def check_stored(gateway, assay):
    """Three calls to the model are in the store, each whole and counted."""

    def check(dialect: str) -> None:
        served = gateway(dialect)
        served.stop()
        said = assay("trace", "list", "--json", cwd=served.root)
        assert said.status == 0, said.err
        traces = json.loads(said.out)
        assert [(trace["errors"], trace["spans"]) for trace in traces] == [(0, 1)] * 3
        assert [(trace["tokens_in"], trace["tokens_out"]) for trace in traces] == [USAGE] * 3

    return check


def called(said: str) -> list[str]:
    return sorted(line for line in said.splitlines() if line.startswith(">"))


@pytest.mark.parametrize(("name", "path"), streamed)
def test_the_example_streams(name, path, run, upstream, check_stored) -> None:
    way = WAYS[path]
    example = run(name, EXAMPLES[name], dialect=way.dialect, api=way.spoken)
    said = example.read_until(FIRST_HALF)
    # Only now does the upstream send the second half: what was read before it was streamed.
    upstream.go_on.set()
    rest = example.finish()
    assert called(said) == CALLS
    assert rest.strip() == SECOND_HALF
    assert [(api, body["stream"]) for api, body in upstream.asked] == [(way.asked, True)] * 3
    check_stored(way.dialect)


@pytest.mark.parametrize(("name", "path"), pairs)
def test_the_same_agent_in_whole_replies(name, path, run, upstream, check_stored) -> None:
    way = WAYS[path]
    said = run(name, "-c", IN_WHOLE_REPLIES[name], dialect=way.dialect, api=way.spoken).finish()
    assert called(said) == CALLS
    assert said.strip().endswith(FIRST_HALF + SECOND_HALF)
    assert [(api, bool(body.get("stream"))) for api, body in upstream.asked] == [(way.asked, False)] * 3
    check_stored(way.dialect)


@every_framework
def test_litellm_is_not_among_what_it_installs(name, run) -> None:
    code = "from importlib.metadata import distributions\nprint(*(d.name.lower() for d in distributions()))"
    assert "litellm" not in run(name, "-c", code).finish().split()
