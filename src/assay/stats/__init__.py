"""Statistics: intervals, comparisons, plans and the decision. Pure functions on numpy; no I/O, no storage.

`decide` compares B with A; `score_interval` gives one experiment's mean its interval. The rest is what they
are built from, for those who want a certain method. docs/explanation/statistics.md says which one when.
"""

from __future__ import annotations

from assay.stats.betting import EProcess, betting_interval, mean_e_process, paired_e_process
from assay.stats.decision import Outcome, Verdict, decide
from assay.stats.intervals import (
    Interval,
    clustered_interval,
    constant_interval,
    item_means,
    mean_interval,
    score_interval,
    wilson_interval,
)
from assay.stats.paired import (
    Difference,
    mcnemar_exact,
    paired_difference,
    paired_proportions,
    unpaired_difference,
)
from assay.stats.passk import pass_at_k, pass_hat_k
from assay.stats.power import PairedNoise, items_for_equivalence, items_to_detect, minimum_detectable_effect
from assay.stats.variance import VarianceSplit, split_judged_variance, split_variance

__all__ = [
    "Difference",
    "EProcess",
    "Interval",
    "Outcome",
    "PairedNoise",
    "VarianceSplit",
    "Verdict",
    "betting_interval",
    "clustered_interval",
    "constant_interval",
    "decide",
    "item_means",
    "items_for_equivalence",
    "items_to_detect",
    "mcnemar_exact",
    "mean_e_process",
    "mean_interval",
    "minimum_detectable_effect",
    "paired_difference",
    "paired_e_process",
    "paired_proportions",
    "pass_at_k",
    "pass_hat_k",
    "score_interval",
    "split_judged_variance",
    "split_variance",
    "unpaired_difference",
    "wilson_interval",
]
