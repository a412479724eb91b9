"""How alike must two questions be to have one answer? Measured on questions whose answers are known. No I/O.

The questions are asked one after the other, as the semantic cache would see them: what is near enough to one
that is stored gets its answer, right or wrong, and what is not is asked of the model and stored.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import numpy as np

from assay.gateway.semantic import Vector, numbers_in
from assay.stats import Interval, wilson_interval
from assay.types import Value

THRESHOLDS: Final = tuple(round(0.70 + number / 100, 2) for number in range(30))
"""What is tried."""
PRECISION: Final = 0.95
"""The share of hits that should be right, unless somebody says otherwise."""
MAX_QUESTIONS: Final = 5_000
_APART: Final = -2.0


class Question(Value):
    """What is asked, and a word for its answer: two questions with the same one are equals."""

    text: str
    answer: str


class Point(Value):
    """What a threshold does to `asked` questions: so many get another one's answer, so many the right one."""

    threshold: float
    asked: int
    hits: int
    right: int

    @property
    def hit_rate(self) -> Interval:
        return wilson_interval(self.hits, self.asked)

    @property
    def precision(self) -> Interval | None:
        """None where nothing was hit."""
        return wilson_interval(self.right, self.hits) if self.hits else None


def curve(
    questions: Sequence[Question], vectors: Sequence[Vector], thresholds: Sequence[float] = THRESHOLDS
) -> list[Point]:
    """What each threshold would do, to at most MAX_QUESTIONS in an order of chance, the same each time.

    The vectors have length 1. Questions with other numbers never meet.
    """
    order = random.Random(0).sample(range(len(questions)), min(len(questions), MAX_QUESTIONS))  # noqa: S311
    asked = [questions[number] for number in order]
    matrix = np.stack([vectors[number] for number in order])
    alike = matrix @ matrix.T
    known: dict[tuple[str, ...], int] = {}
    numbers = np.array([known.setdefault(numbers_in(one.text), len(known)) for one in asked])
    alike[numbers[:, None] != numbers[None, :]] = _APART
    return [_at(threshold, asked, alike) for threshold in thresholds]


def _at(threshold: float, asked: Sequence[Question], alike: Vector) -> Point:
    stored = np.zeros(len(asked), bool)
    hits = right = 0
    for number, question in enumerate(asked):
        near = np.where(stored, alike[number], _APART)
        best = int(np.argmax(near))
        if near[best] < threshold:
            stored[number] = True
            continue
        hits += 1
        right += asked[best].answer == question.answer
    return Point(threshold, len(asked), hits, right)


def propose(points: Sequence[Point], precision: float = PRECISION) -> Point | None:
    """The lowest threshold that is surely precise enough; None where the data show none.

    Surely: the lower end of its 95% interval reaches `precision`, and at every higher threshold the share
    itself does, so that it is no lucky spot on the curve.
    """
    found = None
    for point in sorted(points, key=lambda one: -one.threshold):
        interval = point.precision
        if interval is None:
            continue
        if interval.estimate < precision:
            break
        if interval.low >= precision:
            found = point
    return found
