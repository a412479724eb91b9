"""That the grammar of some tools is in force: tried once for each set of tools, as the engine does not tell.

A grammar that LLGuidance cannot compile is left out without a word. What may be text or a call would
then be anything, and nobody could see it; so a first token is drawn that can only be the beginning of a call.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from assay.providers.local.calls import not_callable
from assay.providers.local.engine import Engine
from assay.providers.local.tools import OPENING, Calling

REMEMBERED: Final = 256
"""How many sets of tools are not tried again."""


class Proof:
    """Remembers what was tried. For several threads: two may try the same at once, which does no harm."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, None] = OrderedDict()

    def check(self, engine: Engine, calling: Calling) -> None:
        """Raises UnsupportedFeature, naming the tools whose parameters the grammar cannot hold."""
        grammar = calling.probe()
        if grammar in self._held:
            return
        if not _in_force(engine, grammar):
            at_fault = tuple(
                callee for callee in calling.callees if not _in_force(engine, calling.probe(callee))
            )
            raise not_callable(calling, at_fault)
        self._held[grammar] = None
        while len(self._held) > REMEMBERED:
            self._held.popitem(last=False)


def _in_force(engine: Engine, grammar: str) -> bool:
    """Without a grammar this prompt is continued by something else (with SmolLM2 by a hyphen)."""
    asked = {"prompt": " ", "max_tokens": 1, "temperature": 0, "grammar": grammar}
    reply = engine.handle_completions(asked)
    text = reply["choices"][0]["text"]
    return bool(text) and OPENING.startswith(text)
