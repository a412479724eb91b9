"""Decision: is B better than A, worse, equivalent, or not enough data? Methods and plans: comparison."""

from __future__ import annotations

from math import ceil
from typing import Literal, TypeAlias

import msgspec
from numpy.typing import ArrayLike

from assay.stats.comparison import Comparison, Rule, comparison_of
from assay.stats.intervals import Interval
from assay.stats.paired import Difference
from assay.stats.samples import Labels, pair_of

Outcome: TypeAlias = Literal["better", "worse", "equivalent", "not enough data"]

# A plan of more items than this is no plan.
_PRACTICAL_ITEMS = 1_000_000


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a paired comparison says of B against A, and the numbers it says it from.

    `effect` is mean(B) - mean(A) in the unit of the scores, with its interval from `low` to `high` at
    `level`; both are None where the data give no interval. `equivalence` is the narrower interval that must
    lie within -margin to +margin for "equivalent"; None without a margin or an interval. `p_value` is
    two-sided, against no difference; None where the method has none. `n_clusters` is None for unclustered
    data. `more_needed` is about how many more items would lead to a decision: 0 once there is one, None when
    the data cannot tell. `reason` says in one sentence, for the reader, why.
    """

    outcome: Outcome
    effect: float
    low: float | None
    high: float | None
    level: float
    se: float | None
    df: float | None
    method: str
    p_value: float | None
    n_items: int
    n_clusters: int | None
    margin: float
    equivalence: tuple[float, float] | None
    more_needed: int | None
    reason: str


def decide(
    a: ArrayLike,
    b: ArrayLike,
    *,
    clusters: Labels | None = None,
    bounds: tuple[float, float] | None = None,
    margin: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Verdict:
    """Compare B with A on the same items and say what the data allow to say.

    `a`, `b`: one score per item (the mean over its repeats), shape (n,), finite, in the same order; higher is
    better. `clusters`: a label per item, None for an item on its own. `bounds`: the range that a score can
    take, which lets equal differences say something; scores that are all 0 or 1 need none. `margin` >= 0: the
    largest difference that does not matter in practice. `alpha` < 0.5: the rate of false alarms.

    The outcome, first match:

    1. equivalent: the 1 - 2*alpha interval lies within the margin (two one-sided tests). This goes first: an
       effect that is certain, yet certainly too small to matter, is not a reason to switch.
    2. better: the 1 - alpha interval lies above 0. It may still be by less than the margin; `reason` says so.
    3. worse: it lies below 0.
    4. not enough data.

    Where A and B are equally good, "better" or "worse" is said with a probability of at most about alpha;
    where they differ by the margin or more, so is "equivalent". That holds for one look at the end. To look
    after every item use `paired_e_process`.

    `more_needed` plans, with this power and the variance seen, for an effect as large as the margin or the
    observed effect, whichever is larger; where even that many items left it open, for what was observed.

    >>> verdict = decide([0, 0, 1, 0, 0, 0, 1, 0, 0, 0], [1, 1, 1, 0, 1, 1, 1, 1, 0, 1])
    >>> verdict.outcome, verdict.effect, verdict.p_value
    ('better', 0.6, 0.03125)
    """
    rule = Rule(margin, alpha, power)
    comparison = comparison_of(*pair_of(a, b), clusters, bounds)
    interval = comparison.interval(1 - alpha)
    narrow = comparison.equivalence(rule) if margin > 0 else None
    outcome = _outcome(interval, narrow, margin)
    more_needed: int | None = 0
    if outcome == "not enough data":
        items = comparison.items_to_decide(rule)
        more_needed = max(1, ceil(items) - comparison.n) if items <= _PRACTICAL_ITEMS else None
    return Verdict(
        outcome=outcome,
        effect=comparison.effect,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        level=1 - alpha,
        se=interval.se if interval else None,
        df=interval.df if interval else None,
        method=interval.method if interval else "none",
        p_value=interval.p_value if isinstance(interval, Difference) else None,
        n_items=comparison.n,
        n_clusters=comparison.n_clusters,
        margin=margin,
        equivalence=(narrow.low, narrow.high) if narrow else None,
        more_needed=more_needed,
        reason=_reason(outcome, interval, narrow, margin) if interval else _obstacle(comparison),
    )


def _outcome(interval: Interval | None, narrow: Interval | None, margin: float) -> Outcome:
    if interval is None:
        return "not enough data"
    if narrow is not None and -margin < narrow.low and narrow.high < margin:
        return "equivalent"
    if interval.low > 0:
        return "better"
    return "worse" if interval.high < 0 else "not enough data"


def _reason(outcome: Outcome, interval: Interval, narrow: Interval | None, margin: float) -> str:
    if outcome == "equivalent" and narrow is not None:
        return f"{_ends(narrow)} lies within the margin of {margin:g}"
    if outcome == "not enough data":
        beyond = f" and reaches beyond the margin of {margin:g}" if margin > 0 else ""
        return f"{_ends(interval)} includes 0{beyond}"
    nearest = min(abs(interval.low), abs(interval.high))
    small = f"; it may be by less than the margin of {margin:g}" if nearest < margin else ""
    return f"{_ends(interval)} lies {'above' if outcome == 'better' else 'below'} 0{small}"


def _ends(interval: Interval) -> str:
    return f"the {100 * interval.level:.4g}% interval, {interval.low:.4g} to {interval.high:.4g},"


def _obstacle(comparison: Comparison) -> str:
    if comparison.n < 2:
        return "one item does not show how much items differ; add items"
    if comparison.draws < 2:
        return "all items are in one cluster, so nothing shows how much clusters differ; add items of others"
    return (
        f"all {comparison.draws} differences equal {comparison.effect:g}, so nothing shows how far others "
        "may lie from it; add items, or give the range of the score (bounds)"
    )
