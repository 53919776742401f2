import itertools

import pytest

from mlpx.training.schedules import Schedule, learning_rate


@pytest.mark.parametrize(
    ("schedule", "warmup_steps", "expected"),
    [  # of ten steps
        ("linear", 0, [10 / 11, 9 / 11, 8 / 11, 7 / 11, 6 / 11, 5 / 11, 4 / 11, 3 / 11, 2 / 11, 1 / 11]),
        ("linear", 1, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ("linear", 3, [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ("linear", 10, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        ("linear", 20, [step / 20 for step in range(1, 11)]),
        ("inverse-sqrt", 0, [1, 0.70710678, 0.57735027, 0.5, 0.44721360, 0.40824829]),
        ("inverse-sqrt", 1, [1, 0.70710678, 0.57735027, 0.5, 0.44721360, 0.40824829]),
        ("inverse-sqrt", 4, [0.25, 0.5, 0.75, 1, 0.89442719, 0.81649658, 0.75592895, 0.70710678, 2 / 3]),
    ],
)
def test_rates_of_hand_worked_values(schedule: Schedule, warmup_steps: int, expected: list[float]) -> None:
    found = [learning_rate(schedule, 0.5, step, warmup_steps, 10) for step in range(1, len(expected) + 1)]
    assert found == pytest.approx([0.5 * value for value in expected], rel=1e-7)


def test_inverse_sqrt_equals_equation_3_of_the_paper() -> None:
    d_model, warmup_steps = 512, 4000
    lr = d_model**-0.5 * warmup_steps**-0.5
    for step in (1, 2, 3999, 4000, 4001, 100_000):
        expected = d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)
        assert learning_rate("inverse-sqrt", lr, step, warmup_steps, 100_000) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "inverse-sqrt"])
@pytest.mark.parametrize("warmup_steps", [0, 1, 2, 500, 999, 1000, 1001, 5000])
def test_the_rate_rises_evenly_to_its_peak_without_a_leap_and_falls_from_there_but_never_to_zero(
    schedule: Schedule, warmup_steps: int
) -> None:
    rates = [learning_rate(schedule, 0.1, step, warmup_steps, 1000) for step in range(1, 1001)]
    peak = min(max(warmup_steps, 1), 1000)
    assert max(rates) == rates[peak - 1]
    assert min(rates) > 0
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak - 1 :] == sorted(rates[peak - 1 :], reverse=True)
    if warmup_steps:
        assert rates[:peak] == pytest.approx([0.1 * step / warmup_steps for step in range(1, peak + 1)])
    if 0 < warmup_steps <= 1000:
        assert rates[peak - 1] == pytest.approx(0.1)
        assert all(abs(after - before) <= 0.1 / min(warmup_steps, 2) for before, after in itertools.pairwise(rates))


def test_linear_reaches_zero_a_step_after_the_last() -> None:
    assert learning_rate("linear", 0.1, 1001, 100, 1000) == 0
    assert learning_rate("linear", 0.1, 1000, 100, 1000) == pytest.approx(0.1 / 901)
