"""Agents of other frameworks on top of the gateway, told only its address: they call tools and stream."""

from __future__ import annotations

import json

import pytest

from .upstream import USAGE

pytestmark = pytest.mark.frameworks

CALLS = ["> calculate(26 - 17)", "> get_weather('Lisbon')", "> get_weather('Oslo')"]
FIRST_HALF = "Lisbon is warmer: "
SECOND_HALF = "26 against 17, 9 degrees more."
STREAMED = {
    "langgraph": ("langgraph", "langgraph_agent.py", "chat"),
    "crewai": ("crewai", "crewai_agent.py", "chat"),
    "openai_agents, chat": ("openai_agents", "openai_agents.py", "chat"),
}
WHOLE = {
    "langgraph": (
        "langgraph",
        "from langgraph_agent import agent, QUESTION\n"
        "print(agent.invoke({'messages': [('user', QUESTION)]})['messages'][-1].text)",
        "chat",
    ),
    "crewai": (
        "crewai",
        "from crewai_agent import crew\ncrew.stream = False\nprint(crew.kickoff())",
        "chat",
    ),
    "openai_agents, chat": (
        "openai_agents",
        "from openai_agents import agent, QUESTION, Runner\n"
        "print(Runner.run_sync(agent, QUESTION).final_output)",
        "chat",
    ),
}


def env(api: str) -> dict[str, str]:
    return {"ASSAY_API": "chat_completions" if api == "chat" else "responses"}


@pytest.fixture
def check_stored(gateway, assay):
    """Three calls to the model are in the store, each whole and counted."""

    def check() -> None:
        gateway.stop()
        said = assay("trace", "list", "--json", cwd=gateway.root)
        assert said.status == 0, said.err
        traces = json.loads(said.out)
        assert [(trace["errors"], trace["spans"]) for trace in traces] == [(0, 1)] * 3
        assert [(trace["tokens_in"], trace["tokens_out"]) for trace in traces] == [USAGE] * 3

    return check


@pytest.mark.parametrize(("name", "file", "api"), STREAMED.values(), ids=STREAMED)
def test_the_example_streams(name, file, api, run, upstream, check_stored) -> None:
    example = run(name, file, **env(api))
    said = example.read_until(FIRST_HALF)
    # Only now does the upstream send the second half: what was read before it was streamed.
    upstream.go_on.set()
    rest = example.finish()
    assert sorted(line for line in said.splitlines() if line.startswith(">")) == CALLS
    assert rest.strip() == SECOND_HALF
    assert [(asked_api, body["stream"]) for asked_api, body in upstream.asked] == [(api, True)] * 3
    check_stored()


@pytest.mark.parametrize(("name", "code", "api"), WHOLE.values(), ids=WHOLE)
def test_the_same_agent_in_whole_replies(name, code, api, run, upstream, check_stored) -> None:
    said = run(name, "-c", code, **env(api)).finish()
    assert sorted(line for line in said.splitlines() if line.startswith(">")) == CALLS
    assert said.strip().endswith(FIRST_HALF + SECOND_HALF)
    assert [(asked_api, bool(body.get("stream"))) for asked_api, body in upstream.asked] == [(api, False)] * 3
    check_stored()


@pytest.mark.parametrize("name", ["langgraph", "crewai", "openai_agents"])
def test_litellm_is_not_among_what_it_installs(name, run) -> None:
    code = "from importlib.metadata import distributions\nprint(*(d.name.lower() for d in distributions()))"
    assert "litellm" not in run(name, "-c", code).finish().split()
