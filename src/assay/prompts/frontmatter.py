"""The front matter of a prompt as plain values with their places in the file. What keys mean is dotprompt's.

YAML is read by its 1.2 core schema, as the other dotprompt readers do, so that `[YES, NO]`, `12:30` and
`2026-04-09` stay text and `1e-3` is a number. Anchors, aliases and tags are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from assay.errors import PromptError
from assay.prompts.source import Location, Source
from assay.types import JSON

_FENCE: Final = re.compile(r"^---[ \t]*$", re.MULTILINE)
_BEFORE: Final = re.compile(r"(?:(?:#[^\n]*|[ \t]*)\n)*")
_STRING: Final = "tag:yaml.org,2002:str"


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """The values, where each begins in the file, and the bounds of the body that follows."""

    source: Source
    values: dict[str, JSON]
    offsets: dict[Location, int]
    body: tuple[int, int]

    def error(self, location: Location, problem: str) -> PromptError:
        """The error for what is wrong at `location`, or at the nearest key above it that is in the file."""
        while location and location not in self.offsets:
            location = location[:-1]
        return self.source.error(self.offsets.get(location, 0), problem)


def read(source: Source) -> FrontMatter:
    """Split a prompt file. Raises PromptError for YAML that does not parse.

    Without front matter, the whole text is the body. With it, white space around the body is dropped.
    Blank lines and lines that begin with `#` may stand before the opening `---`.
    """
    before = _BEFORE.match(source.text)
    opening = _FENCE.match(source.text, before.end() if before else 0)
    if opening is None:
        return FrontMatter(source, {}, {}, (0, len(source.text)))
    closing = _FENCE.search(source.text, opening.end())
    if closing is None:
        raise source.error(opening.start(), "the front matter is not closed; add a line '---' after it")
    values, offsets = _values(source, opening.end(), closing.start())
    body = source.text[closing.end() :]
    start = closing.end() + len(body) - len(body.lstrip())
    return FrontMatter(source, values, offsets, (start, start + len(body.strip())))


class _CoreLoader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2's core schema, and without graphs and tags."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's own attribute)

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        for feature in ("anchor", "tag"):
            if getattr(event, feature, None) is not None:
                what = "anchors and aliases ('&', '*')" if feature == "anchor" else "tags ('!')"
                raise yaml.composer.ComposerError(
                    None, None, f"{what} are not supported; quote the text if it begins so", event.start_mark
                )
        return super().compose_node(parent, index)


_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", rf"(?:{_INT.pattern})\Z", list("-+0123456789")),
    ("float", rf"(?:{_FLOAT.pattern})\Z", list("-+.0123456789")),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def _values(source: Source, start: int, end: int) -> tuple[dict[str, JSON], dict[Location, int]]:
    text = source.text[start:end]
    offsets: dict[Location, int] = {}
    try:
        root = yaml.compose(text, Loader=_CoreLoader)
        if root is None:
            return {}, {}
        if not isinstance(root, MappingNode):
            raise source.error(
                start + root.start_mark.index,
                "the front matter must be 'key: value' lines, as in 'model: local'",
            )
        return _Reader(source, start, offsets).mapping(root, ()), offsets
    except yaml.reader.ReaderError as exc:
        raise source.error(start + exc.position, f"YAML does not allow U+{exc.character:04X} here") from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        context = f"{exc.context}: " if exc.context else ""
        at = start + (mark.index if mark else 0)
        raise source.error(at, f"the front matter is not valid YAML: {context}{exc.problem}") from exc
    except RecursionError as exc:
        raise source.error(start, "the front matter nests too deep; flatten it") from exc


@dataclass(frozen=True, slots=True)
class _Reader:
    """YAML nodes to plain values, noting where each stands."""

    source: Source
    start: int
    offsets: dict[Location, int]

    def value(self, node: Node, at: Location) -> JSON:
        match node:
            case MappingNode():
                return self.mapping(node, at)
            case SequenceNode():
                return self.sequence(node.value, at)
            case ScalarNode():
                return self.scalar(node)
            case _:
                raise self.error(node, "this YAML is not supported; write a mapping, a list or a scalar")

    def mapping(self, node: MappingNode, at: Location) -> dict[str, JSON]:
        values: dict[str, JSON] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or key.tag != _STRING:
                raise self.error(key, "a key must be text; put it in quotes")
            name = self.text(key)
            if name in values:
                raise self.error(key, f"the key {name!r} is given twice; remove one")
            here = (*at, name)
            self.offsets[here] = self.start + key.start_mark.index
            values[name] = self.value(value, here)
        return values

    def sequence(self, nodes: Sequence[Node], at: Location) -> list[JSON]:
        for index, node in enumerate(nodes):
            self.offsets[(*at, index)] = self.start + node.start_mark.index
        return [self.value(node, (*at, index)) for index, node in enumerate(nodes)]

    def scalar(self, node: ScalarNode) -> JSON:
        text: str = node.value
        match node.tag.rpartition(":")[2]:
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return self.integer(node, text)
            case "float":
                number = float(text)
                if math.isinf(number):
                    raise self.error(node, f"{text} is too large for a number; put it in quotes")
                return number
            case _:
                return self.text(node)

    def text(self, node: ScalarNode) -> str:
        """The text of a scalar. As in JSON, the escapes of a surrogate pair are one character."""
        try:
            return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as exc:
            raise self.error(
                node, "the escape for half a character (a lone surrogate) is not allowed"
            ) from exc

    def integer(self, node: ScalarNode, text: str) -> int:
        if len(text) > 40:
            raise self.error(node, "the number has more than 40 digits; put it in quotes")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)

    def error(self, node: Node, problem: str) -> PromptError:
        return self.source.error(self.start + node.start_mark.index, problem)
