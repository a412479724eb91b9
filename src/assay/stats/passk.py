"""pass@k and pass^k of one item, unbiased. Their mean over items gets its interval from intervals."""

from __future__ import annotations

from math import comb


def pass_at_k(n: int, passed: int, k: int) -> float:
    """The chance that at least one of k attempts passes, from n attempts of which `passed` did.

    1 - C(n-c, k)/C(n, k). Source: Chen et al. 2021, arXiv 2107.03374.

    >>> round(pass_at_k(10, 3, 5), 5)
    0.91667
    """
    _check(n, passed, k)
    return 1.0 - comb(n - passed, k) / comb(n, k)


def pass_hat_k(n: int, passed: int, k: int) -> float:
    """The chance that all of k attempts pass (pass^k, reliability), from n attempts of which `passed` did.

    C(c, k)/C(n, k); the plug-in (c/n)^k is biased. Source: tau-bench, arXiv 2406.12045.

    >>> round(pass_hat_k(8, 6, 4), 5)
    0.21429
    """
    _check(n, passed, k)
    return comb(passed, k) / comb(n, k)


def _check(n: int, passed: int, k: int) -> None:
    if not 0 <= passed <= n:
        raise ValueError(f"{passed} of {n} attempts passed: give passed between 0 and n")
    if not 1 <= k <= n:
        raise ValueError(
            f"k is {k} with {n} attempts: k lies between 1 and n; run at least {max(k, 1)} repeats"
        )
