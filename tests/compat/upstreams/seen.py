"""What a request that arrived upstream asks for, in the same words for every dialect."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seen:
    """`calls` and `results` in the order of the conversation; `sealed`: signatures, encrypted reasoning."""

    system: list[str] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)
    images: list[tuple[str, bytes]] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    choice: Any = None
    calls: list[tuple[str | None, str, dict[str, Any]]] = field(default_factory=list)
    results: list[tuple[str | None, str]] = field(default_factory=list)
    sealed: list[str] = field(default_factory=list)
    schema: dict[str, Any] | None = None
    max_tokens: int | None = None
    thinking: Any = None


def chat(body: dict[str, Any]) -> Seen:
    seen = Seen(max_tokens=body.get("max_completion_tokens", body.get("max_tokens")))
    seen.tools = [tool["function"]["name"] for tool in body.get("tools", ())]
    choice = body.get("tool_choice")
    seen.choice = choice["function"]["name"] if isinstance(choice, dict) else choice
    seen.schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    seen.thinking = body.get("reasoning_effort")
    for message in body["messages"]:
        role, content = message["role"], message.get("content")
        texts = [content] if isinstance(content, str) else []
        for part in content if isinstance(content, list) else ():
            if part["type"] == "text":
                texts.append(part["text"])
            elif part["type"] == "image_url":
                seen.images.append(_data_url(part["image_url"]["url"]))
        text = "".join(texts)
        if role == "tool":
            seen.results.append((message["tool_call_id"], text))
        elif role in {"system", "developer"}:
            seen.system.append(text)
        elif text:
            seen.said.append((role, text))
        for call in message.get("tool_calls") or ():
            function = call["function"]
            seen.calls.append((call["id"], function["name"], json.loads(function["arguments"])))
        if message.get("reasoning_content"):
            seen.sealed.append(message["reasoning_content"])
    return seen


def responses(body: dict[str, Any]) -> Seen:
    seen = Seen(max_tokens=body.get("max_output_tokens"), thinking=body.get("reasoning"))
    if body.get("instructions"):
        seen.system.append(body["instructions"])
    seen.tools = [tool["name"] for tool in body.get("tools", ())]
    choice = body.get("tool_choice")
    seen.choice = choice["name"] if isinstance(choice, dict) else choice
    seen.schema = ((body.get("text") or {}).get("format") or {}).get("schema")
    items = body["input"]
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        match item.get("type", "message"):
            case "message":
                _responses_message(item, seen)
            case "function_call":
                seen.calls.append((item["call_id"], item["name"], json.loads(item["arguments"])))
            case "function_call_output":
                output = item["output"]
                text = output if isinstance(output, str) else "".join(part.get("text", "") for part in output)
                seen.results.append((item["call_id"], text))
            case "reasoning":
                seen.sealed.append(item.get("encrypted_content") or "")
    return seen


def _responses_message(item: dict[str, Any], seen: Seen) -> None:
    content = item["content"]
    text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    for part in content if isinstance(content, list) else ():
        if part["type"] == "input_image":
            seen.images.append(_data_url(part["image_url"]))
    if item["role"] in {"system", "developer"}:
        seen.system.append(text)
    elif text:
        seen.said.append((item["role"], text))


def anthropic(body: dict[str, Any]) -> Seen:
    seen = Seen(max_tokens=body.get("max_tokens"), thinking=body.get("thinking"))
    system = body.get("system") or []
    seen.system = [system] if isinstance(system, str) else [block["text"] for block in system]
    seen.tools = [tool["name"] for tool in body.get("tools", ())]
    choice = body.get("tool_choice") or {}
    seen.choice = choice.get("name") or choice.get("type")
    seen.schema = ((body.get("output_config") or {}).get("format") or {}).get("schema")
    for message in body["messages"]:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            match block["type"]:
                case "text" if message["role"] == "system":
                    seen.system.append(block["text"])
                case "text":
                    seen.said.append((message["role"], block["text"]))
                case "image":
                    source = block["source"]
                    seen.images.append((source["media_type"], base64.b64decode(source["data"])))
                case "tool_use":
                    seen.calls.append((block["id"], block["name"], block["input"]))
                case "tool_result":
                    seen.results.append((block["tool_use_id"], _anthropic_text(block.get("content") or "")))
                case "thinking":
                    seen.sealed.append(block["signature"])
                case "redacted_thinking":
                    seen.sealed.append(block["data"])
    return seen


def _anthropic_text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


def gemini(body: dict[str, Any]) -> Seen:
    config = body.get("generationConfig") or {}
    seen = Seen(max_tokens=config.get("maxOutputTokens"), thinking=config.get("thinkingConfig"))
    seen.schema = config.get("responseJsonSchema") or config.get("responseSchema")
    for part in (body.get("systemInstruction") or {}).get("parts", ()):
        seen.system.append(part["text"])
    seen.tools = [
        declared["name"]
        for tool in body.get("tools", ())
        for declared in tool.get("functionDeclarations", ())
    ]
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    allowed = calling.get("allowedFunctionNames") or [None]
    seen.choice = allowed[0] or calling.get("mode")
    for role, part in _gemini_parts(body):
        if part.get("thoughtSignature"):
            seen.sealed.append(part["thoughtSignature"])
        if "functionCall" in part:
            call = part["functionCall"]
            seen.calls.append((call.get("id"), call["name"], call.get("args") or {}))
        elif "functionResponse" in part:
            reply = part["functionResponse"]
            seen.results.append((reply.get("id"), json.dumps(reply["response"], ensure_ascii=False)))
        elif "inlineData" in part:
            blob = part["inlineData"]
            # The SDK itself writes `mime_type` and the URL-safe alphabet, which the API takes too.
            kind = blob.get("mimeType") or blob["mime_type"]
            seen.images.append((kind, base64.b64decode(blob["data"].translate(_STANDARD))))
        elif part.get("text") and not part.get("thought"):
            seen.said.append((role, part["text"]))
    return seen


_STANDARD = str.maketrans("-_", "+/")


def _gemini_parts(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for content in body["contents"]:
        for part in content["parts"]:
            yield content.get("role", "user"), part


def _data_url(url: str) -> tuple[str, bytes]:
    head, _, data = url.partition(",")
    return head.removeprefix("data:").removesuffix(";base64"), base64.b64decode(data)
