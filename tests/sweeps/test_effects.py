"""The picture of a sweep: what is drawn for which design."""

import itertools
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sweeping import Figures, Measure, end_run, losses, make_sweep, scores

from mlpx.errors import Diverged, InputError
from mlpx.plots import figure
from mlpx.runs import records
from mlpx.sweeps import effects, folder
from mlpx.sweeps.request import Request

DIVERGED = Diverged("diverged", "train_loss is nan at epoch 20", "Try a lower --lr.")
NAMES = ("training", "test (a sample)", "generalization (exact)")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures of which a PNG file is made."""
    figures: list[Figure] = []
    to_png = figure.png

    def png(each: Figure) -> bytes:
        figures.append(each)
        return to_png(each)

    monkeypatch.setattr(figure, "png", png)
    return figures


@pytest.fixture
def draw(tmp_path: Path, drawn: list[Figure]) -> Any:
    """Draw the picture of a sweep that has been asked for."""

    def draw(experiment: str, asked: Mapping[str, str], measure: Measure, **options: Any) -> list[Axes]:
        sweep = make_sweep(tmp_path, experiment, asked, measure, **options)
        found, warnings = records.read_all(sweep.runs())
        assert not warnings
        assert effects.picture(sweep, found).startswith(b"\x89PNG")
        return drawn[-1].axes

    return draw


def xs(line: Line2D) -> list[float]:
    """Where the points of a line lie."""
    return [float(x) for x in np.asarray(line.get_xdata(), dtype=float)]


def ys(line: Line2D) -> list[float]:
    """How high the points of a line lie."""
    return [float(y) for y in np.asarray(line.get_ydata(), dtype=float)]


def points(dots: Collection) -> list[list[float]]:
    """The places of dots."""
    found: list[list[float]] = np.asarray(dots.get_offsets(), dtype=float).tolist()
    return found


def words(axes: Axes) -> str:
    """The title of the figure, and what stands below it."""
    assert isinstance(axes.figure, Figure)
    return f"{axes.figure.get_suptitle()} | {axes.figure.texts[-1].get_text()}"


def curves(axes: Axes) -> dict[str, list[float]]:
    """The values of each curve that the legend names."""
    lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    return {str(line.get_label()): ys(line) for line in lines}


def legend(axes: Axes) -> list[str]:
    """The entries of the legend."""
    found = axes.get_legend()
    return [text.get_text().replace("\n", " ") for text in found.get_texts()] if found else []


def test_over_one_setting_each_metric_has_a_curve_of_medians(draw: Any) -> None:
    (axes,) = draw("poly", {"degree": "0..5", "seed": "0..6", "epochs": "100"}, losses)
    assert words(axes) == "poly over degree (epochs 100) | median and band of eight in ten over 7 seeds"
    assert xs(axes.lines[0]) == [0, 1, 2, 3, 4, 5]
    assert list(curves(axes)) == list(NAMES)
    exact = [0.01 * (1 + abs(degree - 3)) * 1.03 * math.exp(0.01) for degree in range(6)]
    assert curves(axes)["generalization (exact)"] == pytest.approx(exact)
    assert curves(axes)["training"] == pytest.approx([each / 2 for each in exact])
    assert axes.get_yscale() == "log"
    assert len(axes.collections) == 3


def test_metrics_of_another_axis_have_a_panel_of_their_own_and_lists_are_texts_as_asked_for(draw: Any) -> None:
    left, right = draw("mlp", {"hidden": "512x256,none,64", "seed": "0..2"}, scores)
    assert words(left) == "mlp over hidden | median and band from least to greatest over 3 seeds"
    assert [left.get_title(), right.get_title()] == ["cross-entropy", "accuracy"]
    assert list(curves(left)) == ["training, while it learns", "test"]
    for axes in (left, right):
        assert [text.get_text() for text in axes.get_xticklabels()] == ["512x256", "none", "64"]
    medians = [0.8 + units / 10_000 + 0.002 for units in (768, 0, 64)]
    assert curves(right)["test"] == pytest.approx(medians)


def test_of_two_settings_the_one_with_more_numbers_lies_below_and_the_other_has_a_curve_for_each_value(
    draw: Any,
) -> None:
    (axes,) = draw("poly", {"degree": "3,9", "lr": "0.001..1..x10", "replicas": "5"}, losses)
    about = "solid: generalization (exact); dashed: training; median and band of eight in ten over 5 seeds"
    assert words(axes) == f"poly over lr and degree | {about}"
    assert axes.get_xscale() == "log"
    assert legend(axes) == ["3", "9"]
    for degree, factor in (("3", 1), ("9", 7)):
        exact = [0.01 * factor * 1.02 * math.exp(lr) for lr in (0.001, 0.01, 0.1, 1)]
        assert curves(axes)[degree] == pytest.approx(exact)
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [line.get_color() for line in dashed] == [line.get_color() for line in axes.lines[2:]]


def test_further_settings_are_pooled_and_said(draw: Any) -> None:
    asked = {"degree": "1..4", "lr": "0.1,0.2", "num_train": "50,100", "epochs": "10,20"}
    (axes,) = draw("poly", asked, lambda settings, seed: {
        name: value * settings.num_train * settings.epochs for name, value in losses(settings, seed).items()
    })  # fmt: skip
    assert words(axes).endswith("median and band from least to greatest over num train and epochs")
    products = sorted(examples * epochs for examples, epochs in itertools.product((50, 100), (10, 20)))
    expected = [0.01 * (1 + abs(degree - 3)) * math.exp(0.2) * statistics.median(products) for degree in range(1, 5)]
    assert curves(axes)["0.2"] == pytest.approx(expected)


def test_runs_and_replicas_without_a_value_are_marked_and_no_value_of_the_setting_is_left_out(draw: Any) -> None:
    def measure(settings: Any, seed: int) -> Figures | Exception | None:
        if settings.lr > 1:
            return DIVERGED
        if settings.lr == 1:
            return InputError("data", "is missing", "Fetch it.")
        if settings.lr == 0.1:
            return None
        return DIVERGED if settings.lr == 0.01 and seed == 4 else losses(settings, seed)

    (axes,) = draw("poly", {"lr": "0.001..10..x10", "replicas": "6"}, measure)
    low, high = axes.get_xlim()
    assert low < 0.001 < 10 < high
    assert np.isnan(curves(axes)["training"]).tolist() == [False, False, True, True, True]
    assert legend(axes)[3:] == [
        "diverged: 7 of 30 seeds",
        "not finished: 6 of 30 seeds",
        "failed: 6 of 30 seeds",
    ]
    assert [xs(line) for line in axes.lines[3:]] == [[0.01, 10], [0.1], [1]]


def test_a_sweep_of_which_nothing_has_finished_has_a_picture_of_marks(draw: Any) -> None:
    (axes,) = draw("poly", {"lr": "0.1,0.2"}, lambda settings, seed: DIVERGED)
    assert legend(axes)[3:] == ["diverged: 2 of 2 runs"]
    assert xs(axes.lines[-1]) == [0.1, 0.2]


@pytest.mark.parametrize("asked", [{"seed": "0..6"}, {"replicas": "7"}])
def test_seeds_alone_are_strips_of_dots(draw: Any, asked: Mapping[str, str]) -> None:
    def measure(settings: Any, seed: int) -> Figures | Exception:
        return DIVERGED if settings.replicas > 1 and seed == 2 else losses(settings, seed)

    (axes,) = draw("poly", asked, measure)
    lost = "; 1 diverged" if asked == {"replicas": "7"} else ""
    assert words(axes) == f"poly: 7 seeds | median and band of eight in ten over 7 seeds{lost}"
    assert [len(points(dots)) for dots in axes.collections] == [6 if lost else 7] * 3


def test_a_single_run_has_a_picture_too(draw: Any) -> None:
    left, right = draw("mlp", {"epochs": "3"}, scores)
    assert words(left) == "mlp: 1 seed (epochs 3) | one seed"
    assert [y for _, y in points(right.collections[0])] == pytest.approx([0.8256])


def test_changes_made_one_at_a_time_are_rows_of_differences_paired_by_seed(draw: Any) -> None:
    asked = {"hidden": "256,512", "dropout": "0,0.5", "jitter": "0,2", "flip": "false,true", "seed": "0..5"}

    def measure(settings: Any, seed: int) -> Figures | Exception:
        return DIVERGED if settings.dropout and seed == 5 else scores(settings, seed)

    (axes,) = draw("mlp", asked, measure, one_at_a_time=True)
    assert words(axes).startswith("mlp: each change of hidden 256, dropout 0.0, jitter 0, flip false | paired by seed")
    assert axes.get_xlabel() == "difference of the test accuracy, in percentage points (higher is better)"
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "hidden 512",
        "dropout 0.5",
        "jitter 2",
        "flip true",
    ]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    # In each seed the same, but for jitter: 0, 0.1 or 0.2 percentage points.
    assert [xs(dot)[0] for dot in dots] == pytest.approx([2.56, -5, 0.1, 0])
    notes = {text.get_text() for text in axes.texts}
    assert {"higher in 6 of 6", "lower in 5 of 5; 1 diverged", "higher in 4 of 6", "no difference"} <= notes
    assert "base: 82.73%" in notes
    # Four comparisons of six seeds each cannot be told from chance.
    assert {str(dot.get_markerfacecolor()) for dot in dots} == {"white"}


def test_changes_without_a_base_to_compare_with_are_rows_of_their_own(draw: Any) -> None:
    (axes,) = draw(
        *("mlp", {"hidden": "256,512", "dropout": "0,0.5", "seed": "0..5"}),
        lambda settings, seed: scores(settings, seed) if settings.dropout or settings.hidden == [512] else DIVERGED,
        one_at_a_time=True,
    )
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["hidden 512, dropout 0.0", "hidden 256, dropout 0.5", "hidden 256, dropout 0.0"]
    assert "6 diverged" in {text.get_text() for text in axes.texts}


def test_combinations_that_are_no_grid_are_rows_and_the_best_comes_first(draw: Any) -> None:
    cells = "degree,lr\n" + "".join(f"{number % 20},0.{number + 1}\n" for number in range(30))
    (axes,) = draw("poly", {"seed": "0..1"}, losses, cells=cells)
    assert words(axes).endswith("over 2 seeds; the best 24 of 30")
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert len(labels) == 24
    assert labels[:2] == ["degree 3, lr 0.4", "degree 3, lr 0.24"][::-1]
    dots = [xs(line)[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == sorted(dots)


def test_runs_of_an_earlier_request_stay_in_the_picture(draw: Any, drawn: list[Figure], tmp_path: Path) -> None:
    draw("poly", {"degree": "0..3"}, losses)
    (before,) = tmp_path.glob("2*")
    request = Request.read(before / folder.FILE).updated({"degree": "4..5", "lr": "0.01"}, {})
    sweep = folder.create_or_extend(before, request, request.design())
    for path in sweep.runs()[:2]:
        end_run(path, records.read(path).settings, losses)
    effects.picture(sweep, records.read_all(sweep.runs())[0])
    (axes,) = drawn[-1].axes
    assert xs(axes.lines[0]) == [0, 1, 2, 3, 4, 5]


def test_paths_of_any_kind_can_be_drawn(draw: Any, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("$\\frac$", "データ", "a" * 100)]
    files = ("train_src", "train_tgt", "val_src", "val_tgt", "test_src", "test_tgt")
    rows = [",".join(["task", *files]), *(",".join(["text", str(path), *(["x"] * 5)]) for path in paths)]
    axes = draw("transformer", {}, lambda settings, seed: {"train_loss": 1.0, "test_bleu": 30.0}, cells="\n".join(rows))
    shown = [text.get_text() for text in axes[0].get_xticklabels()]
    assert [text[:3] for text in shown] == ["..."] * 3
    assert {len(text) for text in shown} == {effects.MAX_TEXT}
    assert shown[0].endswith("$\\frac$")
    assert shown[1].endswith("/???")
