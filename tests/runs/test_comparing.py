"""What is said of paired differences, against truths of its own: enumeration, published examples, numbers by hand."""

import itertools
import math
import statistics
import time
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from mlpx.runs import comparing
from mlpx.runs.comparing import Comparison

# Darwin's maize: pairs of a crossed and a self-fertilized plant, the differences of heights in eighths of an inch.
# Fisher (The Design of Experiments, 1935, section 21) went through all 2¹⁵ choices of signs: of 863 the sum is at
# least 314.
DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)


def by_enumeration(differences: Sequence[float]) -> float:
    """The share of all choices of signs whose sum is at least as far from 0 as that of the differences."""
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(differences))))
    sums = np.abs(signs @ np.array(differences))
    return float((sums >= abs(sum(differences)) - 1e-9).mean())


def compared(differences: Sequence[float] | NDArray[np.float64], base: float = 1.0) -> Comparison:
    """One metric of two sides with these differences."""
    first = dict.fromkeys(range(len(differences)), base)
    other = {seed: base + float(difference) for seed, difference in enumerate(differences)}
    (comparison,) = comparing.compare(["a", "b"], {"loss": [first, other]})
    return comparison


@pytest.mark.parametrize("n", range(2, 12))
def test_p_is_the_share_of_all_choices_of_signs(n: int) -> None:
    draws = np.random.default_rng(n)
    for differences in (draws.normal(0.5, 1, n), draws.integers(-3, 6, n).astype(float), draws.exponential(size=n)):
        if differences.any():
            assert comparing.sign_flip_p(differences) == pytest.approx(by_enumeration(list(differences)), abs=1e-12)


def test_p_is_what_fisher_found_for_darwins_maize() -> None:
    assert comparing.sign_flip_p(DARWIN) == pytest.approx(2 * 863 / 2**15, abs=1e-12)
    assert comparing.sign_flip_p(-DARWIN) == comparing.sign_flip_p(DARWIN)


def test_p_of_many_pairs_is_that_of_all_choices_of_signs_but_for_sampling() -> None:
    differences = np.random.default_rng(3).integers(-4, 8, 40)
    # How many of the 2⁴⁰ choices have which sum: one difference after the other.
    ways = {0: 1}
    for difference in map(int, differences):
        grown: dict[int, int] = {}
        for total, count in ways.items():
            for signed in (total - difference, total + difference):
                grown[signed] = grown.get(signed, 0) + count
        ways = grown
    observed = abs(int(differences.sum()))
    exact = sum(count for total, count in ways.items() if abs(total) >= observed) / 2**40
    assert 0.001 < exact < 0.1
    found = comparing.sign_flip_p(differences.astype(float))
    assert found == pytest.approx(exact, abs=5 * math.sqrt(exact / comparing.FLIPS))
    assert found == comparing.sign_flip_p(differences.astype(float))  # the seed is fixed


def test_thousands_of_replicas_take_seconds() -> None:
    differences = np.random.default_rng(0).normal(0.02, 1, size=2000)
    began = time.process_time()
    p = comparing.sign_flip_p(differences)
    assert time.process_time() - began < 8
    normal = math.erfc(abs(differences.sum()) / math.sqrt(2 * (differences**2).sum()))
    assert 0.05 < normal < 0.95
    assert p == pytest.approx(normal, abs=0.03)


def test_a_hundred_replicas_take_little_memory() -> None:
    differences = np.random.default_rng(0).normal(size=100)
    compared(differences)
    tracemalloc.start()
    compared(differences)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * 2**20


def test_the_interval_is_that_of_the_package_boot_of_r() -> None:
    # From scipy's own tests (test_resampling.py, test_bootstrap_against_R): boot.ci of the mean, 10⁶ resamples. Its
    # percentile interval, 28.86 to 84.21, is another; 9,999 resamples move an end by some 0.5.
    values = np.array([10, 12, 12.5, 12.5, 13.9, 15, 21, 22, 23, 34, 50, 81, 89, 121, 134, 213])
    assert comparing.bca_interval(values) == pytest.approx((32.31, 91.43), abs=1.5)
    assert comparing.bca_interval(values) == comparing.bca_interval(values)


def test_the_interval_follows_the_formulas_of_the_book() -> None:
    """Efron and Tibshirani, equations 14.10, 14.14 and 14.15, with resamples of its own."""
    normal = statistics.NormalDist()
    values = np.random.default_rng(5).exponential(size=12)
    n, mean = len(values), values.mean()
    means = np.sort(values[np.random.default_rng(6).integers(0, n, (200_000, n))].mean(axis=1))
    bias = normal.inv_cdf(float((means < mean).mean()))
    jackknife = (values.sum() - values) / (n - 1)
    spread = jackknife.mean() - jackknife
    acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    shifted = (bias + normal.inv_cdf(0.025), bias + normal.inv_cdf(0.975))
    ends = np.quantile(means, [normal.cdf(bias + z / (1 - acceleration * z)) for z in shifted])
    assert comparing.bca_interval(values) == pytest.approx(ends, abs=0.03 * (ends[1] - ends[0]))


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    """Of 400 draws of 20 normal differences.

    The bootstrap's interval of a mean of 20 is too short, as it has z in place of t and n in place of n - 1: a t of 19
    degrees of freedom lies within 1.96 √(19/20) of 0 in 92.9 %. Two standard errors of 400 draws are 2.6 %.
    """
    draws = np.random.default_rng(20261126).normal(0.3, 1, (400, 20))
    intervals = [comparing.bca_interval(differences) for differences in draws]
    covered = sum(low <= 0.3 <= high for low, high in filter(None, intervals))
    print(f"\ncovered in {covered} of {len(intervals)}")
    assert 0.903 <= covered / 400 <= 0.955


def test_holm_is_as_worked_by_hand() -> None:
    # In order .005 × 4 = .02, .01 × 3 = .03, .03 × 2 = .06, and .04 × 1 = .04, which may not be below .06.
    assert comparing.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert comparing.holm([0.6, 0.7]) == [1, 1]
    assert comparing.holm([0.03]) == [0.03]
    assert comparing.holm([]) == []


def test_of_200_null_pairs_of_ten_seeds_hardly_more_than_a_twentieth_are_called_more_than_chance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparing, "RESAMPLES", 99)  # the intervals are not looked at
    draws = np.random.default_rng(17)
    verdicts = [compared(draws.normal(size=10), base=10).verdict for _ in range(200)]
    print(f"\n{verdicts.count('more than chance')} of 200")
    assert 3 <= verdicts.count("more than chance") <= 16
    assert set(verdicts) == {"chance", "more than chance"}


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_five_seeds_never_give_a_verdict(n: int) -> None:
    for differences in (np.full(n, 100.0), np.arange(1.0, n + 1), -(np.arange(1.0, n + 1) ** 9)):
        comparison = compared(differences)
        assert (comparison.verdict, comparison.fewest) == ("too few", 6)
        assert comparison.p >= 0.0625


@pytest.mark.parametrize(("count", "fewest"), [(1, 6), (2, 7), (3, 7), (4, 8), (6, 8), (7, 9)])
def test_the_fewest_seeds_tell_and_one_less_does_not(count: int, fewest: int) -> None:
    for n, verdict in ((fewest - 1, "too few"), (fewest, "more than chance")):
        first = dict.fromkeys(range(n), 1.0)
        other = {seed: 2.0 + seed for seed in range(n)}
        comparisons = comparing.compare(["a", "b"], {str(number): [first, other] for number in range(count)})
        assert {(each.verdict, each.fewest) for each in comparisons} == {(verdict, fewest)}


def test_holm_counts_every_metric_and_every_side() -> None:
    first = dict.fromkeys(range(8), 1.0)
    other = {seed: 2.0 + seed for seed in range(8)}
    comparisons = comparing.compare(["a", "b", "c"], {"x": [first, other, first], "y": [first, other, other]})
    assert [(each.metric, each.first, each.other) for each in comparisons] == [
        ("x", "a", "b"),
        ("x", "a", "c"),
        ("y", "a", "b"),
        ("y", "a", "c"),
    ]
    assert [each.p for each in comparisons] == [2 / 2**8, 1, 2 / 2**8, 2 / 2**8]
    assert [each.p_holm for each in comparisons] == [4 * 2 / 2**8, 1, 4 * 2 / 2**8, 4 * 2 / 2**8]
    assert [each.verdict for each in comparisons] == ["more than chance", "none", *2 * ["more than chance"]]


def test_means_deviations_and_counts_are_as_worked_by_hand() -> None:
    first = {3: 1.0, 1: 2.0, 2: 4.0}
    other = {1: 1.0, 2: 4.0, 3: 4.0, 4: 9.0}  # 4 has no pair
    (comparison,) = comparing.compare(["a", "b"], {"loss": [first, other]})
    assert comparison.seeds == [1, 2, 3]
    assert (comparison.first_mean, comparison.other_mean) == pytest.approx((7 / 3, 3))
    assert comparison.first_std == pytest.approx(statistics.stdev([1, 2, 4]))
    assert comparison.other_std == pytest.approx(statistics.stdev([1, 4, 4]))
    assert comparison.difference == pytest.approx((-1 + 0 + 3) / 3)
    assert comparison.ratio == pytest.approx(9 / 7)
    assert (comparison.lower, comparison.higher) == (1, 1)
    assert comparing.differences_and_ratios([first, other]) == [(comparison.difference, comparison.ratio)]
    # With a third side, only what all three have counts.
    third = {1: 5.0, 2: 6.0}
    comparisons = comparing.compare(["a", "b", "c"], {"loss": [first, other, third]})
    assert [(each.difference, each.first_mean) for each in comparisons] == [(-0.5, 3), (2.5, 3)]
    pairs = comparing.differences_and_ratios([first, other, third])
    assert pairs == [(each.difference, each.ratio) for each in comparisons]


def test_differences_below_a_ten_thousandth_of_the_mean_are_rounding() -> None:
    rounding = compared([0.0009, -0.0009, 0.0005] * 3, base=10)
    assert (rounding.verdict, rounding.lower, rounding.higher, rounding.p, rounding.interval) == ("none", 0, 0, 1, None)
    assert rounding.difference == pytest.approx(0.0005 / 3)  # as it is
    mixed = [0.0009, -0.0009, 0.0011, 0.5, 0.25, 0.3, 0.2]
    comparison = compared(mixed, base=10)
    assert (comparison.lower, comparison.higher) == (0, 5)
    zeroed = [0, 0, *mixed[2:]]
    assert comparison.p == pytest.approx(by_enumeration(zeroed))
    assert comparison.interval == pytest.approx(comparing.bca_interval(np.array(zeroed)), abs=1e-3)
    assert comparison.difference == pytest.approx(statistics.fmean(mixed))


def test_rounding_of_values_of_both_signs_goes_by_their_size() -> None:
    first = {seed: (-1.0) ** seed for seed in range(8)}
    other = {seed: value + 5e-5 for seed, value in first.items()}
    (comparison,) = comparing.compare(["a", "b"], {"gap": [first, other]})
    assert comparison.verdict == "none"


def test_one_seed_and_equal_differences_have_no_interval() -> None:
    one = compared([0.5])
    assert (one.interval, one.first_std, one.other_std, one.p) == (None, None, None, 1)
    alike = compared([0.5] * 8)
    assert (alike.interval, alike.verdict) == (None, "more than chance")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e200])
def test_a_value_that_is_not_finite_leaves_its_pair_out(value: float) -> None:
    sides = [{0: 1.0, 1: 1.0, 2: 1.0}, {0: 2.0, 1: value, 2: 2.0}, {0: 2.0, 1: 2.0, 2: 3.0}]
    comparisons = comparing.compare(["a", "b", "c"], {"loss": sides, "other": [{0: value}, {0: 1.0}, {0: 1.0}]})
    assert [(each.metric, each.seeds) for each in comparisons] == [("loss", [0, 2]), ("loss", [0, 2])]
    ((difference, ratio),) = comparing.differences_and_ratios([{0: value}, {0: 1.0}])
    assert math.isnan(difference)
    assert math.isnan(ratio)


def test_the_ratio_to_nothing_is_no_number() -> None:
    ((difference, ratio),) = comparing.differences_and_ratios([{0: 0.0}, {0: 1.0}])
    assert difference == 1
    assert math.isnan(ratio)
