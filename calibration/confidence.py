"""Exact (Clopper-Pearson) confidence limits of a share, without scipy."""

import math


def upper(errors: int, of: int, confidence: float = 0.95) -> float:
    """Return the one-sided upper limit of the true share when `errors` of `of` were seen; 1.0 for of = 0."""
    if of == 0 or errors >= of:
        return 1.0
    low, high = errors / of, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if at_most(errors, of, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def lower(hits: int, of: int, confidence: float = 0.95) -> float:
    """Return the one-sided lower limit of the true share when `hits` of `of` were seen; 0.0 for of = 0."""
    return 1.0 - upper(of - hits, of, confidence) if of else 0.0


def parts_needed(errors: int, share: float, confidence: float = 0.95) -> int:
    """Return the fewest parts of which `errors` may be wrong so that `upper` is at most `share` (0 < share < 1)."""
    low, high = errors, errors + 1
    while at_most(errors, high, share) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if at_most(errors, middle, share) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def at_most(k: int, n: int, p: float) -> float:
    """Return P(X <= k) for a binomial X."""
    if p <= 0:
        return 1.0
    if p >= 1:
        return float(k >= n)
    logs = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k + 1)
    ]
    return sum(map(math.exp, logs))


def by_chance(k: int, n: int, other_k: int, other_n: int) -> float:
    """Return how likely k of n or more are if the true share is no larger than where other_k of other_n were seen.

    Fisher's exact test, one-sided (R. A. Fisher, The Design of Experiments, 1935).
    """
    hits, of = k + other_k, n + other_n
    ways = sum(math.comb(n, i) * math.comb(other_n, hits - i) for i in range(k, min(n, hits) + 1))
    return ways / math.comb(of, hits)
