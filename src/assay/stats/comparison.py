"""Comparison: paired scores, the method that fits them, and its plan. What to conclude is decision's."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, log, log1p, sqrt
from typing import Literal, TypeAlias, assert_never

import numpy as np
from scipy.special import ndtri

from assay.stats.intervals import Interval, clustered_se, constant_interval
from assay.stats.paired import paired_difference, paired_proportions
from assay.stats.power import PairedNoise, items_for_equivalence, items_to_detect
from assay.stats.samples import (
    FloatArray,
    Labels,
    check_bounds,
    check_fraction,
    clusters_of,
    is_binary,
    is_negligible,
)

Method: TypeAlias = Literal["proportions", "t", "constant", "none"]


@dataclass(frozen=True)
class Rule:
    """When a difference counts: the largest that does not matter, the error rate, the power to plan for."""

    margin: float
    alpha: float
    power: float

    def __post_init__(self) -> None:
        if not (self.margin >= 0 and self.margin < inf):
            raise ValueError(
                f"margin is {self.margin}; give the largest difference that does not matter, 0 or more"
            )
        check_fraction(2 * self.alpha, "2 * alpha")
        check_fraction(self.power, "power")


@dataclass(frozen=True, eq=False)
class Comparison:
    """The scores of A and B, shape (n,), with what decides how their difference is measured.

    `clusters` is None when every item is on its own, `n_clusters` only when no labels were given. `reach` is
    the largest difference the scale allows, None if unknown.
    """

    a: FloatArray
    b: FloatArray
    clusters: Labels | None
    n_clusters: int | None
    reach: float | None
    method: Method

    @property
    def n(self) -> int:
        return self.a.size

    @property
    def effect(self) -> float:
        return float((self.b - self.a).mean())

    @property
    def draws(self) -> int:
        """How many independent draws there are: clusters, or items where each is on its own."""
        return self.n if self.n_clusters is None else self.n_clusters

    def interval(self, level: float) -> Interval | None:
        """The difference with its interval; None where the data give none."""
        match self.method:
            case "proportions":
                return paired_proportions(self.a, self.b, level=level)
            case "t":
                return paired_difference(self.a, self.b, clusters=self.clusters, level=level)
            case "constant":
                reach = self.reach or 0.0
                effect = min(max(self.effect, -reach), reach)
                return constant_interval(
                    effect, self.n, (-reach, reach), level=level, n_clusters=self.n_clusters
                )
            case "none":
                return None
            case _:
                assert_never(self.method)

    def equivalence(self, rule: Rule) -> Interval | None:
        """The interval of which each end holds at 1 - alpha: two one-sided tests."""
        # The ends of a rule of three hold one by one; those of the others share the error.
        return self.interval(1 - (rule.alpha if self.method == "constant" else 2 * rule.alpha))

    def items_to_decide(self, rule: Rule) -> float:
        """About how many items in all lead to a decision; inf where the data cannot tell.

        Planned for an effect as large as the margin or the observed effect, whichever is larger. Where the
        items at hand should have shown that, the effect is on the fence: then for what was observed.
        """
        match self.method:
            case "none":
                return inf
            case "constant":
                draws = agreeing_draws(abs(self.effect), self.reach or 0.0, rule)
                return draws * self.n / self.draws
            case "proportions" | "t":
                effect = abs(self.effect)
                items = self._items_to_detect(max(effect, rule.margin), rule)
                if items > self.n or effect >= rule.margin:
                    return items
                return min(self._items_to_detect(effect, rule), self._items_for_equivalence(effect, rule))
            case _:
                assert_never(self.method)

    def _items_to_detect(self, effect: float, rule: Rule) -> float:
        noise = self._noise()
        if _beyond_reach(effect, noise):
            return inf
        items = items_to_detect(effect, noise, alpha=rule.alpha, power=rule.power)
        if self.method == "proportions":
            # The exact test amounts to a continuity correction of one count.
            return items + 2 / effect
        # Guenther 1981, The American Statistician 35:243: what the t quantile costs over the normal one.
        df = paired_difference(self.a, self.b, clusters=self.clusters).df or 1.0
        return items + float(ndtri(rule.alpha / 2)) ** 2 / 2 * self.n / (df + 1)

    def _items_for_equivalence(self, effect: float, rule: Rule) -> float:
        noise = self._noise()
        if _beyond_reach(rule.margin - effect, noise):
            return inf
        return items_for_equivalence(rule.margin, noise, effect=effect, alpha=rule.alpha, power=rule.power)

    def _noise(self) -> PairedNoise:
        """The variance of one item's difference, with what clusters add to it."""
        if self.method == "t":
            se = paired_difference(self.a, self.b, clusters=self.clusters).se or 0.0
            return PairedNoise(self.n * se**2)
        # Half a count more in each cell (Agresti and Min 2005, Stat Med 24:729): a sample without
        # disagreement does not show that there is none.
        total = self.n + 2.0
        wins = float((self.b > self.a).sum()) + 0.5
        losses = float((self.b < self.a).sum()) + 0.5
        return PairedNoise((wins + losses) / total - ((wins - losses) / total) ** 2)


def comparison_of(
    a: FloatArray, b: FloatArray, clusters: Labels | None, bounds: tuple[float, float] | None
) -> Comparison:
    """Choose the method: Tango for unclustered 0/1 scores, a (clustered) t where there is a spread."""
    binary = is_binary(a) and is_binary(b)
    if binary and bounds is None:
        bounds = (0.0, 1.0)
    if bounds is not None:
        check_bounds(a, bounds, "scores_a")
        check_bounds(b, bounds, "scores_b")
    reach = None if bounds is None else bounds[1] - bounds[0]
    n_clusters = None if clusters is None else clusters_of(clusters, a.size).count
    draws = a.size if n_clusters is None else n_clusters
    # Clusters of one item each are none: every formula gives the same without them.
    grouped = None if draws == a.size else clusters
    method: Method = "t"
    if binary and grouped is None:
        method = "proportions"
    elif draws < 2:
        method = "none"
    elif _no_spread(a, b, grouped):
        method = "none" if reach is None else "constant"
    return Comparison(a, b, grouped, n_clusters, reach, method)


def agreeing_draws(effect: float, reach: float, rule: Rule) -> float:
    """How many draws decide by the rule of three if all go on to show the same difference, `effect` >= 0."""
    others = effect / (effect + reach)
    if effect < rule.margin:
        above = (rule.margin - effect) / (reach - effect) if effect < reach else 1.0
        others = max(others, min(above, (rule.margin + effect) / (reach + effect)))
    if others <= 0:
        return inf
    return 2.0 if others >= 1 else 1.0 + ceil(log(rule.alpha) / log1p(-others))


def _no_spread(a: FloatArray, b: FloatArray, clusters: Labels | None) -> bool:
    """Whether the standard error would be 0, which is not certainty but ignorance of the spread."""
    scale = float(max(np.abs(a).max(), np.abs(b).max()))
    if is_negligible(float(np.ptp(b - a)), scale):
        return True
    return clusters is not None and is_negligible(clustered_se(b - a, clusters_of(clusters, a.size)), scale)


def _beyond_reach(distance: float, noise: PairedNoise) -> bool:
    """Whether a distance is 0 for all that the data tell: no plan would reach it."""
    return distance <= 1e-6 * sqrt(noise.variance)
