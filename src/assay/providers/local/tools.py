"""Tools for a model that was never taught any: what it is told of them, and the grammar of a call. No I/O.

A call is written as below, in the conversation and in the reply (taken apart by assay.providers.local.calls):

    <tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>

A reply holds one call at most: a model of this size that may go on repeats itself. Text from a model that may
also call holds nothing that looks like a call.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.local.schema import Validator, rule, validator
from assay.providers.translation import Drops
from assay.types import JSON, CustomTool, FunctionTool, HostedTool, Request, ToolChoice, ToolSpec

OPENING: Final = "<tool_call>"
CLOSING: Final = "}</tool_call>"

_LIKE_A_CALL: Final = r'(<tool_call|\{\s*"name"\s*:\s*"[^"]*"\s*,\s*"(arguments|parameters)")'
_TEXT: Final = rf"TEXT: /(?s:.+)/ & ~/(?s:.*){_LIKE_A_CALL}(?s:.*)/"
_NAME: Final = re.compile(r"[\w.:/-]{1,128}")
_HOW: Final = (
    f'If a tool helps, answer with {OPENING}{{"name": "...", "arguments": {{...}}{CLOSING} and nothing else. '
    "If none helps, answer in words."
)
_OPEN: Final = frozenset(
    {"$ref", "additionalProperties", "allOf", "anyOf", "minProperties", "oneOf", "patternProperties"}
)


class Callee(NamedTuple):
    """A tool that may be called. `head` is how a call of it begins, up to its arguments."""

    name: str
    head: str
    rule: str
    arguments: Validator


class Calling:
    """What the model is told of the tools, which it may call, and whether it must call one."""

    def __init__(self, told: str, callees: tuple[Callee, ...], *, required: bool) -> None:
        self.told = told
        self.callees = callees
        self.required = required

    def grammar(self, otherwise: str | None) -> str:
        """A call; unless one is required, or else what the rule `otherwise` says, or text."""
        if self.required:
            return _grammar("call", self.callees)
        if otherwise is None:
            return _grammar("call | TEXT", self.callees, _TEXT)
        return _grammar("call | other", self.callees, f"other: {otherwise}")

    def probe(self, callee: Callee | None = None) -> str:
        """A call in any case, of that tool or of any: a reply that begins otherwise was not held."""
        return _grammar("call", self.callees if callee is None else (callee,))


def calling(request: Request, drops: Drops) -> Calling | None:
    """The request's tools; None when the model is not to know of any.

    Raises UnsupportedFeature, naming the tool and what of it cannot be held, and RequestError for tools and
    choices that make no sense.
    """
    choice = request.tool_choice or ToolChoice("auto")
    drops.enter("")
    drops.take({}, choice.extra, "tool_choice")
    if not request.tools:
        if choice.mode in {"required", "named"} or choice.names:
            raise RequestError(f"tool_choice is '{choice.mode}' and there are no tools", param="tool_choice")
        return None
    if choice.mode == "none":
        return None
    if request.parallel_tool_calls:
        drops.add("parallel_tool_calls")
    tools = [_function(tool, f"tools[{number}]", drops) for number, tool in enumerate(request.tools)]
    names = [tool.name for tool in tools]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise RequestError(f"Two tools are called '{name}'; rename one", param=f"tools[{number}].name")
    if unknown := sorted(set(choice.names).difference(names)):
        raise RequestError(
            f"tool_choice names '{unknown[0]}', which is not among the tools", param="tool_choice"
        )
    allowed = choice.names or names
    callees = tuple(_callee(tool, number) for number, tool in enumerate(tools) if tool.name in allowed)
    return Calling(_told(tools), callees, required=choice.mode in {"required", "named"})


def _function(tool: ToolSpec, place: str, drops: Drops) -> FunctionTool:
    match tool:
        case FunctionTool():
            if not _NAME.fullmatch(tool.name):
                raise RequestError(
                    f"The tool name {tool.name!r} must be 1 to 128 letters, digits or any of _ . : / -",
                    param=f"{place}.name",
                )
            drops.enter(place)
            if tool.cache is not None:
                drops.add(".cache")
            drops.take({}, tool.extra, "")
            return tool
        case CustomTool():
            raise UnsupportedFeature(
                f"The local model cannot call '{tool.name}', a tool whose input is free text; make it a "
                "function with one string argument, or choose another model",
                param=place,
            )
        case HostedTool():
            raise UnsupportedFeature(
                f"The local model has no tools of its own, as {tool.dialect} has; leave {place} out or "
                "choose another model",
                param=place,
            )


def _callee(tool: FunctionTool, number: int) -> Callee:
    what, param = f"the parameters of the tool '{tool.name}'", f"tools[{number}].parameters"
    schema = tool.parameters or {"type": "object", "properties": {}}
    if schema.get("type", "object") != "object":
        raise RequestError(f"{what[0].upper()}{what[1:]} must be of type 'object'", param=param)
    check = validator(schema, what, param)
    head = f'{OPENING}{{"name": "{tool.name}", "arguments": '
    return Callee(tool.name, head, rule(_narrowed(schema)), check)


def _narrowed(schema: dict[str, JSON]) -> dict[str, JSON]:
    """An object, and where the schema lists its properties no others: a small model invents them at once."""
    narrowed = {**schema, "type": "object"}
    listed = schema.get("properties")
    if listed is not None and _OPEN.isdisjoint(schema) and set(schema.get("required", ())) <= set(listed):
        narrowed["additionalProperties"] = False
    return narrowed


def _told(tools: list[FunctionTool]) -> str:
    return "\n".join(("You can call these tools:", *map(_description, tools), _HOW))


def _description(tool: FunctionTool) -> str:
    said: dict[str, JSON] = {"name": tool.name}
    if tool.description:
        said["description"] = tool.description
    if tool.parameters:
        said["parameters"] = tool.parameters
    return msgspec.json.encode(said).decode()


def _grammar(start: str, callees: tuple[Callee, ...], *others: str) -> str:
    calls = " | ".join(f"call_{number}" for number in range(len(callees)))
    lines = ["%llguidance {}", f"start: {start}", *others, f"call: {calls}"]
    for number, callee in enumerate(callees):
        head, closing = (msgspec.json.encode(text).decode() for text in (callee.head, CLOSING))
        lines.append(f"call_{number}: {head} arguments_{number} {closing}")
        lines.append(f"arguments_{number}: {callee.rule}")
    return "\n".join(lines)
