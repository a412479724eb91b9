"""The body of a prompt, parsed: a small tree of text, values, blocks and markers. Rendering is elsewhere.

The language is the part of Handlebars that prompts need, plus dotprompt's markers:

    {{name}} {{user.name}} {{items.0}} {{user.[full name]}}   a value; {{{name}}} is the same: no escaping
    {{this}} {{../name}} {{@root.name}}         in #each: the item, the outer item, the input
    {{@index}} {{@key}} {{@first}} {{@last}}    in #each; {{@../index}} is the outer loop's
    {{#if x}} {{else if y}} {{else}} {{/if}}    also #unless, #ifEquals a b, #unlessEquals a b
    {{#each list}} {{else}} {{/each}}           over a list or an object; else when it is empty
    {{json x}}  {{json x indent=2}}
    {{role "system"}}  {{history}}  {{media url=x contentType="image/png"}}
    {{! a comment }}  {{!-- a comment with }} in it --}}  \\{{not a tag}}

White space is Handlebars': `~` inside a tag strips that side; a block tag or comment alone on its line takes
the line with it. One addition: a role marker alone on its line makes its message a block, whose own white
space at both ends is layout and is not sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, assert_never

from assay.prompts.lexer import Chunk, Item, Tag, tokens
from assay.prompts.source import Source, did_you_mean, listed

ROLES: Final[dict[str, Literal["system", "developer", "user", "assistant"]]] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "model": "assistant",
    "assistant": "assistant",
}
HELPERS: Final = ("json", "role", "history", "media")
BLOCKS: Final = ("if", "unless", "each", "ifEquals", "unlessEquals")
LOOP_DATA: Final = ("index", "key", "first", "last")
MAX_DEPTH: Final = 50

# --- the tree ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Path:
    """A way to a value: start `ups` loops further out (or at the input, when `root`), then by `segments`."""

    ups: int
    segments: tuple[str, ...]
    root: bool
    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class LoopData:
    """`@index`, `@key`, `@first` or `@last` of the loop `ups` further out."""

    name: str
    ups: int
    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A string, number, true, false or null written in the template."""

    value: str | int | float | bool | None
    text: str
    offset: int


Expression: TypeAlias = Path | LoopData | Constant


@dataclass(frozen=True, slots=True)
class Words:
    """Text of the template itself."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Insert:
    value: Path | LoopData


@dataclass(frozen=True, slots=True)
class Json:
    value: Expression
    indent: int | None


@dataclass(frozen=True, slots=True)
class Media:
    url: Expression
    content_type: Expression | None
    offset: int


@dataclass(frozen=True, slots=True)
class SetRole:
    """What follows is `role`'s. `block` says that the marker is alone on its line."""

    role: Literal["system", "developer", "user", "assistant"]
    block: bool


@dataclass(frozen=True, slots=True)
class History:
    offset: int


@dataclass(frozen=True, slots=True)
class If:
    """`then` when `left` is truthy (with `right`: equal to it), else `otherwise`; swapped when `negated`."""

    left: Expression
    right: Expression | None
    negated: bool
    then: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Each:
    over: Expression
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


Node: TypeAlias = Words | Insert | Json | Media | SetRole | History | If | Each


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed body.

    `variables` maps each input variable that the template names to the offset of its first use.
    `whole_input` is true when it uses the input as a whole (`{{json this}}`).
    """

    source: Source
    nodes: tuple[Node, ...]
    variables: dict[str, int]
    whole_input: bool


def parse(source: Source, start: int = 0, end: int | None = None) -> Template:
    """Parse `source.text[start:end]`. Raises PromptError with file, line and column.

    >>> list(parse(Source("<text>", "{{#if a}}{{b.c}}{{/if}}")).variables)
    ['a', 'b']
    """
    stop = len(source.text) if end is None else end
    nodes = _Parser(source).parse(tokens(source, start, stop))
    variables: dict[str, int] = {}
    whole_input = False
    for path in _paths(source, nodes, 0):
        if path.segments:
            variables.setdefault(path.segments[0], path.offset)
        else:
            whole_input = True
    return Template(source, nodes, variables, whole_input)


# --- from tokens to the tree ---------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """A block that is being read. `chained` marks one that `{{else if}}` opened inside another."""

    tag: Tag
    name: str
    arguments: list[Expression]
    chained: bool
    then: list[Node]
    otherwise: list[Node] | None = None

    def node(self) -> Node:
        body, otherwise = tuple(self.then), tuple(self.otherwise or ())
        if self.name == "each":
            return Each(self.arguments[0], body, otherwise)
        right = self.arguments[1] if self.name.endswith("Equals") else None
        return If(self.arguments[0], right, self.name.startswith("unless"), body, otherwise)


class _Parser:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._top: list[Node] = []
        self._open: list[_Open] = []

    def parse(self, read: Sequence[Chunk | Tag]) -> tuple[Node, ...]:
        for token in read:
            match token:
                case Chunk():
                    if token.text:
                        self._add(Words(token.text, token.offset))
                case Tag(sigil="#"):
                    self._start(token, token.items, chained=False)
                case Tag(sigil="/"):
                    self._close(token)
                case Tag(items=[Item(kind="word", text="else"), *rest]):
                    self._else(token, rest)
                case Tag(sigil="!"):
                    pass
                case Tag():
                    self._add(self._simple(token))
        if self._open:
            left = self._open[-1].tag
            name = left.items[0].text if left.sigil == "#" else self._outer().name
            raise self._source.error(left.offset, f"{{{{#{name}}}}} is not closed; add {{{{/{name}}}}}")
        return tuple(self._top)

    def _add(self, node: Node) -> None:
        if not self._open:
            self._top.append(node)
            return
        block = self._open[-1]
        (block.then if block.otherwise is None else block.otherwise).append(node)

    def _outer(self) -> _Open:
        """The innermost block that the author opened with `#`."""
        return next(block for block in reversed(self._open) if not block.chained)

    # blocks

    def _start(self, tag: Tag, items: Sequence[Item], *, chained: bool) -> None:
        if not items:
            raise self._source.error(tag.offset, f"a block needs a name: {_blocks_allowed()}")
        head, *rest = items
        name = head.text
        if head.kind != "word" or name not in BLOCKS:
            hint = did_you_mean(name, BLOCKS)
            raise self._source.error(
                head.offset, f"there is no block {name!r}{hint} Allowed: {_blocks_allowed()}"
            )
        if chained and name == "each":
            raise self._source.error(head.offset, "'else each' is not allowed; write {{else}}{{#each ...}}")
        if len(self._open) >= MAX_DEPTH:
            raise self._source.error(tag.offset, f"blocks nest more than {MAX_DEPTH} deep; split the prompt")
        arguments = [self._expression(item) for item in self._no_pairs(rest, f"#{name}")]
        wanted = 2 if name.endswith("Equals") else 1
        if len(arguments) != wanted:
            usage = f"{{{{#{name} {'a b' if wanted == 2 else 'x'}}}}}"
            raise self._source.error(
                head.offset, f"#{name} takes {wanted} value{'s'[: wanted - 1]}, not {len(arguments)}: {usage}"
            )
        self._open.append(_Open(tag, name, arguments, chained, []))

    def _else(self, tag: Tag, rest: Sequence[Item]) -> None:
        if not self._open:
            raise self._source.error(tag.offset, "{{else}} stands outside a block; open one with {{#if x}}")
        block = self._open[-1]
        if block.otherwise is not None:
            raise self._source.error(tag.offset, f"#{block.name} has a second {{{{else}}}}; remove one")
        block.otherwise = []
        if rest:
            if block.name == "each":
                raise self._source.error(rest[0].offset, "the {{else}} of #each takes no condition")
            self._start(tag, rest, chained=True)

    def _close(self, tag: Tag) -> None:
        name = tag.items[0].text if len(tag.items) == 1 else ""
        if not name:
            raise self._source.error(tag.offset, "a closing tag is {{/name}}, with the name of its block")
        if not self._open:
            raise self._source.error(tag.offset, f"{{{{/{name}}}}} closes a block that was not opened")
        opened = self._outer()
        if opened.name != name:
            raise self._source.error(
                tag.offset,
                f"{{{{/{name}}}}} cannot close {{{{#{opened.name}}}}}"
                f" of {self._source.where(opened.tag.offset)}; write {{{{/{opened.name}}}}} first",
            )
        while True:
            block = self._open.pop()
            self._add(block.node())
            if not block.chained:
                return

    # tags that stand alone

    def _simple(self, tag: Tag) -> Node:
        if not tag.items:
            raise self._source.error(tag.offset, "the tag is empty; write {{name}}, or \\{{ for plain braces")
        head, *rest = tag.items
        if head.kind == "word" and not tag.triple:
            match head.text:
                case "json":
                    return self._json(head, rest)
                case "role":
                    return self._role(head, rest, block=tag.alone)
                case "history":
                    self._nothing_after(head, rest)
                    return History(tag.offset)
                case "media":
                    return self._media(head, rest)
        if rest:
            raise self._source.error(head.offset, self._unknown_helper(head))
        value = self._expression(head)
        if isinstance(value, Constant):
            raise self._source.error(head.offset, f"{head.text} is not a variable; write the text itself")
        return Insert(value)

    def _unknown_helper(self, head: Item) -> str:
        if head.kind == "string":
            return "a tag cannot begin with text; write \\{{ for plain braces, as in JSON"
        if head.text in BLOCKS:
            return f"'{head.text}' is a block; write {{{{#{head.text} ...}}}} ... {{{{/{head.text}}}}}"
        hint = did_you_mean(head.text, HELPERS)
        return (
            f"there is no helper {head.text!r}{hint} Allowed: {listed(HELPERS)}, and the blocks "
            f"{_blocks_allowed()}; a variable's name has no spaces"
        )

    def _json(self, head: Item, rest: Sequence[Item]) -> Json:
        values, pairs = self._arguments(rest, "json", ("indent",))
        if len(values) != 1:
            raise self._source.error(head.offset, f"json takes one value: {{{{json x}}}}, not {len(values)}")
        indent = pairs.get("indent")
        if indent is None:
            return Json(values[0], None)
        spaces = indent.value if isinstance(indent, Constant) else None
        if isinstance(spaces, bool) or not isinstance(spaces, int) or not 0 <= spaces <= 8:
            raise self._source.error(
                indent.offset, "indent is a number of spaces, 0 to 8: {{json x indent=2}}"
            )
        return Json(values[0], spaces or None)

    def _role(self, head: Item, rest: Sequence[Item], *, block: bool) -> SetRole:
        if not rest:
            raise self._source.error(
                head.offset,
                'role needs a name: {{role "system"}}; a variable called role is written {{this.role}}',
            )
        values, _ = self._arguments(rest, "role", ())
        if len(values) != 1 or not isinstance(values[0], Constant) or values[0].value not in ROLES:
            raise self._source.error(
                rest[0].offset,
                f"a role is one of {listed(ROLES)}, written in quotes; a variable cannot choose it",
            )
        return SetRole(ROLES[str(values[0].value)], block)

    def _media(self, head: Item, rest: Sequence[Item]) -> Media:
        values, pairs = self._arguments(rest, "media", ("url", "contentType"))
        if values or "url" not in pairs:
            raise self._source.error(
                head.offset, 'media takes named values: {{media url=photo contentType="image/png"}}'
            )
        return Media(pairs["url"], pairs.get("contentType"), head.offset)

    # arguments

    def _nothing_after(self, head: Item, rest: Sequence[Item]) -> None:
        if rest:
            raise self._source.error(rest[0].offset, f"{head.text} takes nothing: {{{{{head.text}}}}}")

    def _no_pairs(self, items: Sequence[Item], name: str) -> Sequence[Item]:
        for item in items:
            if item.kind == "equals":
                raise self._source.error(item.offset, f"{name} takes no named values ('=')")
        return items

    def _arguments(
        self, items: Sequence[Item], helper: str, names: Sequence[str]
    ) -> tuple[list[Expression], dict[str, Expression]]:
        """Split `a b key=value` into values and named values. Raises for a name that is not in `names`."""
        values: list[Expression] = []
        pairs: dict[str, Expression] = {}
        at = 0
        while at < len(items):
            item = items[at]
            if item.kind == "equals":
                raise self._source.error(item.offset, "'=' needs a name before it and a value after it")
            if at + 1 == len(items) or items[at + 1].kind != "equals":
                values.append(self._expression(item))
                at += 1
                continue
            if item.text not in names:
                allowed = f"allowed: {listed(names)}" if names else "it takes none"
                raise self._source.error(item.offset, f"{helper} has no named value {item.text!r}; {allowed}")
            if item.text in pairs:
                raise self._source.error(item.offset, f"{item.text!r} is given twice; remove one")
            if at + 2 == len(items) or items[at + 2].kind == "equals":
                raise self._source.error(item.offset, f"{item.text}= needs a value after it")
            pairs[item.text] = self._expression(items[at + 2])
            at += 3
        return values, pairs

    def _expression(self, item: Item) -> Expression:
        if item.kind == "string":
            quote = item.text[0]
            value = item.text[1:-1].replace("\\" + quote, quote)
            return Constant(value, item.text, item.offset)
        if item.kind == "equals":
            raise self._source.error(item.offset, "'=' needs a name before it and a value after it")
        if item.text in _KEYWORDS:
            return Constant(_KEYWORDS[item.text], item.text, item.offset)
        if _NUMBER.fullmatch(item.text):
            number = float(item.text) if "." in item.text else int(item.text)
            return Constant(number, item.text, item.offset)
        return self._path(item)

    def _path(self, item: Item) -> Path | LoopData:
        rest = item.text
        data = rest.startswith("@")
        rest = rest.removeprefix("@")
        ups = 0
        while rest.startswith("../"):
            ups, rest = ups + 1, rest[3:]
        if data and rest in LOOP_DATA:
            return LoopData(rest, ups, item.text, item.offset)
        root = data and not ups and (rest == "root" or rest.startswith("root."))
        if data and not root:
            raise self._source.error(
                item.offset,
                f"there is no {item.text!r}; allowed: @index, @key, @first and @last inside #each, and @root",
            )
        if rest == "..":
            ups, rest = ups + 1, "this"
        rest = rest.removeprefix("./")
        if not _PATH.fullmatch(rest):
            raise self._source.error(
                item.offset,
                f"{item.text!r} is not a variable; a variable is like name, user.name, items.0, this.name,"
                " ../name or user.[full name]",
            )
        segments = [part.removeprefix("[").removesuffix("]") for part in _SEGMENT.findall(rest)]
        if root or rest in (".", "this") or rest.startswith("this."):
            segments = segments[1:]
        return Path(ups, tuple(segments), root, item.text, item.offset)


_KEYWORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None, "undefined": None}
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_SEGMENT: Final = re.compile(r"\[[^\]]*\]|[\w-]+")
_PATH: Final = re.compile(rf"\.|(?:{_SEGMENT.pattern})(?:\.(?:{_SEGMENT.pattern}))*")


def _blocks_allowed() -> str:
    return ", ".join(f"#{name}" for name in BLOCKS)


# --- which variables the tree uses ---------------------------------------------------------------


def _paths(source: Source, nodes: Sequence[Node], loops: int) -> Iterator[Path]:
    """The paths that start at the input itself. Checks on the way that `..` and `@index` are in a loop."""
    for node in nodes:
        match node:
            case Insert(value) | Json(value):
                yield from _from_input(source, value, loops)
            case Media():
                yield from _from_input(source, node.url, loops)
                yield from _from_input(source, node.content_type, loops)
            case If():
                yield from _from_input(source, node.left, loops)
                yield from _from_input(source, node.right, loops)
                yield from _paths(source, node.then, loops)
                yield from _paths(source, node.otherwise, loops)
            case Each():
                yield from _from_input(source, node.over, loops)
                yield from _paths(source, node.body, loops + 1)
                yield from _paths(source, node.otherwise, loops)
            case Words() | SetRole() | History():
                pass
            case _:
                assert_never(node)


def _from_input(source: Source, value: Expression | None, loops: int) -> Iterator[Path]:
    match value:
        case LoopData():
            if value.ups >= loops:
                raise source.error(value.offset, f"{value.text} is known inside {value.ups + 1} #each only")
        case Path():
            if value.ups > loops:
                problem = f"{value.text!r} leaves {value.ups} #each, but stands inside {loops}"
                raise source.error(value.offset, problem)
            if value.root or value.ups == loops:
                yield value
        case Constant() | None:
            pass
        case _:
            assert_never(value)
