"""Power: how many items a paired comparison needs, and what it can see with those it has."""

from __future__ import annotations

from math import ceil, isfinite, sqrt

import msgspec
from scipy.special import ndtri

from assay.stats.samples import check_fraction


class PairedNoise(msgspec.Struct, frozen=True):
    """What makes the difference of B and A vary from item to item, in squared units of the score.

    `item` is omega^2, the variance over items of the true difference; `sampling_a` and `sampling_b` are
    sigma^2, the variance of one item's score from repeat to repeat, which `repeats_a` and `repeats_b`
    average away. A variance measured on item means belongs in `item` alone: it has the sampling noise in it.
    """

    item: float
    sampling_a: float = 0.0
    sampling_b: float = 0.0
    repeats_a: int = 1
    repeats_b: int = 1

    def __post_init__(self) -> None:
        for name in ("item", "sampling_a", "sampling_b"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; a variance is finite and not negative")
        if min(self.repeats_a, self.repeats_b) < 1:
            raise ValueError("repeats_a and repeats_b are at least 1")

    @property
    def variance(self) -> float:
        """The variance of one item's difference of means over its repeats."""
        return self.item + self.sampling_a / self.repeats_a + self.sampling_b / self.repeats_b


def items_to_detect(effect: float, noise: PairedNoise, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """How many items show a true difference of `effect` (not 0) with this power, two-sided at alpha.

    n = (z_{alpha/2} + z_beta)^2 * variance / effect^2. Source: Miller, arXiv 2411.00640.

    >>> items_to_detect(0.03, PairedNoise(item=1 / 9))
    969
    """
    if effect == 0 or not isfinite(effect):
        raise ValueError(f"effect is {effect}; give the smallest difference worth detecting, not 0")
    return _items(_reach(alpha, power), noise, effect)


def minimum_detectable_effect(
    n_items: int, noise: PairedNoise, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest true difference that n items show with this power, two-sided at alpha.

    >>> noise = PairedNoise(item=1 / 9, sampling_a=1 / 6, sampling_b=1 / 6)
    >>> round(minimum_detectable_effect(198, noise), 4)
    0.1327
    """
    if n_items < 1:
        raise ValueError(f"n_items is {n_items}; at least 1 item is needed")
    return _reach(alpha, power) * sqrt(noise.variance / n_items)


def items_for_equivalence(
    margin: float, noise: PairedNoise, *, effect: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> int:
    """How many items show, with this power, that a true difference of `effect` is within the margin.

    For two one-sided tests at alpha; |effect| < margin. Exact at effect 0, on the safe side elsewhere.
    Source: Chow, Shao and Wang, Sample Size Calculations in Clinical Research.
    """
    room = margin - abs(effect)
    if not (isfinite(room) and room > 0):
        raise ValueError(
            f"effect {effect} is not within the margin {margin}: no number of items shows that it is"
        )
    check_fraction(alpha, "alpha")
    check_fraction(power, "power")
    reach = float(ndtri(1 - alpha) + ndtri((1 + power) / 2))
    return _items(reach, noise, room)


def _items(reach: float, noise: PairedNoise, distance: float) -> int:
    items = (reach * sqrt(noise.variance) / distance) * (reach * sqrt(noise.variance) / distance)
    if not isfinite(items):
        raise ValueError(f"no finite number of items tells a difference of {distance} from 0 in this noise")
    return max(1, ceil(items))


def _reach(alpha: float, power: float) -> float:
    """How many standard errors away from 0 the effect must be."""
    check_fraction(alpha, "alpha")
    check_fraction(power, "power")
    return float(ndtri(1 - alpha / 2) + ndtri(power))
