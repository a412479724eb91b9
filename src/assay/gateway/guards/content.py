"""Where the texts of a call are: whole requests and replies with what rules find in them hidden.

JSON stays JSON: in a text that is JSON (the arguments of a tool, a result that is an object) each string is
looked at by itself, and all around it stays as it was written, to the byte. Nothing here knows a policy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar, assert_never

import msgspec

from assay.gateway.guards.window import Wanted, Window
from assay.types import (
    JSON,
    Audio,
    Choice,
    Context,
    CustomTool,
    Extra,
    File,
    FunctionTool,
    HostedTool,
    Image,
    Inline,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Request,
    Response,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    replace,
)

MAX_SEEN: Final = 16_384
_MIN_SEEN_CHARS: Final = 64
_STRING: Final = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKEN: Final = re.compile(rf"{_STRING}|-?\d[\d.eE+-]*", re.DOTALL)
# A text that shall be JSON begins like this, else it is taken for any text. A value is one once a comma or
# the like stands behind it: with words there it would be prose.
_FIRST: Final = re.compile(r"\s*[{\[](?P<token>(?!))?")
_SPACE: Final = re.compile(r"\s*\Z")
_STEP: Final = re.compile(
    rf"[\s{{}}\[\],:]+|(?P<token>{_STRING}|-?\d[\d.eE+-]*)\s*(?=[,:\]}}])|(?:true|false|null)\s*(?=[,\]}}])",
    re.DOTALL,
)
_UNFINISHED: Final = re.compile(
    rf"(?:{_STRING}\s*|\"[^\"\\]*(?:\\.[^\"\\]*)*\\?|-(?:\d[\d.eE+-]*\s*)?|\d[\d.eE+-]*\s*"
    r"|true\s*|false\s*|null\s*|t|tr|tru|f|fa|fal|fals|n|nu|nul)\Z",
    re.DOTALL,
)
_MIN_DIGITS: Final = 12
_decode = msgspec.json.decode
_T = TypeVar("_T")


class Seen:
    """Texts in which nothing was found, by their hashes: a conversation repeats all that was said before."""

    def __init__(self) -> None:
        self._hashes: dict[int, None] = {}

    def __contains__(self, text: str) -> bool:
        key = hash(text)
        if key not in self._hashes:
            return False
        self._hashes[key] = self._hashes.pop(key)
        return True

    def add(self, text: str) -> None:
        self._hashes[hash(text)] = None
        if len(self._hashes) > MAX_SEEN:
            del self._hashes[next(iter(self._hashes))]


class Sifter:
    """Looks at the texts of one call. What it finds adds up in `found`; what it gives back is the same object
    where nothing was hidden."""

    def __init__(self, wanted: Sequence[Wanted], seen: Seen | None = None) -> None:
        self._wanted = wanted
        self._seen = seen
        self.found: list[Wanted] = []

    # --- texts -----------------------------------------------------------------------------------

    def plain(self, text: str) -> str:
        """A text as it stands."""
        known = self._seen if len(text) >= _MIN_SEEN_CHARS else None
        if not text or (known is not None and text in known):
            return text
        clean, found = Window(self._wanted).feed(text, final=True)
        if found:
            self.found += found
            return clean
        if known is not None:
            known.add(text)
        return text

    def text(self, text: str) -> str:
        """A text that may be JSON."""
        if text[:1].isspace() or text[:1] in ("{", "["):
            body = text.lstrip()
            if body[:1] in ("{", "[") and is_json(text):
                return self.json(text)
        return self.plain(text)

    def arguments(self, text: str) -> str:
        """What a function is called with: JSON, unless the model wrote something else."""
        return self.json(text) if is_json(text) else self.plain(text)

    def json(self, text: str) -> str:
        """A text that is JSON, with what is hidden inside of its strings."""
        if "\\" not in text:
            # Its strings are spelled as they read: where all of it has nothing, no string has.
            trial = Sifter(self._wanted, self._seen)
            if trial.plain(text) is text and not trial.found:
                return text
        return _TOKEN.sub(lambda token: self.token(token[0]), text)

    def token(self, token: str) -> str:
        """One string or number of JSON."""
        if token[0] != '"':
            clean = self.plain(token) if len(token) >= _MIN_DIGITS else token
            return token if clean == token else f'"{clean}"'
        said: str = _decode(token)
        clean = self.plain(said)
        return token if clean == said else msgspec.json.encode(clean).decode()

    def value(self, value: JSON) -> JSON:
        """A JSON value; names of fields, too."""
        match value:
            case str():
                return self.plain(value)
            case bool() | None | float():
                return value
            case int():
                clean = self.plain(str(value)) if abs(value) >= 10**_MIN_DIGITS else ""
                return value if not clean or clean == str(value) else clean
            case dict():
                fields = {self.plain(name): self.value(one) for name, one in value.items()}
                same = all(fields.get(name) is one for name, one in value.items())
                return value if same else fields
            case list() | tuple():
                items = [self.value(one) for one in value]
                return value if all(map(_same, items, value)) else items
            case _:
                return value

    # --- what a call is made of ------------------------------------------------------------------

    def request(self, request: Request) -> Request:
        """All that is sent to the model, and what the span would keep beside it."""
        return _changed(
            request,
            messages=each(self.message, request.messages),
            tools=each(self.tool, request.tools),
            user=self.maybe(request.user),
            metadata=self.value(request.metadata),
            extra=self.extras(request.extra),
            context=self.context(request.context),
        )

    def context(self, context: Context) -> Context:
        return _changed(context, variables=self.value(context.variables), keep=self.value(context.keep))

    def response(self, response: Response) -> Response:
        return _changed(response, choices=each(self.choice, response.choices))

    def choice(self, choice: Choice) -> Choice:
        return _changed(choice, message=self.message(choice.message))

    def message(self, message: Message) -> Message:
        return _changed(
            message,
            parts=each(self.part, message.parts),
            name=self.maybe(message.name),
            extra=self.extras(message.extra),
        )

    def tool(self, tool: ToolSpec) -> ToolSpec:
        match tool:
            case FunctionTool():
                return _changed(
                    tool,
                    description=self.maybe(tool.description),
                    parameters=self.value(tool.parameters),
                )
            case CustomTool():
                return _changed(tool, description=self.maybe(tool.description))
            case HostedTool():
                return _changed(tool, body=self.value(tool.body))
            case _:
                assert_never(tool)

    def part(self, part: Part) -> Part:
        """Pictures, sound and files that are not text stay as they are: nobody looks into them."""
        match part:
            case Text():
                annotations = each(self.value, part.annotations)
                clean = self.text(part.text)
                return _changed(part, text=clean, annotations=annotations, extra=self.extras(part.extra))
            case Refusal():
                return _changed(part, text=self.plain(part.text))
            case Reasoning():
                return self.reasoning(part)
            case ToolCall():
                spelled = self.arguments if part.kind == "function" else self.plain
                return _changed(part, arguments=spelled(part.arguments), extra=self.extras(part.extra))
            case ToolResult():
                return _changed(part, parts=each(self.part, part.parts), extra=self.extras(part.extra))
            case File():
                return _changed(part, source=self.source(part.source), name=self.maybe(part.name))
            case Audio():
                return _changed(part, transcript=self.maybe(part.transcript))
            case Opaque():
                return _changed(part, body=self.value(part.body))
            case Image():
                return part
            case _:
                assert_never(part)

    def reasoning(self, part: Reasoning) -> Reasoning:
        """A signature vouches for the text as it was: it goes when the text changes."""
        clean = _changed(part, text=self.plain(part.text), summary=each(self.plain, part.summary))
        return clean if clean is part else replace(clean, signature=None)

    def source(self, source: _T) -> _T:
        """A file that is a text."""
        if not isinstance(source, Inline) or not source.media_type.startswith(("text/", "application/json")):
            return source
        try:
            text = source.data.decode()
        except UnicodeDecodeError:
            return source
        clean = self.text(text)
        return source if clean == text else replace(source, data=clean.encode())

    def extras(self, extra: Extra | None) -> Extra | None:
        return None if extra is None else _changed(extra, fields=self.value(extra.fields))

    def maybe(self, text: str | None) -> str | None:
        return None if text is None else self.plain(text)


class JsonWindow:
    """As a Window, for a text that shall be JSON: a string or number is released once it is whole.

    Where it turns out not to be JSON it goes on as any text.
    """

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = wanted
        self._buffer = ""
        self._plain: Window | None = None
        self._begun = False
        self._token_changed = False

    @property
    def changed(self) -> bool:
        return self._token_changed or (self._plain is not None and self._plain.changed)

    def feed(self, text: str, *, final: bool = False) -> tuple[str, list[Wanted]]:
        if self._plain is not None:
            return self._plain.feed(text, final=final)
        buffer = self._buffer + text
        pos, end = 0, len(buffer)
        pieces: list[str] = []
        sifter = Sifter(self._wanted)
        while pos < end:
            step = (_STEP if self._begun else _FIRST).match(buffer, pos)
            if step is None and not final and (_UNFINISHED if self._begun else _SPACE).match(buffer, pos):
                break
            if step is None:
                self._plain, self._buffer = Window(self._wanted), ""
                rest, found = self._plain.feed(buffer[pos:], final=final)
                return "".join((*pieces, rest)), [*sifter.found, *found]
            self._begun = True
            token = step["token"]
            if token is not None:
                clean = sifter.token(token)
                self._token_changed = self._token_changed or clean is not token
                pieces.append(clean)
            pieces.append(buffer[pos if token is None else step.end("token") : step.end()])
            pos = step.end()
        self._buffer = buffer[pos:]
        return "".join(pieces), sifter.found

    def flush(self) -> tuple[str, list[Wanted]]:
        """Releases nothing while it is JSON: half a string is none."""
        return ("", []) if self._plain is None else self._plain.flush()


def is_json(text: str) -> bool:
    try:
        _decode(text, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True


def strings_in(value: JSON) -> Iterable[str]:
    """All strings in a JSON value, names of fields included."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            todo += one
            todo += one.values()
        elif isinstance(one, list):
            todo += one


def each(change: Callable[[_T], _T], items: tuple[_T, ...]) -> tuple[_T, ...]:
    """The changed items; the same tuple where none was."""
    changed = tuple(map(change, items))
    return items if all(map(_same, changed, items)) else changed


def _same(one: object, other: object) -> bool:
    return one is other or (isinstance(one, str) and one == other)


def _changed(value: _T, **fields: Any) -> _T:
    """The value with those fields; the same object where they are what they were."""
    news = {name: one for name, one in fields.items() if not _same(one, getattr(value, name))}
    return replace(value, **news) if news else value  # type: ignore[type-var]
