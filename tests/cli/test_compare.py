"""``mlpx compare``: which runs are its sides, what it says of them in each format, and its exit codes."""

import csv
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import Program, Result, assert_fails, document_of, draws_nothing, environment, mlpx, on_terminal, write_run

from mlpx.cli.compare import CSV_COLUMNS
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly.settings import PolySettings
from mlpx.runs.execution import Execution
from mlpx.runs.wording import number
from mlpx.settings.values import in_ranges

Compare = Callable[..., Result]

WORSE = [2.0, 2.5, 1.75, 3.0, 2.25, 2.75, 3.5, 1.5, 2.125, 2.375]
"""A loss for each of ten seeds, each of them above one."""


@pytest.fixture
def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Compare:
    """``mlpx compare`` in this process, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return mlpx(capfd, "compare", *arguments)

    return run


def poly_run(runs_dir: Path, loss: float, seed: int = 0, status: str = "finished", **settings: Any) -> Path:
    """A run of poly whose three losses are the same; the noise floor is 0, so that a ratio to it is none."""
    losses = dict.fromkeys(("train_loss", "test_loss", "generalization_loss"), loss)
    figures = {"epoch": 400, **losses, "seconds": 1.5, "noise_floor": 0.0, "train_to_noise": loss}
    return write_run(runs_dir, PolySettings(seed=seed, **settings), figures, status)


def poly_side(runs: Path, name: str, losses: Iterable[float], **settings: Any) -> None:
    """A folder of runs with the seeds 0, 1 and so on."""
    for seed, loss in enumerate(losses):
        poly_run(runs / name, loss, seed, **settings)


def replicas(runs: Path, name: str, losses: Sequence[float | None], **settings: Any) -> Path:
    """A run of replicas with these losses; a replica without one is left out."""
    run = poly_run(runs / ".made", 1.0, replicas=len(losses), **settings).rename(runs / name)
    seed = int(settings.get("seed", 0))
    rows = [f"{i},{seed + i},{','.join(['' if x is None else str(x)] * 3)}\n" for i, x in enumerate(losses)]
    (run / "replicas.csv").write_text("replica,seed,train_loss,test_loss,generalization_loss\n" + "".join(rows))
    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two folders of ten runs, ``good`` and ``bad``, and ``many``: ten replicas that do as ``bad`` does."""
    runs = tmp_path / "runs"
    poly_side(runs, "good", [1 + seed / 100 for seed in range(10)])
    poly_side(runs, "bad", WORSE, degree=5)
    replicas(runs, "many", WORSE, degree=5)
    return runs


def objects(result: Result) -> list[dict[str, Any]]:
    """The lines of ``--json``."""
    assert result.code == 0, result
    return [json.loads(line, parse_constant=lambda text: pytest.fail(text)) for line in result.out.splitlines()]


def one(compare: Compare, *arguments: str) -> dict[str, Any]:
    """The comparison of the test loss alone."""
    (found,) = objects(compare(*arguments, "--columns", "test_loss", "--json"))
    return found


# What is said


def test_a_person_reads_what_differs_then_the_metrics_then_a_sentence_for_each(compare: Compare, runs: Path) -> None:
    result = compare("good", "bad")
    assert (result.code, result.err) == (0, "")
    low, high = one(compare, "good", "bad")["low"], one(compare, "good", "bad")["high"]
    interval = f"95 % interval {low:.2f} to {high:.2f}"
    sentence = f"bad is higher in 10 of 10 seeds, by 1.33 on average ({interval}), p = 0.0059."
    assert result.out.splitlines() == [
        "                              good          bad",
        "───────────────────  ─────────────  ───────────",
        "degree                           3            5",
        "seeds                    10 (0..9)    10 (0..9)",
        "train loss           1.045 ± 0.030  2.38 ± 0.60",
        "test loss            1.045 ± 0.030  2.38 ± 0.60",
        "generalization loss  1.045 ± 0.030  2.38 ± 0.60",
        "",
        f"train loss: {sentence} More than chance.",
        f"test loss: {sentence} More than chance.",
        f"generalization loss: {sentence} More than chance.",
        "Paired by seed; p by flipping the signs of the differences, adjusted by Holm's method for 3 comparisons; "
        "intervals by bootstrap (BCa).",
    ]


def test_replicas_are_seeds(compare: Compare, runs: Path) -> None:
    alike = one(compare, "bad", "many")
    assert (alike["verdict"], alike["seeds"]) == ("none", list(range(10)))
    said = compare("bad", "many", "--columns", "test_loss").out
    assert "test loss: none; many is equal up to rounding.\nPaired by seed.\n" in said
    keys = set(alike) - {"side"}
    single, together = one(compare, "good", "bad"), one(compare, "good", "many")
    assert {key: single[key] for key in keys} == {key: together[key] for key in keys}
    assert single["ratio"] == pytest.approx(sum(WORSE) / 10.45)


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([1.5], "b is higher by 0.50. 1 seed: no interval, and too few to tell; 6 are the fewest."),
        ([0.5, 1.25, 1.5], "b is higher in 2 of 3 seeds, by 0.083 on average. 3 seeds: too few to tell; 6 are the"),
        (
            [0.5] * 6,
            "b is lower in 6 of 6 seeds, by 0.50 on average (no interval: the differences are alike), p = 0.031",
        ),
        (
            [0.4, 0.75, 1.5, 1, 0.9, 1.2],
            "b is lower in 3 of 6 seeds, by 0.04 on average (95 % interval -0.",
        ),
        ([0.5 - seed / 100 for seed in range(12)], "p < 0.001. More than chance."),
    ],
)
def test_the_sentence_says_how_often_how_much_and_whether_it_is_chance(
    compare: Compare, tmp_path: Path, losses: list[float], words: str
) -> None:
    poly_side(tmp_path / "runs", "a", [1.0] * len(losses))
    poly_side(tmp_path / "runs", "b", losses)
    out = compare("a", "b", "--columns", "test_loss").out
    assert words in out
    assert ("This may be chance." in out) == ("3 of 6" in words)


def test_shares_differ_by_percentage_points(compare: Compare, tmp_path: Path) -> None:
    for name, accuracies in (("a", [0.85, 0.86, 0.855]), ("b", [0.86, 0.87, 0.86])):
        for seed, accuracy in enumerate(accuracies):
            figures = {"train_loss": 0.5, "test_loss": 0.5, "test_accuracy": accuracy}
            write_run(tmp_path / "runs" / name, MlpSettings(seed=seed), figures)
    out = compare("a", "b").out
    assert "test accuracy  85.50% ± 0.50%  86.33% ± 0.58%\n" in out
    assert "test accuracy: b is higher in 3 of 3 seeds, by 0.83 percentage points on average. 3 seeds: too few" in out
    assert "test loss: none; b" in out


@pytest.mark.parametrize(
    ("value", "extent", "text"),
    [
        (0.0834, 0.0057, "0.0834"),
        (1.0712, 0.11, "1.07"),
        (8.2, 2.36, "8.2"),
        (123.4, 30, "123"),
        (-0.004, 0.07, "-0.004"),
        (2.5e-9, 1e-9, "2.5e-09"),
        (2.5e9, 1e8, "2.5e+09"),
        (0, 0, "0"),
    ],
)
def test_numbers_are_as_exact_as_their_error_allows(value: float, extent: float, text: str) -> None:
    assert number(value, extent) == text


def test_each_of_three_sides_is_compared_with_the_first_and_holm_counts_all(compare: Compare, runs: Path) -> None:
    found = objects(compare("good", "bad", "many", "--json"))
    assert [(each["metric"], each["first"], each["side"]) for each in found] == [
        (metric, "good", side)
        for metric in ("train_loss", "test_loss", "generalization_loss")
        for side in ("bad", "many")
    ]
    assert {each["p"] for each in found} == {2 / 2**10}
    assert {each["p_holm"] for each in found} == {6 * 2 / 2**10}
    assert {each["fewest"] for each in found} == {8}
    out = compare("good", "bad", "many").out
    assert out.splitlines()[-1].startswith("Paired by seed, each side with good; p by flipping")
    assert "Holm's method for 6 comparisons" in out


def test_all_shows_equal_settings_too(compare: Compare, runs: Path) -> None:
    rows = [line.split() for line in compare("good", "bad", "--all").out.splitlines()]
    assert ["noise", "std", "0.1", "0.1"] in rows
    assert ["degree", "3", "5"] in rows
    assert not [row for row in rows if row[:1] in (["seed"], ["replicas"])]
    assert not [line for line in compare("good", "bad").out.splitlines() if line.startswith("noise std")]


# Formats


def cells(line: str) -> list[str]:
    """The cells of a row of a Markdown table."""
    return [cell.strip().strip("*") for cell in line.strip("|").split("|")]


def test_all_formats_agree(compare: Compare, runs: Path) -> None:
    sides = ("good", "bad", "many")
    table = compare(*sides).out.splitlines()
    markdown = compare(*sides, "--format", "markdown").out.splitlines()
    latex = compare(*sides, "--format", "latex").out.replace("$\\pm$", "±").splitlines()
    rows = list(csv.DictReader(io.StringIO(compare(*sides, "--format", "csv").out)))
    found = objects(compare(*sides, "--json"))

    assert tuple(rows[0]) == CSV_COLUMNS
    told = [row for row in rows if row["side"] != "good"]
    for row, each in zip(told, found, strict=True):
        assert row == {name: str(each[name]) for name in CSV_COLUMNS}
    for row in (row for row in rows if row["side"] == "good"):
        (first, _) = (each for each in found if each["metric"] == row["metric"])
        assert (row["n"], row["mean"], row["std"]) == ("10", str(first["first_mean"]), str(first["first_std"]))
        assert not any(row[name] for name in CSV_COLUMNS[5:])

    end = table.index("")
    as_cells = [re.split(r"\s{2,}", line) for line in table[2:end]]
    assert [cells(line) for line in markdown[2:end]] == as_cells
    bold = re.compile(r"\\textbf\{(.*?)\}")
    metric_rows = [re.sub(bold, r"\1", line).removesuffix(r" \\").split(" & ") for line in latex[4:-2]]
    assert metric_rows == as_cells[-3:]
    sentences = [line.replace("**", "").removeprefix("- ") for line in markdown[end + 1 :] if line]
    assert sentences == table[end + 1 :]
    for texts, each in zip(as_cells[-3:], found[::2], strict=True):
        assert texts[2] == f"{each['mean']:.2f} ± {each['std']:.2f}"


def test_the_better_side_stands_out_only_where_it_is_more_than_chance(compare: Compare, runs: Path) -> None:
    poly_side(runs, "few", [0.5, 0.6])
    poly_side(runs, "mixed", [0.9, 0.9, 0.9, 3.0, *[1.1] * 6])
    lines = compare("good", "bad", "many", "--format", "markdown").out.splitlines()
    assert "| test loss | **1.045 ± 0.030** | 2.38 ± 0.60 | 2.38 ± 0.60 |" in lines
    assert "**1.045 ± 0.030**" in compare("bad", "good", "--format", "markdown").out
    assert "**1." not in compare("good", "bad", "mixed", "--format", "markdown").out
    assert "**0." not in compare("good", "few", "--format", "markdown").out
    assert "**2." not in compare("bad", "many", "--format", "markdown").out


def test_markdown_shows_names_as_they_are(compare: Compare, runs: Path) -> None:
    (runs / "bad").rename(runs / "*b_a|d*<i>")
    out = compare("good", "*b_a|d*<i>", "--format", "markdown").out
    assert r"- **test loss**: \*b\_a\|d\*\<i\> is higher" in out
    assert r"|  | good | *b_a\|d*&lt;i> |" in out


def test_json_has_null_where_there_is_no_number(compare: Compare, runs: Path) -> None:
    poly_side(runs, "one", [0.0])
    (found,) = objects(compare("one", "good", "--columns", "noise_floor", "--json"))
    nothing = {"first_std", "std", "low", "high", "ratio"}
    assert {name for name, value in found.items() if value is None} == nothing
    _, row = csv.DictReader(io.StringIO(compare("one", "good", "--columns", "noise_floor", "--format", "csv").out))
    assert (row["std"], row["low"], row["ratio"]) == ("", "", "nan")


def test_quiet_prints_nothing(compare: Compare, runs: Path) -> None:
    assert compare("good", "bad", "--quiet") == Result(0, "", "")
    assert_fails(compare("good", "bad", "--quiet", "--json"), 2, "exclude each other")


LONG = "a-name-that-is-longer-than-half-of-a-terminal-of-eighty"


@pytest.mark.program
def test_it_fits_a_terminal_and_off_one_each_paragraph_is_a_line(runs: Path, program: Program) -> None:
    for name in ("good", "bad"):
        (runs / name).rename(runs / f"{LONG}-{name}")
    for name in ("more", "most", "last"):
        replicas(runs, name, WORSE)
    arguments = ("compare", f"{LONG}-good", f"{LONG}-bad", "many")
    for sides in (arguments, (*arguments, "more", "most", "last")):
        written = on_terminal(sides, runs.parent, 80)
        lines = re.sub(r"\x1b\[[0-9;]*m", "", written).replace("\r", "").splitlines()
        assert max(map(len, lines)) <= 80
        assert "1.045 ± 0.030" in written  # no number is cut
        assert "\x1b[1;32m" in written
        assert any(line.startswith("note: no room for ") for line in lines) == (len(sides) > 4)
    off = program(*arguments)
    assert f"test loss: {LONG}-bad is higher in 10 of 10 seeds, by 1.33 on average (95 % interval" in off.out
    assert "\x1b" not in off.out
    assert program(*arguments, env=environment(LC_ALL="C", LANG="C")).out == off.out


# Which runs are a side


def test_a_side_is_named_by_its_folder_without_the_time_or_if_two_are_named_alike_more_exactly(
    compare: Compare, runs: Path, tmp_path: Path
) -> None:
    first, second = poly_run(runs, 1.0), poly_run(runs, 1.0)
    found = one(compare, "latest", "many")
    # "-2" follows only if both runs began in the same second.
    assert (found["first"], found["side"]) == (second.name[len("20260101-000000-") :], "many")
    first = first.rename(first.with_name("20260101-000000-poly-degree3"))
    second = second.rename(second.with_name("20260101-000001-poly-degree3"))
    found = one(compare, first.name, second.name)
    assert (found["first"], found["side"]) == (first.name, second.name)
    found = one(compare, "runs/good/", str(runs / "bad"))
    assert (found["first"], found["side"]) == ("good", "bad")
    poly_side(tmp_path / "old", "good", WORSE)
    found = one(compare, "good", "old/good")
    assert (found["first"], found["side"]) == ("good", "old/good")
    found = one(compare, "good", "good")
    assert (found["first"], found["side"], found["verdict"]) == (*2 * (str(runs / "good"),), "none")


def test_a_folder_with_a_single_run_is_named_by_the_folder(compare: Compare, runs: Path) -> None:
    poly_side(runs, "one", [1.0])
    (alone,) = (runs / "one").glob("2*")
    assert one(compare, "one", "good")["first"] == "one"
    assert one(compare, str(alone), "good")["first"] == "poly-degree3"


def test_seeds_that_one_side_lacks_are_left_out_with_a_note(compare: Compare, runs: Path) -> None:
    replicas(runs, "later", [2.0] * 6, seed=7)
    result = compare("good", "later", "--json")
    assert {tuple(each["seeds"]) for each in objects(result)} == {(7, 8, 9)}
    assert result.err == "note: seeds that not every side has are left out: 0..6, 10..12\n"


def test_of_a_seed_that_occurs_twice_the_newest_run_counts(compare: Compare, runs: Path) -> None:
    # By name one comes before all others, and one after.
    poly_run(runs / "good", 9.0, seed=3).rename(runs / "good" / "0")
    poly_run(runs / "good", 8.0, seed=5).rename(runs / "good" / "z")
    result = compare("good", "bad", "--columns", "test_loss", "--json")
    assert result.err == "note: good: seeds that occur more than once, of which the newest run counts: 3, 5\n"
    assert objects(result)[0]["first_mean"] == pytest.approx((10.45 - 1.03 + 9 - 1.05 + 8) / 10)


def test_runs_that_have_not_finished_are_left_out_with_one_note(compare: Compare, runs: Path) -> None:
    poly_run(runs / "good", 9.0, seed=3, status="interrupted")
    poly_run(runs / "good", 9.0, seed=11, status="diverged")
    poly_run(runs / "good", 9.0, seed=12, status="running", degree=7)
    result = compare("good", "bad", "--columns", "test_loss", "--json")
    assert result.err == "note: good: left out, not finished: 3 of 13 runs\n"
    assert objects(result)[0]["first_mean"] == pytest.approx(1.045)


def test_a_broken_run_of_many_costs_a_warning(compare: Compare, runs: Path) -> None:
    broken = poly_run(runs / "good", 9.0, seed=11)
    (broken / "run.json").write_text("{")
    result = compare("good", "bad", "--quiet")
    assert result.code == 0
    assert result.err.startswith(f"warning: {broken.name} is left out: ")
    assert result.err.count("\n") == 1


def test_a_pair_with_a_value_that_is_not_finite_is_left_out_with_a_note(compare: Compare, runs: Path) -> None:
    replicas(runs, "holes", [math.nan, 2.0, None, math.inf, 3.0, 4.0])
    result = compare("good", "holes", "--columns", "test_loss", "--json")
    assert objects(result)[0]["seeds"] == [1, 4, 5]
    assert result.err.splitlines() == [
        "note: seeds that not every side has are left out: 6..9",
        "note: test loss: no finite value on every side, left out: seeds 0, 2..3",
    ]
    replicas(runs, "nothing", [math.nan] * 10)
    result = compare("good", "nothing")
    assert result.code == 0
    assert "test loss: no finite value on every side, left out: seeds 0..9\n" in result.err
    assert result.out.splitlines()[-3:] == ["seeds  10 (0..9)  10 (0..9)", "", "Paired by seed."]


def test_where_selects_within_the_sides(compare: Compare, runs: Path) -> None:
    poly_side(runs, "good", [7.0] * 10, degree=9)
    assert_fails(compare("good", "bad"), 2, "good: its runs differ in degree, ")
    found = one(compare, "good", "bad", "--where", "degree != 9", "--where", "seed > 2")
    assert (found["seeds"], found["first_mean"]) == (list(range(3, 10)), pytest.approx(1.06))
    assert_fails(compare("good", "bad", "--where", "degree == 4"), 5, "good: ")
    assert_fails(compare("good", "bad", "--where", "degre == 4"), 2, "'degre'", "'degree'")


def test_a_path_of_data_does_not_set_runs_apart(compare: Compare, tmp_path: Path) -> None:
    for seed, data_dir in enumerate(("/x", "/y")):
        for name in ("a", "b"):
            figures = {"train_loss": 0.5, "test_loss": 0.5, "test_accuracy": 0.5}
            write_run(tmp_path / "runs" / name, MlpSettings(seed=seed, data_dir=data_dir), figures)
    assert compare("a", "b").code == 0


@pytest.mark.parametrize(
    ("seeds", "text"), [([], ""), ([3], "3"), ([0, 1, 2], "0..2"), ([0, 1, 4, 6, 7], "0..1, 4, 6..7")]
)
def test_seeds_are_written_in_ranges(seeds: list[int], text: str) -> None:
    assert in_ranges(seeds) == text


# Exit codes


def test_what_cannot_be_compared_is_an_error_of_usage(compare: Compare, runs: Path) -> None:
    poly_side(runs, "mixed", [1.0])
    poly_run(runs / "mixed", 1.0, seed=1, degree=4, lr=0.5)
    write_run(runs / "mlp", MlpSettings(), {"test_loss": 1.0})
    replicas(runs, "far", [1.0, 2.0], seed=10)
    for arguments, words in [
        (["good"], ["one side is not enough"]),
        (["good", "mixed"], ["mixed: its runs differ in lr, degree, and not in the seed alone"]),
        (["good", "mlp"], ["the sides are of poly and mlp"]),
        (["good", "far"], ["no seed in common: good has 0..9; far has 10..11"]),
        (["good", "bad", "--columns", "test_los"], ["--columns", "'test_los'", "'test_loss'"]),
        (["good", "bad", "--columns", "test_loss_mean"], ["'test_loss_mean'"]),
        (["good", "bad", "--check", "test_los_diff < 1"], ["'test_los_diff'", "Did you mean 'test_loss_diff'?"]),
        (["good", "bad", "--check", "test_loss < 1"], ["'test_loss'", "Did you mean 'test_loss_diff'?"]),
        (["good", "bad", "--check", "test_loss_diff"], ["is not a check"]),
    ]:
        result = compare(*arguments)
        assert_fails(result, 2, *words)
        assert result.out == ""
    assert compare().code == 2


def test_what_cannot_be_read_is_an_error_of_input(compare: Compare, runs: Path) -> None:
    poly_side(runs, "going", [1.0, 2.0], status="interrupted")
    (broken,) = [poly_run(runs / "broken", 1.0)]
    (broken / "run.json").write_text("{")
    replicas(runs, "cut", WORSE)
    (runs / "cut" / "replicas.csv").unlink()
    assert_fails(compare("good", "nowhere"), 5, "nowhere: no such run")
    assert_fails(compare("good", "going"), 5, "going: has no finished run to compare")
    assert_fails(compare("good", "broken"), 5, "run.json: is not JSON")
    assert_fails(compare("good", "cut"), 5, "replicas.csv: is not a table of replicas")


def test_a_check_that_fails_exits_3_after_the_output(compare: Compare, runs: Path) -> None:
    difference, ratio = one(compare, "good", "bad")["diff"], one(compare, "good", "bad")["ratio"]
    holding = ("--check", f"test_loss_diff <= {difference}", "--check", f"test_loss_ratio > {ratio - 1e-9}")
    assert compare("good", "bad", *holding).code == 0
    result = compare("good", "bad", *holding, "--check", "test_loss_ratio < 1.05")
    assert_fails(result, 3, f"check: test_loss_ratio < 1.05 does not hold, it is {ratio}. See {runs / 'bad'}.")
    assert result.out == compare("good", "bad").out != ""
    assert compare("good", "bad", "--quiet", "--check", "test_loss_ratio < 1.05").out == ""
    # A metric that is not shown can be checked; one of a single number for all replicas by its one seed.
    assert compare("good", "bad", "--check", "train_to_noise_diff > 1", "--check", "seconds_ratio == 1").code == 0
    assert_fails(compare("many", "bad", "--check", "seconds_ratio < 1"), 3, "it is 1.0")


def test_a_check_must_hold_of_every_side(compare: Compare, runs: Path) -> None:
    check = ("--check", "test_loss_diff < 0.5")
    assert compare("good", "good", "good", *check).code == 0
    result = compare("good", "good", "bad", *check)
    assert_fails(result, 3, f"test_loss_diff < 0.5 of {runs / 'bad'} does not hold")


def test_a_check_of_what_has_no_finite_value_fails(compare: Compare, runs: Path) -> None:
    replicas(runs, "nothing", [math.nan] * 10)
    result = compare("good", "nothing", "--quiet", "--check", "test_loss_ratio < 1e9")
    assert result.code == 3
    assert "it is nan" in result.err


@pytest.mark.program
def test_the_first_seeds_of_a_gate_need_no_scipy(runs: Path) -> None:
    poly_side(runs, "one", [1.0])
    slow = ("torch", "matplotlib", "plotille", "scipy")
    for sides, expected in ((("one", "good"), []), (("good", "bad"), ["scipy"])):
        code = (
            f"import sys; sys.argv = ['mlpx', 'compare', *{sides!r}, '--quiet']\n"
            "from mlpx.__main__ import main\n"
            f"code = main(); print([m for m in {slow!r} if m in sys.modules], code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=runs.parent, capture_output=True, text=True, env=environment(), check=True
        )
        assert done.stdout == f"{expected} 0\n"


# Trained


@pytest.mark.program
def test_a_trained_run_of_replicas_equals_ten_single_runs(
    compare: Compare, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Execution, "_drawn", draws_nothing)  # drawing takes longer than all else
    train = ("poly", "--epochs", "4", "--quiet")
    together = mlpx(capfd, *train, "--replicas", "10").out.strip()
    others = mlpx(capfd, *train, "--replicas", "10", "--noise-std", "3").out.strip()
    for seed in range(10):
        assert mlpx(capfd, *train, "--seed", str(seed), "--runs-dir", "runs/single").code == 0
    found = objects(compare(together, "single", "--json"))
    assert [(each["metric"], each["seeds"], each["verdict"]) for each in found] == [
        (metric, list(range(10)), "none") for metric in ("train_loss", "test_loss", "generalization_loss")
    ]
    assert compare(together, "single").out.count("none; single is equal up to rounding.") == 3
    (found_of_replicas,) = (
        each for each in objects(compare(together, others, "--json")) if each["metric"] == "test_loss"
    )
    (found_of_singles,) = (
        each for each in objects(compare("single", others, "--json")) if each["metric"] == "test_loss"
    )
    assert found_of_replicas["verdict"] == "more than chance"
    for key in ("diff", "ratio", "low", "high"):
        assert found_of_replicas[key] == pytest.approx(found_of_singles[key], rel=1e-3)
    assert_fails(compare(together, others, "--columns", "test_loss_mean"), 2, "'test_loss_mean'")
    document = document_of(Path(together))
    assert found_of_replicas["first_mean"] == pytest.approx(document["metrics"]["test_loss_mean"])
    assert found_of_replicas["first_std"] == pytest.approx(document["metrics"]["test_loss_std"])
