"""Many learned curves over the true one."""

import numpy as np

from mlpx.experiments.poly.plots import fit_curves


def test_each_panel_has_every_curve_and_a_scale_for_most_of_them() -> None:
    x = np.linspace(-3, 3, 61)
    true = x**2
    narrow = true + np.linspace(-0.1, 0.1, 21)[:, None] * np.ones_like(x)
    wild = np.vstack([narrow, true + 1000 * (np.abs(x) > 2.5)])
    figure = fit_curves("two", x, true, {"narrow": narrow, "wild": wild})
    upper, lower, upper_of_wild, lower_of_wild = figure.axes
    assert [len(axes.lines) - 1 for axes in (lower, lower_of_wild)] == [21, 22]
    assert [axes.get_title() for axes in (upper, upper_of_wild)] == ["narrow", "wild"]
    for axes in (lower, lower_of_wild):
        low, high = axes.get_ylim()
        assert -0.2 < low < -0.05 < 0.05 < high < 0.2
    low, high = upper_of_wild.get_ylim()
    assert low < 0 < 9 < high < 12
