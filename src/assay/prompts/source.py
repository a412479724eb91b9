"""A prompt's text and the places in it: decoding, line ends, errors that say file, line and column.

What the text means is read by assay.prompts.frontmatter and assay.prompts.template.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, TypeAlias

from assay.errors import PromptError

BOM: Final = "\ufeff"

Location: TypeAlias = tuple[str | int, ...]
"""The keys and indexes that lead to a place in the front matter."""


@dataclass(frozen=True, slots=True)
class Source:
    """The canonical text of a prompt (no byte order mark, lines end with a line feed) and where it came from.

    >>> str(Source("greet.prompt", "Hi {{name}").error(3, "'{{' is not closed"))
    "greet.prompt:1:4: '{{' is not closed"
    """

    file: str
    text: str

    @classmethod
    def of(cls, text: str, file: str) -> Source:
        """Canonicalise `text`: two files that differ only in byte order mark or line ends become equal.

        Raises PromptError for text that UTF-8 cannot carry.
        """
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            raise PromptError(
                f"{file}: character {exc.start} is half a character (a lone surrogate)"
            ) from exc
        return cls(file, text.removeprefix(BOM).replace("\r\n", "\n").replace("\r", "\n"))

    @classmethod
    def decode(cls, raw: bytes, file: str) -> Source:
        """Decode UTF-8 bytes. Raises PromptError with the line of the first byte that is not UTF-8."""
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as exc:
            line = raw.count(b"\n", 0, exc.start) + 1
            raise PromptError(
                f"{file}:{line}: byte {exc.start} (0x{raw[exc.start]:02x}) is not UTF-8; save it as UTF-8"
            ) from exc
        return cls.of(text, file)

    def where(self, offset: int) -> str:
        """`file:line:column` of the character at `offset`; lines and columns count from 1."""
        line = self.text.count("\n", 0, offset) + 1
        column = offset - self.text.rfind("\n", 0, offset)
        return f"{self.file}:{line}:{column}"

    def error(self, offset: int, problem: str) -> PromptError:
        """The error to raise for what is wrong at `offset`."""
        return PromptError(f"{self.where(offset)}: {problem}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: `; did you mean 'x'?` when a known name is close to `name`, else a full stop.

    >>> did_you_mean("qestion", ["question", "policy"])
    "; did you mean 'question'?"
    """
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else "."


def listed(names: Iterable[str]) -> str:
    """Names for a message, in order, quoted; `none` when there are none."""
    return ", ".join(repr(name) for name in names) or "none"
