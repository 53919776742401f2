"""``mlpx compare SWEEP``: which groups are its sides, what they are called, and many sides."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Result, assert_fails, mlpx, on_terminal, write_result, write_run, write_sweep

from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly.settings import PolySettings
from mlpx.runs import reading
from mlpx.settings.base import Settings
from mlpx.sweeps.folder import Sweep, create_or_extend
from mlpx.sweeps.request import Request

Compare = Callable[..., Result]

LOSSES = ("train_loss", "test_loss", "generalization_loss")


@pytest.fixture
def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Compare:
    """``mlpx compare`` in this process, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: mlpx(capfd, "compare", *arguments)


def finish(
    sweep: Sweep, loss: Callable[[Any], float], unfinished: Callable[[Any], bool] = lambda settings: False
) -> str:
    """Let each run end with that loss; the name of the sweep's folder."""
    for run in reading.runs_in(sweep.path):
        settings = reading.settings_of(run)
        value = loss(settings)
        figures = {"epoch": 9, **dict.fromkeys(LOSSES, value), "test_accuracy": 1 - value / 10, "seconds": 1.0}
        write_result(run, figures, "failed" if unfinished(settings) else "finished")
    return sweep.path.name


def finish_replicas(sweep: Sweep) -> str:
    """Let each run of poly end with the losses of its seeds; the name of the sweep's folder."""
    finish(sweep, of_degree)
    for run in reading.runs_in(sweep.path):
        settings = reading.settings_of(run)
        losses = [of_degree(settings.model_copy(update={"seed": seed})) for seed in settings.seeds]
        rows = [",".join(map(str, [r, settings.seed + r, *[loss] * 3])) for r, loss in enumerate(losses)]
        (run / "replicas.csv").write_text("\n".join([",".join(["replica", "seed", *LOSSES]), *rows, ""]))
    return sweep.path.name


def of_degree(settings: Settings) -> float:
    """A loss that is least at degree 3, and a little higher with each seed; degree 5 is as degree 1 but for noise."""
    assert isinstance(settings, PolySettings)
    noise = (0.1 if settings.seed % 2 else -0.1) if settings.degree == 5 and settings.seed else 0.0
    return 1 + (settings.degree - 3) ** 2 / 10 + settings.seed / 100 * (1 + settings.degree / 50) + noise


def objects(result: Result) -> list[dict[str, Any]]:
    assert result.code == 0, result
    return [json.loads(line) for line in result.out.splitlines()]


def sides(result: Result) -> list[tuple[str, str]]:
    return [(each["first"], each["side"]) for each in objects(result)]


ONE = ("--columns", "test_loss", "--json")


def test_each_group_over_seeds_is_compared_with_the_first_that_was_typed(compare: Compare, tmp_path: Path) -> None:
    name = finish(write_sweep(tmp_path / "runs", PolySettings, {"degree": "19,1,3", "seed": "0..5"}), of_degree)
    found = objects(compare(name, *ONE))
    assert [(each["first"], each["side"], each["n"]) for each in found] == [
        ("degree 19", "degree 1", 6),
        ("degree 19", "degree 3", 6),
    ]
    assert sides(compare("latest", *ONE)) == sides(compare(str(tmp_path / "runs" / name), *ONE))
    # The same runs as folders of runs are compared to the same figures.
    for each in found:
        degree = each["side"].split()[1]
        folders = {"a": 19, "b": int(degree)}
        for folder, value in folders.items():
            for seed in range(6):
                settings = PolySettings(degree=value, seed=seed)
                write_run(tmp_path / f"{folder}{degree}", settings, {"epoch": 9, "test_loss": of_degree(settings)})
        (same,) = objects(compare(f"a{degree}", f"b{degree}", *ONE))
        keys = {"seeds", "first_mean", "first_std", "mean", "std", "diff", "ratio", "low", "high", "p", "lower"}
        assert {key: same[key] for key in keys} == {key: each[key] for key in keys}


def test_the_sides_are_called_by_what_varies_in_the_order_asked(compare: Compare, tmp_path: Path) -> None:
    asked = {"dataset": "glyphs", "hidden": "none,512x256", "lr": "0.1,0.3", "seed": "0..1", "batch_size": "20"}
    finish(write_sweep(tmp_path / "runs", MlpSettings, asked), lambda settings: settings.lr)
    first = "hidden none, lr 0.1"
    assert sides(compare("latest", *ONE)) == [
        *((first, "hidden none, lr 0.3"), (first, "hidden 512x256, lr 0.1"), (first, "hidden 512x256, lr 0.3"))
    ]
    assert sides(compare("latest", *ONE, "--where", "lr == 0.3")) == [("hidden none", "hidden 512x256")]
    assert sides(compare("latest", *ONE, "--where", "hidden != none")) == [("lr 0.1", "lr 0.3")]


def test_what_the_names_tell_is_no_row_unless_all_are_asked_for(compare: Compare, tmp_path: Path) -> None:
    finish(write_sweep(tmp_path / "runs", PolySettings, {"degree": "1,3", "seed": "0..5"}), of_degree)
    heads = [re.split(r"  +", line)[0] for line in compare("latest").out.partition("\n\n")[0].splitlines()[2:]]
    assert heads == ["seeds", "train loss", "test loss", "generalization loss"]
    assert re.search(r"^degree +1 +3$", compare("latest", "--all").out, re.MULTILINE)
    assert re.search(r"^epochs +400 +400$", compare("latest", "--all").out, re.MULTILINE)


def test_one_at_a_time_each_change_is_compared_with_the_base(compare: Compare, tmp_path: Path) -> None:
    asked = {"dataset": "glyphs", "jitter": "2,0,4", "flip": "true,false", "seed": "0..2"}
    sweep = write_sweep(tmp_path / "runs", MlpSettings, asked, one_at_a_time=True)
    finish(sweep, lambda settings: 1 + settings.jitter + settings.seed)
    assert sides(compare("latest", *ONE)) == [
        *(("the base", "jitter 0"), ("the base", "jitter 4"), ("the base", "flip false"))
    ]
    assert compare("latest").out.endswith("\nThe base has jitter 2, flip true.\n")
    # Where the base is not among the sides, none is called so.
    assert sides(compare("latest", *ONE, "--where", "jitter != 2")) == [("jitter 0", "jitter 4")]
    assert "base" not in compare("latest", "--where", "jitter != 2").out


def test_replicas_are_seeds_and_later_requests_come_last(compare: Compare, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "runs", PolySettings, {"degree": "1,3", "replicas": "2"})
    request = Request(PolySettings).updated({"degree": "19", "replicas": "2"}, {})
    more = create_or_extend(sweep.path, request, request.design())
    finish_replicas(more)
    found = objects(compare("latest", *ONE))
    # The request that was made last has degree 19 alone.
    assert [(each["first"], each["side"], each["n"]) for each in found] == [
        *(("degree 19", "degree 1", 2), ("degree 19", "degree 3", 2))
    ]
    (more.runs()[0] / "replicas.csv").unlink()
    result = compare("latest", *ONE)
    assert sides(result) == [("degree 1", "degree 3")]
    assert result.err.startswith("warning: degree19 is left out: ")
    assert result.err.count("\n") == 1


def test_what_has_not_finished_is_left_out_with_a_note(compare: Compare, tmp_path: Path) -> None:
    asked = {"degree": "1,3,19", "seed": "0..2"}
    name = finish(
        write_sweep(tmp_path / "runs", PolySettings, asked),
        of_degree,
        lambda settings: settings.degree == 3 or (settings.degree, settings.seed) == (19, 1),
    )
    result = compare(name, *ONE)
    assert sides(result) == [("degree 1", "degree 19")]
    assert objects(result)[0]["seeds"] == [0, 2]
    assert result.err.splitlines() == [
        "note: left out, not finished: 4 of 9 runs",
        "note: left out, no finished run: degree 3",
        "note: seeds that not every side has are left out: 1",
    ]
    assert_fails(compare(name, "--where", "degree <= 3"), 5, "has finished runs of degree 1 alone")
    assert_fails(compare(name, "--where", "degree >= 3"), 5, "degree 3, with which the others would be compared")


def test_what_of_a_sweep_cannot_be_compared_is_said(compare: Compare, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    seeds = finish(write_sweep(runs, PolySettings, {"seed": "0..2", "degree": "3"}), of_degree)
    others = finish(write_sweep(runs, PolySettings, {"seed": "0..2", "degree": "5"}), of_degree)
    grid = finish(write_sweep(runs, PolySettings, {"degree": "1,3", "seed": "0..2"}), of_degree)
    waiting = write_sweep(runs, PolySettings, {"degree": "1,3,5"}).path.name
    assert_fails(compare(seeds), 2, "its runs differ in the seed alone", "one side is not enough")
    assert_fails(compare(grid, "--where", "degree == 9"), 5, "has no run that can be compared")
    assert_fails(compare(grid, "--where", "degre == 9"), 2, "'degre'", "'degree'")
    assert_fails(compare(grid, seeds), 2, f"{grid}: its runs differ in degree", f"another: mlpx compare {grid}.")
    assert_fails(compare(waiting), 5, "degree 1, with which the others would be compared, has no finished run")
    assert_fails(compare(f"{grid}/degree1-seed0"), 2, "one side is not enough")
    ((first, other),) = sides(compare(seeds, others, *ONE))
    assert seeds.endswith(first)
    assert others.endswith(other)
    assert compare(f"{grid}/degree1-seed0", f"{grid}/degree3-seed0", *ONE).code == 0
    assert compare(grid, others, "--where", "degree > 1", *ONE).code == 0
    (runs / grid / "sweep.toml").write_text("[")
    assert_fails(compare(grid), 5, "sweep.toml", "is not TOML")


def test_a_check_must_hold_of_each_group(compare: Compare, tmp_path: Path) -> None:
    name = finish(write_sweep(tmp_path / "runs", PolySettings, {"degree": "1,3,5", "seed": "0..2"}), of_degree)
    result = compare(name, "--quiet", "--check", "test_loss_ratio < 0.9")
    assert_fails(result, 3, "test_loss_ratio < 0.9 of degree 5 does not hold", f"See {tmp_path / 'runs' / name}.")
    assert "degree 3 " not in result.err
    assert compare(name, "--quiet", "--check", "test_loss_ratio < 1.1").code == 0


# Many sides


@pytest.fixture
def many(compare: Compare, tmp_path: Path) -> str:
    """A sweep of 19 groups of 12 replicas."""
    return finish_replicas(write_sweep(tmp_path / "runs", PolySettings, {"degree": "1..19", "replicas": "12"}))


def blocks(text: str) -> list[list[str]]:
    """The paragraphs and tables, as lines."""
    return [block.splitlines() for block in text.removesuffix("\n").split("\n\n")]


def test_of_many_sides_each_has_a_row_and_each_metric_a_table(compare: Compare, many: str) -> None:
    first, *tables, method = blocks(compare(many).out)
    assert first[0].split() == ["seeds", "train", "loss", "test", "loss", "generalization", "loss"]
    assert [line.split("  ")[0] for line in first[2:]] == [f"degree {degree}" for degree in range(1, 20)]
    found = objects(compare(many, "--json"))
    by_metric = [found[start : start + 18] for start in range(0, 54, 18)]
    for table, title, of_metric in zip(
        tables, ("train loss", "test loss", "generalization loss"), by_metric, strict=True
    ):
        assert re.split(r"  +", table[0]) == [title, "against degree 1", "95 % interval", "p"]
        for line, each in zip(table[2:], of_metric, strict=True):
            side, words, interval, p = re.split(r"  +", line)
            assert side == each["side"]
            direction = "lower" if each["diff"] < 0 else "higher"
            assert words.startswith(f"{direction} in {each[direction]} of 12, by ")
            assert float(words.rpartition(" ")[2]) == pytest.approx(abs(each["diff"]), rel=0.05)
            ends = sorted(each[key] * (-1 if each["diff"] < 0 else 1) for key in ("low", "high"))
            assert [float(end) for end in interval.split(" to ")] == pytest.approx(ends, rel=0.05)
            assert p.endswith(" *") == (each["verdict"] == "more than chance")
            assert float(p.removesuffix(" *")) == pytest.approx(each["p_holm"], rel=0.05)
    verdicts = {each["side"]: each["verdict"] for each in found}
    assert [side for side, verdict in verdicts.items() if verdict == "chance"] == ["degree 5"]
    assert method == [
        "Paired by seed, each side with degree 1; p by flipping the signs of the differences, adjusted by Holm's "
        "method for 54 comparisons; intervals by bootstrap (BCa).",
        "* is more than chance.",
    ]


def test_of_many_sides_too_few_seeds_are_said_once(compare: Compare, tmp_path: Path) -> None:
    def words(replicas: str) -> list[list[str]]:
        asked = {"degree": "1,3,4,5", "replicas": replicas}
        finish_replicas(write_sweep(tmp_path / "runs", PolySettings, asked))
        return blocks(compare("latest").out)

    *_, table, method = words("4")
    assert re.split(r"  +", table[0]) == ["generalization loss", "against degree 1"]
    assert re.fullmatch(r"degree 3 +lower in 4 of 4, by 0\.40", table[2])
    assert method == ["Paired by seed, each side with degree 1.", "4 seeds are too few to tell; 9 are the fewest."]
    finish(write_sweep(tmp_path / "runs", PolySettings, {"degree": "1,3,4,5"}), of_degree)
    *_, table, method = blocks(compare("latest").out)
    assert re.fullmatch(r"degree 3 +lower by 0\.40", table[2])
    # At seed 0 nothing tells degree 5 from degree 1.
    assert re.fullmatch(r"degree 5 +equal up to rounding", table[4])
    assert method[1] == "1 seed is too few to tell; 9 are the fewest."


def test_of_many_sides_markdown_and_latex_have_the_same_rows(compare: Compare, many: str) -> None:
    plain = blocks(compare(many).out)
    markdown = blocks(compare(many, "--format", "markdown").out)
    assert len(markdown) == len(plain) == 5
    for lines, marked in zip(plain[:-1], markdown[:-1], strict=True):
        cells = [re.sub(r"\*\*(.*?)\*\*", r"\1", line).strip("| ").split(" | ") for line in marked]
        assert cells[2:] == [re.split(r"  +", line.strip()) for line in lines[2:]]
    latex = compare(many, "--format", "latex").out.splitlines()
    assert len(latex) == 19 + 6
    assert latex[4].startswith("degree 1 & ")
    # The best of a metric stands out where it is more than chance.
    assert "| degree 3 | 12 (0..11) | **" in "\n".join(markdown[0])


@pytest.mark.program
def test_many_sides_fit_a_terminal(tmp_path: Path, many: str) -> None:
    for columns in (60, 80, 132):
        text = re.sub(r"\x1b\[[0-9;]*m", "", on_terminal(["compare", many], tmp_path, columns)).replace("\r", "")
        assert max(len(line) for line in text.splitlines() if not line.startswith("note: ")) <= columns
        assert text.count("degree 19") == 4
        assert ("note: no room for " in text) == (columns == 60)
