"""Replies made by looking at the request, whole ones, in the shape of the golden fixtures beside this folder.

Tools and no result of them yet: a call of the first, with arguments of its schema. A schema: JSON of it. Else
a text, with what was heard in it. Thoughts go before either where the request asks for them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .seen import Seen

_FIXTURES = Path(__file__).parent.parent / "fixtures"
THOUGHT = "15 times 37 is 15 times 40 less 15 times 3."
_SEALED = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds4pT0Hk9x+Rz/Vw=="


@dataclass(frozen=True)
class _Said:
    """What a model would say: a text, or a call of the tool `name`; with its thoughts, if it shows them."""

    text: str
    name: str
    arguments: dict[str, Any]
    shows: bool


def refusal(dialect: str, problems: list[str]) -> bytes | None:
    """What the real API would say to a request with these, if it would refuse it: it is less strict than the
    types below the top, and of the servers like OpenAI's most take what they do not know.
    """
    pattern = _MISSING if dialect == "compatible" else _AT_THE_TOP
    wrong = [problem for problem in problems if pattern.fullmatch(problem)]
    if not wrong:
        return None
    fixture = json.loads((_FIXTURES / dialect / "error-invalid.json").read_bytes())
    fixture.get("error", fixture)["message"] = wrong[0]
    return json.dumps(fixture).encode()


_MISSING = re.compile(r"body\.\w+: missing")
_AT_THE_TOP = re.compile(r"body\.\w+: (missing|unknown field)|\w+: Field required")


def reply(dialect: str, body: dict[str, Any], seen: Seen) -> bytes:
    """The body of a whole reply."""
    thinks, shows = _thinks(seen.thinking)
    tool, parameters = _first_tool(dialect, body) if seen.tools and not seen.results else ("", None)
    if tool:
        said = _Said("", tool, conforming(parameters or {"type": "object"}), shows)
    elif seen.schema:
        said = _Said(json.dumps(conforming(seen.schema)), "", {}, shows)
    else:
        said = _Said(heard(seen), "", {}, shows)
    fixture = json.loads((_FIXTURES / dialect / ("reasoning.json" if thinks else "text.json")).read_bytes())
    write = {"openai-responses": _responses, "anthropic": _anthropic, "gemini": _gemini}.get(dialect, _chat)
    write(fixture, said, body)
    return json.dumps(published(dialect, fixture)).encode()


def stream(dialect: str, data: bytes) -> bytes:
    """A golden stream, with what the published descriptions want in it."""
    if dialect != "openai-responses":
        return data
    lines = []
    for line in data.decode().splitlines(keepends=True):
        event = json.loads(line.removeprefix("data: ")) if line.startswith("data: {") else {}
        if "response" in event:
            event["response"] = published(dialect, event["response"])
            line = f"data: {json.dumps(event)}\n"
        lines.append(line)
    return "".join(lines).encode()


def published(dialect: str, reply: dict[str, Any]) -> dict[str, Any]:
    """The reply as the API's published description has it. What is really sent often falls short of that:
    fields that must be there are left out, and others are null that must not be.
    """
    match dialect:
        case "openai-responses":
            return {**reply, "presence_penalty": 0.0, "frequency_penalty": 0.0}
        case "anthropic":
            usage = {"server_tool_use": None, "output_tokens_details": None, **reply["usage"]}
            return {**reply, "stop_details": None, "container": None, "usage": usage}
        case "openai" | "compatible":
            choice = reply["choices"][0]
            message = {**_known(choice["message"]), "content": choice["message"]["content"], "refusal": None}
            choices = [{**_known(choice), "logprobs": None, "message": {"annotations": [], **message}}]
            return {**_known(reply), "choices": choices, "usage": _known(reply["usage"])}
    return reply


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def heard(seen: Seen) -> str:
    """One line, which differs when the system message, a turn or an image gets lost on the way."""
    lines = [*(f"system: {text}" for text in seen.system), *(f"{role}: {text}" for role, text in seen.said)]
    return " | ".join([*lines, *(f"{kind} of {len(data)} bytes" for kind, data in seen.images)])


def conforming(schema: dict[str, Any]) -> Any:
    """A value of a plain JSON schema, in JSON Schema's own words or in Gemini's capitals."""
    if "enum" in schema:
        return schema["enum"][0]
    match str(schema.get("type", "object")).lower():
        case "object":
            return {name: conforming(one) for name, one in schema.get("properties", {}).items()}
        case "array":
            return [conforming(schema["items"])]
        case "string":
            return "San Francisco"
        case "integer" | "number":
            return 4
        case "boolean":
            return True
    raise ValueError(schema)


def _thinks(asked: Any) -> tuple[bool, bool]:
    """Whether it thinks before it answers, and whether it says what it thought."""
    match asked:
        case None | "none" | {"type": "disabled"} | {"thinkingBudget": 0} | {"effort": "none" | None}:
            return False, False
        case {"thinkingLevel": _} | {"thinkingBudget": _}:
            return True, bool(asked.get("includeThoughts"))
        case _:
            return True, True


def _first_tool(dialect: str, body: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    tool = body["tools"][0]
    if dialect == "gemini":
        tool = tool["functionDeclarations"][0]
        return tool["name"], tool.get("parametersJsonSchema") or tool.get("parameters")
    tool = tool.get("function", tool)
    return tool["name"], tool.get("parameters") or tool.get("input_schema")


# --- each dialect's own shape --------------------------------------------------------------------


def _chat(fixture: dict[str, Any], said: _Said, body: dict[str, Any]) -> None:
    choice = fixture["choices"][0]
    message = choice["message"]
    message["content"] = said.text or None
    message.pop("tool_calls", None)
    choice["finish_reason"] = "stop"
    if "reasoning_content" in message:
        message["reasoning_content"] = THOUGHT if said.shows else None
    if said.name:
        function = {"name": said.name, "arguments": json.dumps(said.arguments)}
        message["tool_calls"] = [
            {"id": "call_qA3dE5fG7hI9jK1lM3nO5pQ7", "type": "function", "function": function}
        ]
        choice["finish_reason"] = "tool_calls"


def _responses(fixture: dict[str, Any], said: _Said, body: dict[str, Any]) -> None:
    asked = body.get("reasoning") or {}
    fixture["reasoning"] = {"effort": asked.get("effort", "none"), "summary": asked.get("summary")}
    fixture["tools"] = [{"description": None, "strict": True, **tool} for tool in body.get("tools", ())]
    fixture["tool_choice"] = body.get("tool_choice", "auto")
    fixture["output"] = []
    if said.shows:
        summary = [{"type": "summary_text", "text": THOUGHT}] if asked.get("summary") else []
        thought = {"id": "rs_0looking68f1c2a0f5e8819", "type": "reasoning", "summary": summary}
        if "reasoning.encrypted_content" in (body.get("include") or ()):
            thought["encrypted_content"] = "gAAAAABpJA9cH3zVq0wQm1T5Yk8sLdXrB2uJfN7eGpKo=="
        fixture["output"].append(thought)
    item: dict[str, Any]
    if said.name:
        item = {"id": "fc_0looking68f1c2a1", "type": "function_call", "call_id": "call_qA3dE5fG7hI9jK1l"}
        item |= {"name": said.name, "arguments": json.dumps(said.arguments)}
    else:
        text = {"type": "output_text", "annotations": [], "logprobs": [], "text": said.text}
        item = {"id": "msg_0looking68f1c2a1", "type": "message", "role": "assistant", "content": [text]}
    fixture["output"].append(item | {"status": "completed"})


def _anthropic(fixture: dict[str, Any], said: _Said, body: dict[str, Any]) -> None:
    content: list[dict[str, Any]] = []
    if said.shows:
        content.append({"type": "thinking", "thinking": THOUGHT, "signature": _SEALED})
    if said.name:
        call = {"type": "tool_use", "id": "toolu_01R1q90qw90lq917835lq9aa", "name": said.name}
        content.append(call | {"input": said.arguments, "caller": {"type": "direct"}})
    else:
        content.append({"type": "text", "text": said.text, "citations": None})
    fixture["content"] = content
    fixture["stop_reason"] = "tool_use" if said.name else "end_turn"


def _gemini(fixture: dict[str, Any], said: _Said, body: dict[str, Any]) -> None:
    parts: list[dict[str, Any]] = [{"text": THOUGHT, "thought": True}] if said.shows else []
    if said.name:
        parts.append({"functionCall": {"id": "7f3k2m1q", "name": said.name, "args": said.arguments}})
    else:
        parts.append({"text": said.text})
    fixture["candidates"][0]["content"]["parts"] = parts
