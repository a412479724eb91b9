"""Samples: what the statistics accept, checked once on the way in. No statistic is computed here."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = Sequence[Hashable]

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Clusters:
    """Which cluster each item is in: `codes`, shape (n,), counts from 0; `count` is how many there are."""

    codes: NDArray[np.intp]
    count: int

    @property
    def sizes(self) -> list[int]:
        """How many items each cluster has."""
        return [int(size) for size in np.bincount(self.codes, minlength=self.count)]


def scores_of(values: ArrayLike, name: str = "scores") -> FloatArray:
    """One finite score per item, shape (n,), n >= 1. Raises ValueError that names the first bad index."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(
            f"{name} has shape {scores.shape}; give one score per item (average the repeats of an item first)"
        )
    if scores.size == 0:
        raise ValueError(f"{name} is empty; at least one scored item is needed")
    finite = np.isfinite(scores)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise ValueError(
            f"{name}[{bad}] is {scores[bad]}; leave out items without a score (on both sides, to compare): "
            "an unscored answer is not 0"
        )
    return scores


def pair_of(a: ArrayLike, b: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """The scores of A and of B on the same items in the same order, each of shape (n,)."""
    scores_a, scores_b = scores_of(a, "scores_a"), scores_of(b, "scores_b")
    if scores_a.size != scores_b.size:
        raise ValueError(
            f"scores_a has {scores_a.size} items and scores_b {scores_b.size}; "
            "a paired comparison needs both on the same items: keep the items that both have scored"
        )
    return scores_a, scores_b


def clusters_of(labels: Labels, n_items: int) -> Clusters:
    """Number the clusters. An item labelled None is a cluster of its own."""
    if len(labels) != n_items:
        raise ValueError(
            f"there are {len(labels)} cluster labels for {n_items} items; give one label per item"
        )
    numbers: dict[Hashable, int] = {}
    codes = [
        numbers.setdefault(("alone", i) if label is None else ("labelled", label), len(numbers))
        for i, label in enumerate(labels)
    ]
    return Clusters(np.asarray(codes, dtype=np.intp), len(numbers))


def check_fraction(value: float, name: str) -> None:
    """Levels, error rates and powers lie strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} is {value}; it must lie strictly between 0 and 1, such as 0.95 or 0.05")


def check_bounds(scores: FloatArray, bounds: tuple[float, float], name: str = "scores") -> None:
    """The range of a score is finite and no score lies outside it."""
    low, high = bounds
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"bounds are {bounds}; give (low, high), both finite, low < high")
    outside = (scores < low) | (scores > high)
    if outside.any():
        bad = int(np.argmax(outside))
        raise ValueError(
            f"{name}[{bad}] is {scores[bad]}, outside the bounds {low} to {high}; widen the bounds"
        )


def is_binary(scores: FloatArray) -> bool:
    """Whether every score is 0 or 1."""
    return bool(np.all((scores == 0.0) | (scores == 1.0)))


def is_negligible(value: float, scale: float) -> bool:
    """Whether a value is 0 up to the rounding errors of numbers as large as `scale`."""
    return abs(value) <= _ROUNDING * scale
