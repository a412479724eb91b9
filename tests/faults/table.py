"""The table of the sixteen faults, made by playing them.

python tests/faults/table.py            writes docs/reference/faults.md
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

if __package__:
    from .cases import FAULTS, FILTER, PAIRS
    from .play import Outcome, play
else:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from faults.cases import FAULTS, FILTER, PAIRS
    from faults.play import Outcome, play

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"
TITLES = {
    "openai": "OpenAI chat",
    "responses": "OpenAI Responses",
    "anthropic": "Anthropic",
    "gemini": "Gemini",
}

INTRODUCTION = """# Faults of upstreams, and what callers see

<!-- Made by tests/faults/table.py, which plays them: run 'make docs'. -->

Each cell was made by playing the fault: an upstream on loopback that misbehaves, a real `assay up`, and the
official SDK of the caller's dialect, whole and streamed, with an upstream of the same dialect and with one of
another. Each call is made to a route with a second model, and to the model alone.

- **fallback**: the second model answered, and its answer is all that the caller saw.
- **a number**: the HTTP status of an error in the caller's dialect, which its SDK raises.
- **error event**: the caller has seen the beginning of the reply, which cannot be taken back; the stream ends
  with the dialect's own error, which its SDK raises.
- **ended**: the upstream saw its connection closed; nobody else was asked.

Where two are named, the second is what a stream of the same call ends in. A row counts when none of its calls
showed a broken answer as whole, repeated text, left a call running upstream, or left no record: the call's
span and those of its failed tries tell the error, and their cost is unknown or a lower bound, not zero.
"""


def page(outcomes: Iterable[Outcome]) -> str:
    played = list(outcomes)
    columns = [(caller, fallback) for caller in PAIRS for fallback in (True, False)]
    heads = [f"{TITLES[caller]}, {'with' if fallback else 'without'}" for caller, fallback in columns]
    lines = [INTRODUCTION, "| | fault | " + " | ".join(heads) + " |", "|---|---|" + "---|" * len(columns)]
    survived = 0
    for number, fault in enumerate((*FAULTS, FILTER), 1):
        mine = [one for one in played if one.case.fault == fault]
        well = not any(list(one.problems()) for one in mine)
        survived += well and fault is not FILTER
        cells = [_cell(mine, caller, fallback) for caller, fallback in columns]
        place = "6b" if fault is FILTER else str(number)
        lines.append(f"| {place} | {fault.title} | " + " | ".join(cells if well else ["FAILED"] * 8) + " |")
    lines += ["", f"**{survived} of {len(FAULTS)}**", ""]
    return "\n".join(lines)


def _cell(outcomes: list[Outcome], caller: str, fallback: bool) -> str:
    found = [one for one in outcomes if (one.case.caller, one.case.fallback) == (caller, fallback)]
    # Whole calls first, then streams.
    ordered = sorted(found, key=lambda one: (one.case.mode != "whole", one.case.mid_stream))
    return ", ".join(dict.fromkeys(one.cell for one in ordered))


def main() -> int:
    from conftest import assay_up

    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(page(play(lambda toml, env: assay_up(Path(folder), toml, env))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
