import math

import numpy as np
import pytest

from mlpx.experiments.poly import data as polynomial


@pytest.mark.parametrize("degree", [0, 1, 3, 7, 19])
@pytest.mark.parametrize("noise_std", [0.0, 0.1, 2.0])
def test_generalization_loss_equals_gauss_hermite_quadrature(degree: int, noise_std: float) -> None:
    rng = np.random.default_rng(degree)
    weights = rng.normal(size=degree + 1)
    nodes, masses = np.polynomial.hermite_e.hermegauss(60)
    masses = masses / math.sqrt(2 * math.pi)
    error = polynomial.features(nodes, degree) @ weights - polynomial.true_curve(nodes)
    expected = masses @ error**2 + noise_std**2
    assert polynomial.generalization_loss(weights, noise_std) == pytest.approx(expected, rel=1e-9)


def test_generalization_loss_of_the_truth_is_the_noise() -> None:
    assert polynomial.generalization_loss(polynomial.true_weights(20), 0.1) == pytest.approx(0.01, abs=1e-15)


def test_generalization_loss_takes_replicas() -> None:
    weights = np.random.default_rng(0).normal(size=(5, 8))
    each = [polynomial.generalization_loss(w, 0.1) for w in weights]
    np.testing.assert_allclose(polynomial.generalization_loss(weights, 0.1), each, rtol=1e-12)


def test_moments_by_hand() -> None:
    # E[x^2] = 1, E[x^4] = 3, E[x^6] = 15; phi_2 = x^2/2, phi_3 = x^3/6
    expected = [[1, 0, 1 / 2, 0], [0, 1, 0, 3 / 6], [1 / 2, 0, 3 / 4, 0], [0, 3 / 6, 0, 15 / 36]]
    np.testing.assert_allclose(polynomial.moments(4), expected, rtol=1e-15)


def test_signal_variance_by_quadrature() -> None:
    nodes, masses = np.polynomial.hermite_e.hermegauss(20)
    masses = masses / math.sqrt(2 * math.pi)
    y = polynomial.true_curve(nodes)
    assert polynomial.signal_variance() == pytest.approx(masses @ y**2 - (masses @ y) ** 2, rel=1e-12)


def test_true_curve_is_the_textbooks_cubic() -> None:
    x = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(polynomial.true_curve(x), 5 + 1.2 * x - 3.4 * x**2 / 2 + 5.6 * x**3 / 6, atol=1e-12)


def test_fewer_examples_are_the_first_of_the_many_and_leave_the_test_set_alone() -> None:
    train, test = polynomial.sample(3, 100, 50, 0.1)
    few, same = polynomial.sample(3, 2, 50, 0.1)
    np.testing.assert_array_equal(few.x, train.x[:2])
    np.testing.assert_array_equal(few.y, train.y[:2])
    np.testing.assert_array_equal(same.y, test.y)
    assert not np.isin(test.x, train.x).any()


def test_sample_has_the_stated_distribution() -> None:
    train, _ = polynomial.sample(0, 200_000, 1, 0.1)
    noise = train.y - polynomial.true_curve(train.x)
    assert abs(train.x.mean()) < 0.01
    assert train.x.std() == pytest.approx(1, abs=0.01)
    assert abs(noise.mean()) < 0.001
    assert noise.std() == pytest.approx(0.1, abs=0.001)
    assert abs(np.corrcoef(noise, train.x)[0, 1]) < 0.01
