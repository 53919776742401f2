"""What a sweep prints at its end: a table over seeds, the best of all, and what each change did."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Result
from sweeping import Figures, Measure, losses, make_sweep, scores

from mlpx.cli import streams
from mlpx.cli.sweep_end import print_results
from mlpx.errors import Diverged, InputError
from mlpx.runs import comparing, records, selecting

End = Callable[..., Result]
DIVERGED = Diverged("diverged", "train_loss is nan at epoch 20", "Try a lower --lr.")


@pytest.fixture
def end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> End:
    """What is printed at the end of a sweep that has been asked for."""

    def end(experiment: str, asked: Mapping[str, str], measure: Measure, **options: Any) -> Result:
        sweep = make_sweep(tmp_path, experiment, asked, measure, **options)
        found, warnings = records.read_all(sweep.runs())
        assert not warnings
        capfd.readouterr()
        with streams.protected():
            print_results(sweep, found)
        return Result(0, *capfd.readouterr())

    return end


def test_groups_are_sorted_by_the_last_main_metric_and_the_best_is_named(end: End) -> None:
    result = end("mlp", {"hidden": "none,512x256", "dropout": "0,0.5", "seed": "0..3"}, scores)
    lines = result.out.splitlines()
    assert lines[0] == "over 4 seeds, mean ± standard deviation"
    assert re.split(r"  +", lines[1].replace(" n ", "  n ")) == [
        "hidden",
        "dropout",
        "n",
        "train loss",
        "test loss",
        "test accuracy",
    ]
    rows = [re.split(r"  +", line) for line in lines[3:7]]
    assert [row[:3] for row in rows] == [
        ["512x256", "0.0", "4"],
        ["512x256", "0.5", "4"],
        ["none", "0.0", "4"],
        ["none", "0.5", "4"],
    ]
    # 0, 0.2, 0.4 and 0.1 percentage points of the four seeds, above 80 % and 7.68 % for 768 units.
    assert rows[0][-1] == "87.86% ± 0.17%"
    assert lines[7:] == ["The best by test accuracy: hidden 512x256, dropout 0.0."]
    assert result.err == "note: the best of 4 by test_accuracy, chosen on the test set: expect less on new data\n"


def test_what_was_not_chosen_on_the_test_set_has_no_such_note(end: End) -> None:
    result = end("poly", {"degree": "1..4", "replicas": "10"}, losses)
    assert [line.split()[:2] for line in result.out.splitlines()[3:-1]] == [[degree, "10"] for degree in "3241"]
    assert result.out.endswith("The best by generalization loss: degree 3.\n")
    assert result.err == ""


def test_seeds_without_a_value_are_counted_by_what_became_of_them(end: End) -> None:
    def measure(settings: Any, seed: int) -> Figures | Exception | None:
        if settings.degree == 19:
            return DIVERGED if seed < 4 else InputError("data", "is missing", "Fetch it.")
        return None if settings.degree == 5 else losses(settings, seed)

    lines = end("poly", {"degree": "3,19,5", "seed": "0..5"}, measure).out.splitlines()
    assert lines[1].endswith("no value")
    ends = [re.split(r" {2,}", line.strip()) for line in lines[4:6]]
    assert ends == [["19", "0", "4 diverged, 2 failed"], ["5", "0", "6 waiting"]]
    assert lines[3].split()[:2] == ["3", "6"]


def test_a_replica_that_diverged_is_no_seed_of_the_mean(end: End) -> None:
    lines = end(
        *("poly", {"degree": "3,19", "replicas": "6"}),
        lambda settings, seed: DIVERGED if (settings.degree, seed) == (19, 4) else losses(settings, seed),
    ).out.splitlines()
    assert [line.split()[:2] for line in lines[3:5]] == [["3", "6"], ["19", "5"]]
    assert lines[4].endswith("1 diverged")


def test_of_single_runs_the_best_ten_are_shown_again_without_their_number_of_seeds(end: End, tmp_path: Path) -> None:
    out = end("poly", {"degree": "0..19"}, losses).out.splitlines()
    assert out[0].split()[:2] == ["degree", "train"]
    assert [line.split()[0] for line in out[2:5]] == ["3", "2", "4"]
    assert len(out) == 2 + 10 + 2
    (path,) = tmp_path.glob("2*")
    assert out[-2:] == [f"and 10 more: mlpx runs {path}", "The best by generalization loss: degree 3."]


def test_seeds_alone_are_one_row_and_nothing_is_the_best(end: End) -> None:
    result = end("mlp", {"seed": "0..3"}, scores)
    assert [line.split()[0] for line in result.out.splitlines()] == ["over", "n", "─", "4"]
    assert result.err == ""


def test_where_nothing_has_finished_nothing_is_printed(end: End) -> None:
    assert end("mlp", {"seed": "0..3"}, lambda settings, seed: DIVERGED) == Result(0, "", "")


CHANGES = {"hidden": "256,512", "dropout": "0,0.5", "jitter": "0,2", "flip": "false,true"}


def test_a_change_is_compared_with_the_base_by_pairs_of_seeds(end: End) -> None:
    def measure(settings: Any, seed: int) -> Figures | Exception:
        return DIVERGED if settings.dropout and seed == 11 else scores(settings, seed)

    out = end("mlp", {**CHANGES, "seed": "0..11"}, measure, one_at_a_time=True).out.splitlines()
    assert out[0] == "over 12 seeds, mean ± standard deviation; differences with 95 % intervals"
    rows = [re.split(r"  +", line) for line in out[1:2] + out[3:8]]
    assert rows[0] == ["change", "test accuracy", "difference (points)", "lower in", "no value"]
    assert rows[1][0] == "the base"
    assert rows[2][0::3] == ["hidden 512", "0 of 12"]
    assert rows[2][2] == "+2.6"  # all pairs alike: no interval
    assert rows[3][0] == "dropout 0.5"
    assert rows[3][2:] == ["-5.0", "11 of 11", "1 diverged"]
    assert rows[4][0::3] == ["jitter 2", "0 of 12"]
    interval = comparing.bca_interval(np.array([0.0, 0.1, 0.2] * 4))
    mean, low, high = map(float, re.findall(r"[+-][\d.]+", rows[4][2]))
    assert (mean, low, high) == pytest.approx((0.1, *(interval or ())), abs=0.01)
    assert rows[5][0::2] == ["flip true", "0"]
    # All signs alike: 2 of 2^12 ways, 2 of 2^11, and 2 of 2^8 for the differences that are not 0, times 4, 3 and 2.
    assert out[8] == (
        "More than chance: hidden 512 (p = 0.002), dropout 0.5 (p = 0.0029), jitter 2 (p = 0.016). "
        "No difference but rounding: flip true."
    )
    assert out[9].startswith("Paired by seed, each side with the base; p by flipping the signs of the differences")
    assert "Holm's method for 4 comparisons" in out[9]


def test_too_few_seeds_are_said_to_be_and_of_fewer_than_six_there_is_no_interval(end: End) -> None:
    out = end("mlp", {**CHANGES, "seed": "0..2"}, scores, one_at_a_time=True).out
    assert "3 seeds are too few to tell 4 changes from chance; 8 are the fewest." in out
    assert " to +" not in out
    assert "-5.0 " in out
    assert out.splitlines()[-1] == "Paired by seed, each side with the base."


def test_without_a_base_the_changes_stand_alone_in_their_order(end: End) -> None:
    def measure(settings: Any, seed: int) -> Figures | Exception:
        is_base = settings.hidden == [256] and not (settings.dropout or settings.jitter or settings.flip)
        return DIVERGED if is_base else scores(settings, seed)

    lines = end("mlp", {**CHANGES, "seed": "0..1"}, measure, one_at_a_time=True).out.splitlines()
    assert lines[0] == "over 2 seeds, mean ± standard deviation"
    starts = [re.split(r"  +", line)[0] for line in lines[3:8]]
    assert starts == ["the base", "hidden 512", "dropout 0.5", "jitter 2", "flip true"]
    assert lines[3].endswith("2 diverged")
    assert lines[8] == "The best by test accuracy: hidden 512."


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_nothing_wraps_on_a_terminal_of_80_columns(
    end: End, monkeypatch: pytest.MonkeyPatch, one_at_a_time: bool
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(streams.Stream, "isatty", lambda stream: True, raising=False)
    asked = {"hidden": "256,512x256x128", "label_smoothing": "0,0.1", "weight_decay": "0,0.0001", "seed": "0..8"}
    result = end("mlp", asked, scores, one_at_a_time=one_at_a_time)
    assert max(map(len, result.out.splitlines())) <= 80
    assert "test accuracy" in result.out


def test_a_run_with_broken_replicas_costs_a_warning(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    over_seeds = selecting.over_seeds
    monkeypatch.setattr(selecting, "over_seeds", lambda found: (over_seeds(found)[0], ["x is left out"]))
    assert end("poly", {"degree": "1,3"}, losses).err == "warning: x is left out\n"
