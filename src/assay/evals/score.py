"""Scores, and what a scorer is. The scorers themselves live in assay.evals.scorers and .judge."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from assay.evals.dataset import Example
from assay.types import JSON, Context, Cost, Value


class Score(Value):
    """One scorer's verdict on one output. `value` None is unscored, which is not 0: `reason` says why.

    Higher is better; pass/fail scorers give 1 and 0. `cost` is what scoring itself cost, None when it made no
    call. `raw` holds a judge's own words.
    """

    name: str
    value: float | None
    reason: str = ""
    cost: Cost | None = None
    raw: str | None = None


@runtime_checkable
class Scorer(Protocol):
    """Judges one output at a time.

    `identity` is all that a score depends on, as JSON: scores of scorers with equal identities may be
    compared, and an experiment is resumed only with the same. `on_error` is the value of an example whose
    task failed: 0.0 for pass/fail scorers, since the system failed its user; None leaves it unscored.
    `immediate` scorers are quick and free; the score of any other is kept as soon as it is there, so that no
    call to a judge is made twice.
    """

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> JSON: ...
    @property
    def on_error(self) -> float | None: ...
    @property
    def immediate(self) -> bool: ...

    async def score(self, output: JSON, example: Example, context: Context) -> Score:
        """The verdict. `output` is text or JSON; calls that it makes carry `context`.

        May raise: the score is then unscored, with the error as its reason.
        """
        ...


def text_of(output: JSON) -> str:
    """An output as text: text as it is, anything else as JSON."""
    return output if isinstance(output, str) else msgspec.json.encode(output).decode()
