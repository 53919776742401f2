"""Comparing the same metrics of several sides, paired by seed: how large a difference is, and whether it is chance.

A seed decides the data, the initial weights or the batch order of a training, so two sides with the same seed have much
of the chance in common. Therefore all that is said here is about the differences of pairs.

Sources: Bouthillier et al., "Accounting for Variance in Machine Learning Benchmarks" (2021), for pairing; Efron and
Tibshirani, "An Introduction to the Bootstrap" (1993), sections 14.3 (BCa) and 15.2 (permutation tests); Holm, "A
Simple Sequentially Rejective Multiple Test Procedure" (1979).
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Verdict = Literal["none", "too few", "chance", "more than chance"]

ROUNDING = 1e-4
"""A difference of a pair is rounding if it is below this share of the mean size of the values."""
LEVEL = 0.05
"""An adjusted p of at most this is called more than chance."""
CONFIDENCE = 0.95
RESAMPLES = 9_999
FLIPS = 99_999
FLIPPED_VALUES = 20_000_000
"""Of more than 200 pairs, so many signs are drawn in all, which takes about two seconds."""
BATCH_VALUES = 2**18
"""The number of values that are drawn at once; it keeps both memory and time low."""
LARGEST = 1e100
"""A value beyond this counts as not finite, since its square could overflow."""


@dataclass(frozen=True)
class Comparison:
    """A metric of one side, compared with that of the first side.

    Args:
        metric: The name of the metric.
        first: The name of the first side.
        other: The name of the side that is compared with it.
        seeds: The seeds of the pairs.
        first_mean: The mean over the seeds.
        first_std: The standard deviation (n - 1); ``None`` for one seed.
        other_mean: The mean of the other side.
        other_std: Its standard deviation.
        difference: The mean over the pairs of other - first.
        ratio: ``other_mean`` / ``first_mean``; ``nan`` where that is 0.
        interval: The confidence interval of the difference; ``None`` where all differences are alike.
        lower: The number of seeds in which the other side is lower by more than rounding.
        higher: The number of seeds in which it is higher.
        p: The probability of a mean difference of at least this size if the sign of each difference were chance.
        p_holm: ``p``, adjusted for the number of comparisons.
        fewest: The smallest number of seeds that could tell a difference from chance in so many comparisons.
    """

    metric: str
    first: str
    other: str
    seeds: Sequence[int]
    first_mean: float
    first_std: float | None
    other_mean: float
    other_std: float | None
    difference: float
    ratio: float
    interval: tuple[float, float] | None
    lower: int
    higher: int
    p: float
    p_holm: float = 1.0
    fewest: int = 0

    @property
    def verdict(self) -> Verdict:
        """What follows: no difference but rounding, too few seeds to tell, perhaps chance, or more than chance."""
        if not self.lower and not self.higher:
            return "none"
        if self.p_holm <= LEVEL:
            return "more than chance"
        return "too few" if len(self.seeds) < self.fewest else "chance"

    def as_json(self) -> dict[str, Any]:
        """The comparison as JSON has it."""
        low, high = self.interval or (None, None)
        return {
            "metric": self.metric,
            "first": self.first,
            "side": self.other,
            "n": len(self.seeds),
            "seeds": list(self.seeds),
            "first_mean": self.first_mean,
            "first_std": self.first_std,
            "mean": self.other_mean,
            "std": self.other_std,
            "diff": self.difference,
            "ratio": self.ratio,
            "low": low,
            "high": high,
            "p": self.p,
            "p_holm": self.p_holm,
            "lower": self.lower,
            "higher": self.higher,
            "fewest": self.fewest,
            "verdict": self.verdict,
        }


def compare(names: Sequence[str], values: Mapping[str, Sequence[Mapping[int, float]]]) -> list[Comparison]:
    """Compare each side with the first.

    Args:
        names: The names of the sides.
        values: For each metric its value for each seed, of each side in the order of ``names``.

    Returns:
        For each metric a comparison with each side but the first. Seeds that a side lacks, or of which it has a value
        that is not finite, are left out; a metric of which no seed remains is not compared.
    """
    comparisons = []
    for metric, of_sides in values.items():
        seeds = paired(of_sides)
        if seeds:
            first, *others = (_array(side, seeds) for side in of_sides)
            comparisons += [
                _compared(metric, names[0], name, seeds, first, other)
                for name, other in zip(names[1:], others, strict=True)
            ]
    adjusted = holm([comparison.p for comparison in comparisons])
    fewest = fewest_seeds(len(comparisons))
    return [replace(each, p_holm=p, fewest=fewest) for each, p in zip(comparisons, adjusted, strict=True)]


def paired(of_sides: Sequence[Mapping[int, float]]) -> list[int]:
    """The seeds of which each side has a finite value."""
    first, *_ = of_sides
    return sorted(seed for seed in first if all(abs(side.get(seed, math.nan)) <= LARGEST for side in of_sides))


def differences_and_ratios(of_sides: Sequence[Mapping[int, float]]) -> list[tuple[float, float]]:
    """For each side but the first the mean over the pairs of its value - the first's, and the ratio of the means.

    They are those of :func:`compare`, and ``nan`` where no seed remains.
    """
    seeds = paired(of_sides)
    first, *others = (_array(side, seeds) for side in of_sides)
    return [_difference_and_ratio(first, other) if seeds else (math.nan, math.nan) for other in others]


def holm(ps: Sequence[float]) -> list[float]:
    """Each p adjusted by Holm's method: the smallest times their number k, the next times k - 1, never decreasing."""
    adjusted, greatest = [1.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        greatest = max(greatest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = greatest
    return adjusted


def fewest_seeds(comparisons: int) -> int:
    """The smallest n whose smallest p, 2 / 2ⁿ, is still at most the level after Holm's correction."""
    n = 1
    while comparisons * 2 / 2**n > LEVEL:
        n += 1
    return n


def sign_flip_p(differences: "Array") -> float:
    """The two-sided p of a mean difference if the sign of each difference were chance.

    All 2ⁿ ways to choose the signs of n pairs are counted, unless they are more than :data:`FLIPS`; then so many random
    ways are, drawn with a fixed seed. Of more than 200 pairs fewer ways are drawn, at least 9,999, to save time.
    """
    import numpy as np

    if len(differences) < 2 or not differences.any():
        return 1.0
    from scipy.stats import permutation_test

    result = permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=max(RESAMPLES, min(FLIPS, FLIPPED_VALUES // len(differences))),
        batch=_batch(differences),
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def bca_interval(differences: "Array") -> tuple[float, float] | None:
    """The confidence interval of the mean difference by the BCa bootstrap, with a fixed seed.

    ``None`` where there is none: for one difference, or where all are alike.
    """
    import numpy as np

    if np.ptp(differences) == 0:
        return None
    from scipy.stats import DegenerateDataWarning, bootstrap

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        result = bootstrap(
            (differences,),
            np.mean,
            method="BCa",
            confidence_level=CONFIDENCE,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=_batch(differences),
            rng=np.random.default_rng(0),
        )
    low, high = map(float, result.confidence_interval)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _batch(differences: "Array") -> int:
    return max(100, BATCH_VALUES // len(differences))


def _array(side: Mapping[int, float], seeds: Iterable[int]) -> "Array":
    import numpy as np

    return np.array([side[seed] for seed in seeds], dtype=np.float64)


def _difference_and_ratio(first: "Array", other: "Array") -> tuple[float, float]:
    denominator = float(first.mean())
    return float((other - first).mean()), float(other.mean()) / denominator if denominator else math.nan


def _compared(
    metric: str, first_name: str, other_name: str, seeds: Sequence[int], first: "Array", other: "Array"
) -> Comparison:
    import numpy as np

    difference, ratio = _difference_and_ratio(first, other)
    # Some metrics, such as a gap, have values of both signs; what rounding does to them goes by their size.
    rounding = ROUNDING * np.abs([first, other]).mean()
    differences = np.where(np.abs(other - first) < rounding, 0.0, other - first)
    several = len(seeds) > 1
    return Comparison(
        metric=metric,
        first=first_name,
        other=other_name,
        seeds=seeds,
        first_mean=float(first.mean()),
        first_std=float(first.std(ddof=1)) if several else None,
        other_mean=float(other.mean()),
        other_std=float(other.std(ddof=1)) if several else None,
        difference=difference,
        ratio=ratio,
        interval=bca_interval(differences),
        lower=int((differences < 0).sum()),
        higher=int((differences > 0).sum()),
        p=sign_flip_p(differences),
    )
