"""A parsed template and checked variables to messages. The language is assay.prompts.template's.

Nothing that is rendered is ever parsed: what ends a message is a node of the tree, so no text in a variable
can begin one. The text of a value is inserted as it is, with no escaping.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from assay.errors import PromptError
from assay.prompts.inputs import Inputs, Shape, field_shape, item_shape, may_lack
from assay.prompts.media import media_part
from assay.prompts.source import Source, did_you_mean
from assay.prompts.template import (
    Constant,
    Each,
    Expression,
    History,
    If,
    Insert,
    Json,
    LoopData,
    Media,
    Node,
    Path,
    SetRole,
    Template,
    Words,
)
from assay.types import JSON, Message, Part, Role, Text


def render(
    template: Template, inputs: Inputs, variables: Mapping[str, JSON], history: Sequence[Message] = ()
) -> tuple[Message, ...]:
    """The messages of one call.

    Text before the first role marker is the user's. `history` goes where `{{history}}` stands; without it,
    before the last message when that is the user's, else at the end. White space of the template between
    two markers makes no message.

    Raises PromptError for a variable that is missing, unknown or does not fit the schema, and for a value
    that cannot stand where the template uses it.
    """
    bound = inputs.bind(variables)
    conversation = _Conversation(template.source, tuple(history))
    _Renderer(template.source, inputs, conversation).nodes(template.nodes, (_Frame(bound, inputs.shape),))
    return conversation.finished()


# --- messages ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A stretch of text: the template's own, or a variable's."""

    text: str
    is_value: bool

    @property
    def is_layout(self) -> bool:
        return not self.is_value and not self.text.strip()


@dataclass(slots=True)
class _Conversation:
    """The messages so far, and the one that is being written. After `{{history}}` nobody speaks yet."""

    source: Source
    history: tuple[Message, ...]
    messages: list[Message] = field(default_factory=list)
    history_placed: bool = False
    role: Role | None = "user"
    is_block: bool = False
    parts: list[Part] = field(default_factory=list)
    text: list[_Stretch] = field(default_factory=list)

    def add_words(self, text: str, offset: int) -> None:
        """Text of the template."""
        if self.is_block and not self.parts and not self.text:
            text = text.lstrip()
        stretch = _Stretch(text, is_value=False)
        if not stretch.is_layout:
            self._need_role(offset)
        if text:
            self.text.append(stretch)

    def add_value(self, text: str, offset: int) -> None:
        """Text of a variable, which is never trimmed."""
        if text:
            self._need_role(offset)
            self.text.append(_Stretch(text, is_value=True))

    def add_part(self, part: Part, offset: int) -> None:
        self._need_role(offset)
        self._end_text()
        self.parts.append(part)

    def speak(self, role: Role | None, *, is_block: bool = False) -> None:
        """End the message that is being written; the next one is `role`'s."""
        if self.is_block:
            self._trim_end()
        self._end_text()
        if self.role and self.parts:
            self.messages.append(Message(self.role, tuple(self.parts)))
        self.parts.clear()
        self.role, self.is_block = role, is_block

    def place_history(self, offset: int) -> None:
        if self.history_placed:
            raise self.source.error(offset, "{{history}} is reached twice; keep one")
        self.speak(None)
        self.messages += self.history
        self.history_placed = True

    def finished(self) -> tuple[Message, ...]:
        self.speak(None)
        if not self.history_placed:
            last_is_user = bool(self.messages) and self.messages[-1].role == "user"
            at = len(self.messages) - last_is_user
            self.messages[at:at] = self.history
        return tuple(self.messages)

    def _trim_end(self) -> None:
        while self.text and self.text[-1].is_layout:
            self.text.pop()
        if self.text and not self.text[-1].is_value:
            self.text[-1] = _Stretch(self.text[-1].text.rstrip(), is_value=False)

    def _end_text(self) -> None:
        """Make what was written a part, unless it is the white space between two tags."""
        if not all(stretch.is_layout for stretch in self.text):
            self.parts.append(Text("".join(stretch.text for stretch in self.text)))
        self.text.clear()

    def _need_role(self, offset: int) -> None:
        if self.role is None:
            raise self.source.error(
                offset, 'what follows {{history}} has no role; write {{role "user"}} before it'
            )


# --- the tree ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Absent:
    """The value of an optional variable or field that was not given."""


_ABSENT: Final = _Absent()
_INDEX: Final = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class _Frame:
    """What `this` is, what the schema says about it, and the `@` data of the loop that made it."""

    this: JSON
    shape: Shape
    data: Mapping[str, JSON] = field(default_factory=dict)


_Scope = tuple[_Frame, ...]


@dataclass(frozen=True, slots=True)
class _Renderer:
    source: Source
    inputs: Inputs
    to: _Conversation

    def nodes(self, nodes: Sequence[Node], scope: _Scope) -> None:
        for node in nodes:
            match node:
                case Words():
                    self.to.add_words(node.text, node.offset)
                case Insert():
                    self.to.add_value(self._shown(node.value, scope), node.value.offset)
                case Json():
                    self.to.add_value(self._json(node, scope), node.value.offset)
                case Media():
                    self.to.add_part(self._media(node, scope), node.offset)
                case SetRole():
                    self.to.speak(node.role, is_block=node.block)
                case History():
                    self.to.place_history(node.offset)
                case If():
                    self.nodes(node.then if self._holds(node, scope) else node.otherwise, scope)
                case Each():
                    self._each(node, scope)
                case _:
                    assert_never(node)

    def _holds(self, node: If, scope: _Scope) -> bool:
        left, _ = self._evaluate(node.left, scope)
        if node.right is None:
            return _truthy(left) is not node.negated
        right, _ = self._evaluate(node.right, scope)
        return _equal(left, right) is not node.negated

    def _each(self, node: Each, scope: _Scope) -> None:
        value, shape = self._evaluate(node.over, scope)
        root = self.inputs.schema
        match value:
            case list():
                of_item = item_shape(shape, root)
                rows = [(index, item, of_item) for index, item in enumerate(value)]
            case dict():
                rows = [(key, item, field_shape(shape, key, root)) for key, item in value.items()]
            case None | _Absent():
                rows = []
            case _:
                raise self._misfit(node.over, value, "#each needs a list or an object")
        if not rows:
            self.nodes(node.otherwise, scope)
        for index, (key, item, of_item) in enumerate(rows):
            data = {"index": index, "key": key, "first": index == 0, "last": index == len(rows) - 1}
            self.nodes(node.body, (*scope, _Frame(item, of_item, data)))

    def _shown(self, value: Path | LoopData, scope: _Scope) -> str:
        found, _ = self._evaluate(value, scope)
        match found:
            case None | _Absent():
                return ""
            case str():
                return found
            case bool() | int() | float():
                return json.dumps(found)
            case _:
                ways = f"{{{{json {value.text}}}}}, {{{{#each {value.text}}}}} or a field of it"
                raise self._misfit(value, found, f"write {ways}")

    def _json(self, node: Json, scope: _Scope) -> str:
        found, _ = self._evaluate(node.value, scope)
        value = None if isinstance(found, _Absent) else found
        separators = (",", ": ") if node.indent else (",", ":")
        return json.dumps(value, ensure_ascii=False, indent=node.indent, separators=separators)

    def _media(self, node: Media, scope: _Scope) -> Part:
        url = self._text(node.url, "url", scope)
        content_type = self._text(node.content_type, "contentType", scope) if node.content_type else None
        try:
            return media_part(url, content_type)
        except ValueError as exc:
            raise self.source.error(node.url.offset, f"the url {node.url.text} of media: {exc}") from exc

    def _text(self, value: Expression, name: str, scope: _Scope) -> str:
        found, _ = self._evaluate(value, scope)
        if isinstance(found, str) and found:
            return found
        hint = f"media's {name} needs text; if it may be missing, put the tag into {{{{#if {value.text}}}}}"
        raise self._misfit(value, found, hint)

    def _misfit(self, value: Expression, found: JSON | _Absent, ways: str) -> PromptError:
        return self.source.error(value.offset, f"{value.text!r} is {_kind(found)}; {ways}")

    # values

    def _evaluate(self, value: Expression, scope: _Scope) -> tuple[JSON | _Absent, Shape]:
        match value:
            case Constant():
                return value.value, ()
            case LoopData():
                return scope[-1 - value.ups].data[value.name], ()
            case Path():
                return self._look_up(value, scope)
            case _:
                assert_never(value)

    def _look_up(self, path: Path, scope: _Scope) -> tuple[JSON | _Absent, Shape]:
        frame = scope[0] if path.root else scope[-1 - path.ups]
        value, shape = frame.this, frame.shape
        root = self.inputs.schema
        for at, name in enumerate(path.segments):
            match value:
                case None:
                    return _ABSENT, ()
                case dict() if name in value:
                    value, shape = value[name], field_shape(shape, name, root)
                case dict():
                    is_input = (
                        at == 0 and frame is scope[0]
                    )  # an absent one is optional: the inputs saw to it
                    if is_input or may_lack(shape, name):
                        return _ABSENT, ()
                    raise self._lacks(path, at, value, scope)
                case list() if _is_index(name, value):
                    value, shape = value[int(name)], item_shape(shape, root)
                case list():
                    problem = f"is a list of {len(value)} (counted from 0), it has no {name!r}"
                    raise self.source.error(path.offset, f"{path.text!r}: {_owner(path, at)} {problem}")
                case _:
                    problem = f"{path.text!r}: {_owner(path, at)} is {_kind(value)}, it has no {name!r}"
                    raise self.source.error(path.offset, problem)
        return value, shape

    def _lacks(self, path: Path, at: int, value: Mapping[str, JSON], scope: _Scope) -> PromptError:
        name = path.segments[at]
        outer = scope[0].this
        if at == 0 and name in outer:
            hint = f"; the input has it: write {{{{@root.{name}}}}}"
        else:
            hint = f"{did_you_mean(name, value)} If it may be missing, declare '{name}?' in input.schema"
        return self.source.error(path.offset, f"{path.text!r}: {_owner(path, at)} has no {name!r}{hint}")


def _is_index(name: str, items: Sequence[JSON]) -> bool:
    return bool(_INDEX.fullmatch(name)) and int(name) < len(items)


def _owner(path: Path, at: int) -> str:
    return repr(".".join(path.segments[:at])) if at else "the current item"


def _truthy(value: JSON | _Absent) -> bool:
    """Handlebars' truth: false, null, 0, "" and the empty list are false; an empty object is true."""
    return isinstance(value, dict) or bool(value is not _ABSENT and value)


def _equal(left: JSON | _Absent, right: JSON | _Absent) -> bool:
    """Equal in value and in kind: 1 is neither "1" nor true; what is absent equals null."""
    left, right = (None if side is _ABSENT else side for side in (left, right))
    return isinstance(left, bool) is isinstance(right, bool) and bool(left == right)


def _kind(value: JSON | _Absent) -> str:
    match value:
        case None | _Absent():
            return "empty"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text" if value else "empty text"
        case list():
            return "a list"
        case _:
            return "an object"
