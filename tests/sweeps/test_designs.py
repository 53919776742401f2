"""Values become the settings of each run: which runs there are, in which order, and what each is called."""

import itertools
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from mlpx.errors import UsageError
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly.settings import PolySettings
from mlpx.experiments.transformer.settings import FILES, TransformerSettings
from mlpx.runs.folder import NAME
from mlpx.settings.base import Settings
from mlpx.sweeps.designs import MAX_RUNS, Design, design, identity, read_rows


def cells_of(made: Design, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(cell, name) for name in names) for cell in made.cells]


# All combinations


def test_a_grid_is_the_product_of_the_values_and_the_last_setting_changes_fastest() -> None:
    asked: dict[str, Sequence[Any]] = {"degree": [19, 1, 3], "lr": [0.1, 0.01], "seed": range(4), "epochs": [7]}
    made = design(PolySettings, asked)
    assert cells_of(made, *asked) == list(itertools.product(*asked.values()))
    assert (made.varying, made.summary) == (["degree", "lr", "seed"], "degree 3 x lr 2 x seed 4")
    assert all(cell.batch_size == 10 for cell in made.cells)
    assert [made.count(name) for name in asked] == [3, 2, 4, 1]


def test_the_order_is_that_in_which_the_settings_were_typed() -> None:
    made = design(PolySettings, {"seed": [0, 1], "degree": [1, 3]})
    assert cells_of(made, "seed", "degree") == [(0, 1), (0, 3), (1, 1), (1, 3)]
    assert made.names == ["seed0-degree1", "seed0-degree3", "seed1-degree1", "seed1-degree3"]


def test_one_value_each_is_one_run_named_as_a_run_is() -> None:
    made = design(PolySettings, {"degree": [19], "lr": [0.1]})
    assert (list(made.cells), made.names) == ([PolySettings(degree=19, lr=0.1)], ["degree19"])
    assert (made.varying, made.summary) == ([], "")
    assert design(MlpSettings, {}).names == ["fashion-mnist"]


def test_equal_runs_are_one() -> None:
    made = design(PolySettings, {"degree": [3, 1, 3], "lr": [0.1, 0.1]})
    assert cells_of(made, "degree", "lr") == [(3, 0.1), (1, 0.1)]
    assert made.varying == ["degree"]


def test_the_data_folder_makes_no_run_another() -> None:
    one, other = MlpSettings(data_dir="/a"), MlpSettings(data_dir="/b")
    assert identity(one) == identity(other)
    assert len(design(MlpSettings, {"data_dir": ["/a", "/b"]}).cells) == 1
    assert identity(one) != identity(MlpSettings(hidden=[]))
    # A file of sentences can be any, so its path counts.
    texts = dict.fromkeys(FILES, "/a")
    made = design(TransformerSettings, {"task": ["text"], **{name: [path, "/b"] for name, path in texts.items()}})
    assert len({identity(cell) for cell in made.cells}) == len(made.cells) == 2 ** len(FILES)


# One at a time


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_one_at_a_time_changes_one_setting_of_the_base_and_crosses_the_seeds(seeds: list[int]) -> None:
    asked: dict[str, Sequence[Any]] = {
        "degree": [3, 1, 19],
        "seed": seeds,
        "lr": [0.1, 0.01],
        "num_train": [20, 50, 90],
    }
    made = design(PolySettings, asked, one_at_a_time=True)
    base = (3, 0.1, 20)
    expected = [base, (1, 0.1, 20), (19, 0.1, 20), (3, 0.01, 20), (3, 0.1, 50), (3, 0.1, 90)]
    assert len(expected) == 1 + sum(len(asked[name]) - 1 for name in ("degree", "lr", "num_train"))
    assert cells_of(made, "degree", "lr", "num_train", "seed") == [(*row, seed) for row in expected for seed in seeds]
    assert made.summary == "the base and 5 changes" + (" x seed 3" if len(seeds) > 1 else "")


def test_one_change_is_called_one_change() -> None:
    assert design(PolySettings, {"degree": [3, 1]}, one_at_a_time=True).summary == "the base and 1 change"


def test_one_at_a_time_with_nothing_to_change_is_the_base() -> None:
    made = design(PolySettings, {"degree": [3]}, one_at_a_time=True)
    assert list(made.cells) == [PolySettings(degree=3)]


def test_one_at_a_time_and_rows_exclude_each_other() -> None:
    with pytest.raises(UsageError, match=r"^--one-at-a-time and --cells: exclude each other\. "):
        design(PolySettings, {}, [{"degree": 3}], one_at_a_time=True)


# Rows


@pytest.mark.parametrize(
    "text",
    [
        "degree,lr\n1,0.1\n3,0.01\n",
        "degree,lr\n1,0.1\n3,0.01",
        "degree,lr\r\n1,0.1\r\n3,0.01\r\n",
        "degree,lr\r1,0.1\r3,0.01\r",
        "\ufeffdegree,lr\n1,0.1\n3,0.01\n",
        '\ufeff"degree","lr"\r\n"1","0.1"\r\n"3","0.01"\r\n',
        "\n\ndegree,lr\n\n1,0.1\n \t \n3,0.01\n\n\n",
        " degree , lr \n 1 , 0.1 \n 3 , 1e-2 \n",
    ],
)
def test_rows_are_read_as_spreadsheets_and_people_write_them(text: str) -> None:
    assert read_rows(PolySettings, text, "my.csv") == [{"degree": 1, "lr": 0.1}, {"degree": 3, "lr": 0.01}]


def test_a_cell_has_one_value_of_its_settings_type() -> None:
    text = 'hidden,flip,batch-size,data_dir\nnone,true,64,/a\n512x256,false,0128,"/a,b"\n'
    assert read_rows(MlpSettings, text, "my.csv") == [
        {"hidden": [], "flip": True, "batch_size": 64, "data_dir": "/a"},
        {"hidden": [512, 256], "flip": False, "batch_size": 128, "data_dir": "/a,b"},
    ]


def test_a_blank_cell_leaves_the_setting_as_it_is_elsewhere() -> None:
    rows = read_rows(PolySettings, "degree,lr\n,\n1,\n, 0.1\n", "my.csv")
    assert rows == [{}, {"degree": 1}, {"lr": 0.1}]
    made = design(PolySettings, {"degree": [7], "seed": [0, 1]}, rows)
    default = PolySettings().lr
    expected = [(7, default), (1, default), (7, 0.1)]
    assert cells_of(made, "degree", "lr", "seed") == [(*row, seed) for row in expected for seed in (0, 1)]
    assert (made.varying, made.summary) == (["degree", "lr", "seed"], "3 rows x seed 2")
    assert read_rows(PolySettings, 'degree\n1\n""\n \n3\n', "my.csv") == [{"degree": 1}, {}, {"degree": 3}]


def test_rows_are_crossed_with_the_listed_values() -> None:
    rows = [{"degree": 19, "num_train": 20}, {"degree": 1, "num_train": 50}]
    made = design(PolySettings, {"lr": [0.1, 0.2], "seed": [5, 6]}, rows)
    pairs = [(row["degree"], row["num_train"]) for row in rows]
    expected = [(*pair, *rest) for pair, rest in itertools.product(pairs, itertools.product([0.1, 0.2], [5, 6]))]
    assert cells_of(made, "degree", "num_train", "lr", "seed") == expected
    assert made.names[0] == "degree19-num_train20-lr0.1-seed5"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "my.csv: is empty. Give a line of settings, and below it a line for each run."),
        (" \n\n", "my.csv: is empty. Give a line of settings, and below it a line for each run."),
        ("degree,lr\n", "my.csv: has no row. Below the line of settings, give a line for each run."),
        ("degre\n1\n", "my.csv: no such setting: 'degre'. Did you mean 'degree'?"),
        ("degree,\n1,2\n", "my.csv: no such setting: ''. The settings are seed, epochs, "),
        ("1,3\n2,4\n", "my.csv: no such setting: '1'. The settings are seed, epochs, "),
        ("experiment\npoly\n", "my.csv: no such setting: 'experiment'. The settings are "),
        ("degree,lr,degree\n1,2,3\n", "my.csv: has the column 'degree' twice. Leave one out."),
        ("batch-size,batch_size\n1,2\n", "my.csv: has the column 'batch_size' twice. Leave one out."),
        ("degree,lr\n1,0.1\n3\n", "my.csv: row 2: has 1 cells, and there are 2 settings. Correct it."),
        ("degree,lr\n1,0.1,\n", "my.csv: row 1: has 3 cells, and there are 2 settings. Correct it."),
        ("degree;lr\n1;0.1\n", "my.csv: no such setting: 'degree;lr'. Did you mean 'degree'?"),
        ("degree\n1\n20\n", "my.csv: row 2: degree: '20' cannot be used. Give a whole number from 0 to 19."),
        ("degree\n1..3\n", "my.csv: row 1: degree: '1..3' is several values. Give a row for each."),
        ('degree\n"1,3"\n', "my.csv: row 1: degree: '1,3' is several values. Give a row for each."),
        ('degree\n"1\n', "my.csv: is not CSV: unexpected end of data. Correct it."),
        ('degree\n"1"2\n', "my.csv: is not CSV: ',' expected after '\"'. Correct it."),
        (f"degree\n{'1' * 200_000}\n", "my.csv: is not CSV: field larger than field limit (131072). Correct it."),
        (f"degree\n{'1' * 100_000}\n", "my.csv: row 1: degree: '1111"),
        ("degree\n1\0\n", r"my.csv: row 1: degree: '1\x00' cannot be used. Give a whole number from 0 to 19."),
        ("\x1b[31m\n1\n", r"my.csv: no such setting: '\x1b[31m'. "),
        ("seed\n" + "1\n" * 200_000, "sweep: these values make 200000 runs, more than 20000. Give fewer values."),
    ],
    ids=lambda text: f"{text!a:.40}",
)
def test_a_file_that_cannot_be_used_is_one_line(text: str, line: str) -> None:
    began = time.perf_counter()
    with pytest.raises(UsageError) as raised:
        read_rows(PolySettings, text, "my.csv")
    assert time.perf_counter() - began < 3
    assert str(raised.value).startswith(line)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) <= 600


def test_a_setting_of_the_rows_has_no_several_values_beside() -> None:
    with pytest.raises(UsageError, match=r"^--cells: degree has several values beside those of the rows\. Leave one"):
        design(PolySettings, {"degree": [1, 3]}, [{"degree": 3}])


# Names


@pytest.mark.parametrize(
    ("model", "asked", "names"),
    [
        (PolySettings, {"degree": [1, 3, 19]}, ["degree01", "degree03", "degree19"]),
        (PolySettings, {"degree": [9, 0], "seed": [100, 7]}, [
            "degree9-seed100", "degree9-seed007", "degree0-seed100", "degree0-seed007",
        ]),
        (PolySettings, {"lr": [0.1, 10.0, 1e-5]}, ["lr0.1", "lr10.0", "lr1e-05"]),
        (MlpSettings, {"flip": [True, False]}, ["fliptrue", "flipfalse"]),
        (MlpSettings, {"hidden": [[], [256], [512, 256]]}, ["hiddennone", "hidden256", "hidden512x256"]),
        (MlpSettings, {"dataset": ["glyphs", "mnist"]}, ["datasetglyphs", "datasetmnist"]),
        # A plus is no character of a run's name.
        (PolySettings, {"lr": [1.0, 1e20]}, ["0001", "0002"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_name_is_made_of_what_varies_with_whole_numbers_of_equal_width(
    model: type[Settings], asked: dict[str, Sequence[Any]], names: list[str]
) -> None:
    assert design(model, asked).names == names


def test_names_of_more_than_64_characters_are_numbers() -> None:
    asked: dict[str, Sequence[Any]] = {
        "batch_size": [1, 2],
        "num_train": [1, 2],
        "num_test": [1, 2],
        "noise_std": [0.1, 0.2],
        "seed": [0, 10**9],
    }
    made = design(PolySettings, asked)
    assert made.names[0] == "batch_size1-num_train1-num_test1-noise_std0.1-seed0000000000"
    assert len(made.names[0]) == 60
    assert len(design(PolySettings, asked | {"seed": [0, 10**13]}).names[0]) == 64
    assert design(PolySettings, asked | {"seed": [0, 10**14]}).names == [f"{number:04}" for number in range(1, 33)]


def test_the_name_of_a_path_is_a_number() -> None:
    texts = {name: ["/a.en"] for name in FILES}
    made = design(TransformerSettings, {"task": ["text"], **texts, "train_src": ["/a.en", "/b.en"]})
    assert made.names == ["0001", "0002"]


@pytest.mark.parametrize("number", range(20))
def test_names_are_names_of_runs_and_each_is_anothers(number: int) -> None:
    chance = random.Random(number)
    known: dict[str, list[Any]] = {
        "hidden": [[], [1], [12], [1, 2], [12, 1]],
        "lr": [0.1, 1.0, 1e-300, 1e25, 3.0],
        "flip": [True, False],
        "dataset": ["mnist", "glyphs"],
        "seed": [0, 10, 2**63 - 1],
        "epochs": [1, 10, 10**9],
        "jitter": [0, 1, 10],
    }
    asked = {name: known[name] for name in chance.sample(list(known), chance.randrange(1, 6))}
    made = design(MlpSettings, asked)
    assert len(made.cells) == len(list(itertools.product(*asked.values())))
    assert len(set(made.names)) == len(made.names) == len(made.cells)
    assert all(map(NAME.fullmatch, made.names))


# What is refused


@pytest.mark.parametrize(
    ("model", "asked", "line"),
    [
        (
            MlpSettings,
            {"batch_size": [4, 2, 1], "batch_norm": [True], "seed": [0, 1, 2]},
            "--batch-norm: True cannot be used. Leave it out, or give --batch-size 2 at least: ",
        ),
        (
            TransformerSettings,
            {"num_heads": [4], "d_model": [64, 62, 32], "seed": [0, 1, 2]},
            "--num-heads: 4 cannot be used. Give a number that divides d_model, which is 62.",
        ),
        (
            TransformerSettings,
            {"target": ["de", "fr"]},
            "--target: 'fr' cannot be used. Leave it out, or add --task multi30k: no other task has it.",
        ),
        (PolySettings, {"degree": [3, 20]}, "--degree: 20 cannot be used. Give a whole number from 0 to 19."),
    ],
)
def test_a_rule_broken_in_one_run_of_several_names_the_setting(
    model: type[Settings], asked: dict[str, Sequence[Any]], line: str
) -> None:
    with pytest.raises(UsageError) as raised:
        design(model, asked)
    assert str(raised.value).startswith(line)


def test_too_many_runs_are_refused_before_any_is_made() -> None:
    assert (
        len(design(PolySettings, {"seed": range(100), "degree": range(20), "epochs": range(1, 11)}).cells) == MAX_RUNS
    )
    for asked in (
        {"seed": range(MAX_RUNS + 1)},
        {name: range(1, 10_001) for name in ("seed", "epochs", "batch_size", "eval_every", "num_train", "num_test")},
    ):
        began = time.perf_counter()
        with pytest.raises(
            UsageError, match=r"^sweep: these values make \d+ runs, more than 20000\. Give fewer values"
        ):
            design(PolySettings, asked)
        assert time.perf_counter() - began < 1
    with pytest.raises(UsageError, match=r"^sweep: these values make 20400 runs"):
        design(PolySettings, {"seed": range(200)}, [{"degree": 1, "lr": 0.1 * n} for n in range(1, 103)])
    with pytest.raises(UsageError, match=r"^sweep: these values make 30000 runs"):
        design(PolySettings, {"seed": range(10_000), "degree": [1, 2, 3]}, one_at_a_time=True)


# Replicas


def overlaps(cells: Sequence[tuple[int, int]]) -> bool:
    """Whether some seed is trained twice, counted one by one."""
    seeds = [seed for first, replicas in cells for seed in range(first, first + replicas)]
    return len(set(seeds)) < len(seeds)


@pytest.mark.parametrize("number", range(60))
def test_replicas_that_overlap_are_refused_and_no_others(number: int) -> None:
    chance = random.Random(number)
    rows = [{"seed": chance.randrange(40), "replicas": chance.randint(1, 6)} for _ in range(chance.randint(1, 6))]
    different = {(row["seed"], row["replicas"]) for row in rows}
    if overlaps([*different]):
        with pytest.raises(UsageError, match=r"^--(seed|replicas): .* overlap\. "):
            design(PolySettings, {"degree": [1, 3]}, rows)
    else:
        assert len(design(PolySettings, {"degree": [1, 3]}, rows).cells) == 2 * len(different)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (
            {"seed": [0, 1], "replicas": [10]},
            "--seed: the replicas of seeds 0 and 1 overlap. Leave 10 between them, as in 0..90..10.",
        ),
        (
            {"seed": [100, 0, 9, 50], "replicas": [10]},
            "--seed: the replicas of seeds 0 and 9 overlap. Leave 10 between them, as in 0..90..10.",
        ),
        (
            {"seed": [0], "replicas": [1, 5]},
            "--replicas: 1 and 5 replicas of seed 0 overlap. Give one number of replicas.",
        ),
    ],
)
def test_the_error_says_how_far_apart_the_seeds_have_to_be(asked: dict[str, list[int]], line: str) -> None:
    with pytest.raises(UsageError) as raised:
        design(PolySettings, {"degree": [1, 3], **asked})
    assert str(raised.value) == line


def test_the_seeds_of_the_cure_do_not_overlap() -> None:
    made = design(PolySettings, {"seed": range(0, 91, 10), "replicas": [10], "degree": [1, 3]})
    assert len(made.cells) == 20


def test_equal_seeds_of_other_settings_are_no_overlap() -> None:
    rows = [{"degree": 1, "seed": 0, "replicas": 10}, {"degree": 3, "seed": 5, "replicas": 10}]
    assert len(design(PolySettings, {}, rows).cells) == 2
    # An experiment without replicas has runs of one seed each.
    assert len(design(TransformerSettings, {"seed": [0, 1]}).cells) == 2
