"""The body of a prompt as tokens: stretches of text and tags, with Handlebars' white space rules applied.

What the tags mean is the business of assay.prompts.template.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from assay.prompts.source import Source


@dataclass(slots=True)
class Chunk:
    """Text between tags: `original` as written (escapes resolved), `text` as it is to be shown."""

    original: str
    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Item:
    """One thing inside a tag."""

    kind: Literal["word", "string", "equals"]
    text: str
    offset: int


@dataclass(slots=True)
class Tag:
    """`{{sigil items}}`. The sigil is "#", "/", "!" (a comment, without items) or "" for everything else.

    `alone` says that nothing but white space shares its line.
    """

    sigil: str
    items: tuple[Item, ...]
    offset: int
    triple: bool
    strip_left: bool
    strip_right: bool
    alone: bool = False

    @property
    def takes_its_line(self) -> bool:
        """Whether, alone on a line, it leaves no line behind: block tags, else and comments."""
        return bool(self.sigil) or (bool(self.items) and self.items[0].text == "else")


_SIGIL: Final = re.compile(r"(~?)(!--|[!#/^>&*{]?)")
_SPACE: Final = re.compile(r"\s*")
_COMMENT_END: Final = {
    "!": re.compile(r"(~?)\}\}"),
    "!--": re.compile(r"--(~?)\}\}"),
}
_CLOSE: Final = {
    False: re.compile(r"(~?)\}\}"),
    True: re.compile(r"\}(~?)\}\}"),
}
_ITEM: Final = re.compile(
    r"""(?P<string> "(?:\\"|[^"\\]|\\(?!"))*" | '(?:\\'|[^'\\]|\\(?!'))*' )
      | (?P<equals> = )
      | (?P<word> (?: \[[^\]\n]*\] | [^\s=~|"'()\[\]{}] )+ )""",
    re.VERBOSE,
)
_REFUSED: Final = {
    "^": "inverse blocks ('^') are not supported; write {{#unless x}} or {{else}}",
    ">": "partials ('>') are not supported; put the text into this file, or pass it in as a variable",
    "&": "'&' is not needed, nothing is escaped; write {{name}}",
    "*": "decorators ('*') are not supported",
}


def tokens(source: Source, start: int, end: int) -> list[Chunk | Tag]:
    """Cut `source.text[start:end]` into tokens. Raises PromptError for a tag that is not well formed."""
    read: list[Chunk | Tag] = []
    pending: list[str] = []
    at = chunk_start = start

    def flush() -> None:
        text = "".join(pending)
        if text:
            read.append(Chunk(text, text, chunk_start))
        pending.clear()

    while (brace := source.text.find("{{", at, end)) >= 0:
        before = source.text[at:brace]
        slashes = len(before) - len(before.rstrip("\\"))
        if slashes == 1:  # \{{ is plain text
            pending += (before[:-1], "{{")
            at = brace + 2
            continue
        pending.append(before[:-1] if slashes else before)  # \\{{ is one backslash and a tag
        flush()
        tag, at = _tag(source, brace, end)
        read.append(tag)
        chunk_start = at
    pending.append(source.text[at:end])
    flush()
    _apply_white_space(read)
    return read


def _tag(source: Source, offset: int, end: int) -> tuple[Tag, int]:
    """The tag that begins at `offset`, and the offset after it."""
    opening = _SIGIL.match(source.text, offset + 2, end)
    assert opening is not None  # it matches the empty string
    tilde, sigil = opening[1], opening[2]
    at = opening.end()
    if sigil in _COMMENT_END:
        closing = _COMMENT_END[sigil].search(source.text, at, end)
        if closing is None:
            raise source.error(offset, f"the comment is not closed; end it with '{sigil[1:]}}}}}'")
        return Tag("!", (), offset, False, bool(tilde), bool(closing[1])), closing.end()
    if sigil in _REFUSED:
        raise source.error(offset, _REFUSED[sigil])
    if sigil == "{" and source.text.startswith("{", at):
        raise source.error(offset, "raw blocks ('{{{{') are not supported; write \\{{ for plain braces")
    triple = sigil == "{"
    items: list[Item] = []
    while True:
        at = _skip_space(source, at, end)
        closing = _CLOSE[triple].match(source.text, at, end)
        if closing is not None:
            tag = Tag("" if triple else sigil, tuple(items), offset, triple, bool(tilde), bool(closing[1]))
            return tag, closing.end()
        found = _ITEM.match(source.text, at, end)
        if found is None or found.lastgroup is None:
            raise source.error(*_malformed(source, offset, at, end, triple))
        items.append(Item(_kind(found.lastgroup), found[0], at))
        at = found.end()


def _kind(group: str) -> Literal["word", "string", "equals"]:
    return "string" if group == "string" else "equals" if group == "equals" else "word"


def _skip_space(source: Source, at: int, end: int) -> int:
    found = _SPACE.match(source.text, at, end)
    return found.end() if found else at


def _malformed(source: Source, offset: int, at: int, end: int, triple: bool) -> tuple[int, str]:
    """Where and why a tag cannot be read on."""
    if at == end:
        close = "}}}" if triple else "}}"
        return offset, f"the tag is not closed; add '{close}', or write \\{{{{ for plain braces"
    match source.text[at]:
        case "(" | ")":
            return at, "'(' is not allowed in a tag: expressions and calls are not supported"
        case "|":
            return at, "'|' is not allowed in a tag: use {{this}} and {{@index}} in place of 'as |item|'"
        case '"' | "'":
            return at, "the text is not closed; add the same quote at its end"
        case "[":
            return at, "'[' is not closed; add ']'"
        case found:
            close = "}}}" if triple else "}}"
            return (
                at,
                f"{found!r} is not allowed in a tag; close it with '{close}', or write \\{{{{ for braces",
            )


# --- white space ---------------------------------------------------------------------------------

_REST_OF_LINE: Final = re.compile(r"[ \t]*\n?")


def _apply_white_space(read: Sequence[Chunk | Tag]) -> None:
    """Strip what `~` and lone tags take away; whether a tag is alone is read from the original text."""
    for at, tag in enumerate(read):
        if isinstance(tag, Chunk):
            continue
        before, after = _chunk(read, at - 1), _chunk(read, at + 1)
        tag.alone = _begins_line(before, at) and _ends_line(after, len(read) - 1 - at)
        takes_line = tag.alone and tag.takes_its_line
        if before is not None:
            if tag.strip_left:
                before.text = before.text.rstrip()
            elif takes_line:
                before.text = before.text.rstrip(" \t")
        if after is not None:
            if tag.strip_right:
                after.text = after.text.lstrip()
            elif takes_line:
                after.text = _REST_OF_LINE.sub("", after.text, count=1)


def _begins_line(before: Chunk | None, tokens_before: int) -> bool:
    if before is None:
        return tokens_before == 0
    _, newline, tail = before.original.rpartition("\n")
    return not tail.strip(" \t") and (bool(newline) or tokens_before == 1)


def _ends_line(after: Chunk | None, tokens_after: int) -> bool:
    if after is None:
        return tokens_after == 0
    head, newline, _ = after.original.partition("\n")
    return not head.strip(" \t") and (bool(newline) or tokens_after == 1)


def _chunk(read: Sequence[Chunk | Tag], at: int) -> Chunk | None:
    found = read[at] if 0 <= at < len(read) else None
    return found if isinstance(found, Chunk) else None
