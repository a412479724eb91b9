"""What a reply must be: text, JSON that keeps to a schema, a call of a tool, or one or the other. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from assay.providers.local.schema import Held, held
from assay.providers.local.tools import Calling, calling
from assay.providers.translation import Drops
from assay.types import Request


class Form(NamedTuple):
    """`held` is of this one reply; where a tool must be called it holds nothing, and is None."""

    calling: Calling | None = None
    held: Held | None = None

    @property
    def grammar(self) -> str | None:
        """None for free text."""
        otherwise = self.held.rule if self.held else None
        if self.calling is not None:
            return self.calling.grammar(otherwise)
        return self.held.grammar if self.held else None


def form_of(request: Request, drops: Drops) -> Form:
    """Raises as `held` and `calling` do.

    A reply that must call a tool is that call: the output's schema waits for a reply that may be an answer.
    """
    tools, keep = calling(request, drops), held(request.output)
    return Form(tools, None if tools and tools.required else keep)
