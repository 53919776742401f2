"""What is asked of a sweep: typed, or from a file; and ``sweep.toml``, from which the same is read again."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlpx import registry
from mlpx.errors import UsageError
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly.settings import PolySettings
from mlpx.experiments.transformer.settings import FILES, TransformerSettings
from mlpx.settings.base import Settings
from mlpx.settings.files import to_toml
from mlpx.sweeps.request import Options, Request

ROWS = "degree,num_train\n1,20\n,50\n"


def file_of(folder: Path, text: str | bytes) -> Path:
    path = folder / "my.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read_again(request: Request, folder: Path) -> Request:
    """The request, written and read."""
    return Request.read(file_of(folder, request.to_toml()))


# Written and read

TYPED: dict[str, tuple[type[Settings], dict[str, str], dict[str, Any]]] = {
    "nothing": (PolySettings, {}, {}),
    "one value": (PolySettings, {"degree": "3"}, {}),
    "lists and ranges": (PolySettings, {"lr": "0.001..1..x10", "seed": "0..9", "degree": "19,1,3", "epochs": "10"}, {}),
    "every type": (MlpSettings, {"hidden": "none,512x256", "flip": "true,false", "dataset": "mnist,glyphs"}, {}),
    "one of every type": (
        MlpSettings,
        {"hidden": "none", "flip": "true", "dataset": "mnist", "data_dir": "/a", "lr": "1"},
        {},
    ),
    "a list of one item": (MlpSettings, {"hidden": "256"}, {}),
    "rows": (PolySettings, {"seed": "0,1"}, {"cells": ROWS}),
    "rows of a spreadsheet": (PolySettings, {}, {"cells": "\ufeff" + ROWS.replace("\n", "\r\n")}),
    "rows with quotes": (MlpSettings, {}, {"cells": 'hidden,data_dir\n"512x256","/a ""b"", \\"\n'}),
    "one at a time": (PolySettings, {"degree": "3,1", "seed": "0..2"}, {"one_at_a_time": True}),
    "execution": (
        PolySettings,
        {},
        {"cores": 2, "gpus": 0.25, "device": "cuda:1", "checkpoint_every": 0.0, "check": ["test_loss < 1"]},
    ),
    "checks": (PolySettings, {"degree": "1,3"}, {"check": ["test_loss < 1e-3", " train_loss>=0 ", "epoch == 400"]}),
    "unusual paths": (MlpSettings, {"data_dir": '/é/\'"\\"""/a b,c\t\x7f\n\r\n\u2028x'}, {}),
}


@pytest.mark.parametrize("case", TYPED)
def test_what_is_written_is_read(case: str, tmp_path: Path) -> None:
    model, typed, options = TYPED[case]
    request = Request(model).updated(typed, options)
    again = read_again(request, tmp_path)
    # Of equal numbers of different types, repr tells which is which; the order of the settings counts.
    assert repr(again.values) == repr(request.values)
    assert again.design() == request.design()
    assert again.checks == request.checks
    kept = {name: value for name, value in request.options.model_dump().items() if name != "cells"}
    assert again.options.model_dump(exclude={"cells"}) == kept
    assert again.to_toml() == request.to_toml()
    assert read_again(again, tmp_path).design() == request.design()


@pytest.mark.parametrize("experiment", registry.EXPERIMENTS)
def test_the_settings_of_a_run_are_a_sweep_of_one_run(experiment: str, tmp_path: Path) -> None:
    model = registry.settings_class(experiment)
    path = tmp_path / "config.toml"
    path.write_text(to_toml(model.model_validate({})))
    request = Request.read(path, experiment)
    assert (request.design().cells, request.options) == ([model.model_validate({})], Options())
    assert read_again(request, tmp_path).design().cells == [model.model_validate({})]


def test_a_preset_is_a_sweep_of_one_run() -> None:
    presets = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
    assert len(presets) >= 5
    for path in presets:
        request = Request.read(path)
        files = {name: "/x" for name in FILES if request.asked.get("task") == "text"}
        assert len(request.updated(files, {}).design().cells) == 1, path


def test_the_file_is_fit_to_be_read_and_repeats_nothing(tmp_path: Path) -> None:
    request = Request(PolySettings).updated(
        {"lr": "0.001..1..x10", "degree": "3", "seed": "0,1"}, {"cells": "epochs\n9\n"}
    )
    assert tomllib.loads(request.to_toml()) == {
        "experiment": "poly",
        "lr": "0.001..1..x10",
        "degree": 3,
        "seed": "0,1",
        "sweep": {"cells": "epochs\n9\n", "cores": 1, "gpus": 0.0, "device": "auto", "checkpoint_every": 30.0},
    }
    assert '"""\nepochs\n9\n"""' in request.to_toml()


def test_a_path_means_the_same_wherever_the_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lists = "".join(f'{name} = ["a", "b,c"]\n' for name in FILES)
    request = Request.read(file_of(tmp_path, f'experiment = "transformer"\ntask = "text"\nseed = 3\n{lists}'))
    before = request.design()
    assert len(before.cells) == 2 ** len(FILES)
    single = Request(MlpSettings).updated({"data_dir": "data"}, {})
    path, other = tmp_path / "sweep.toml", tmp_path / "other.toml"
    path.write_text(request.to_toml())
    other.write_text(single.to_toml())
    monkeypatch.chdir("/")
    assert Request.read(path).design() == before
    assert Request.read(other).values == {"data_dir": [f"{tmp_path}/data"]}


# Precedence


def test_what_is_typed_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    settings = 'experiment = "poly"\ndegree = [1, 3]\nlr = "0.1,0.2"\nepochs = 7\n'
    request = Request.read(file_of(tmp_path, settings + '[sweep]\ncores = 2\ncheck = ["test_loss < 1"]\n'), "poly")
    updated = request.updated({"lr": "0.5", "seed": "0..2"}, {"cores": None, "gpus": 1, "check": None})
    assert updated.values == {"degree": [1, 3], "epochs": [7], "lr": [0.5], "seed": [0, 1, 2]}
    assert updated.options == Options(cores=2, gpus=1.0, check=["test_loss < 1"])
    assert updated.updated({}, {"check": []}).options.check == []
    assert {cell.batch_size for cell in updated.design().cells} == {10}
    assert request.values == {"degree": [1, 3], "lr": [0.1, 0.2], "epochs": [7]}


def test_the_order_is_that_of_the_file_and_then_of_what_was_typed(tmp_path: Path) -> None:
    request = Request.read(file_of(tmp_path, 'experiment = "poly"\nseed = [0, 1]\ndegree = [1, 3]\n'))
    assert request.design().varying == ["seed", "degree"]
    assert request.updated({"seed": "5,6"}, {}).design().varying == ["degree", "seed"]


def test_an_error_names_the_option_or_the_place_in_the_file(tmp_path: Path) -> None:
    path = file_of(tmp_path, 'experiment = "poly"\ndegree = [1, 20]\n')
    request = Request.read(path)
    for made, what in (
        (request, f"{path}: degree"),
        (request.updated({"lr": "0.1"}, {}), f"{path}: degree"),
        (request.updated({"degree": "1,20", "batch_size": "1"}, {}), "--degree"),
    ):
        with pytest.raises(UsageError) as raised:
            made.design()
        assert str(raised.value).startswith(f"{what}: '20' in ")
    with pytest.raises(UsageError, match=r"^--batch-size: '0' cannot be used\. "):
        Request(PolySettings).updated({"batch_size": "0"}, {}).design()


# What is refused

POLY = 'experiment = "poly"\n'
FILES_REFUSED: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "my.toml: names no known experiment (None). Correct it."),
    "no such experiment": ('experiment = "pol"', "my.toml: names no known experiment ('pol'). Correct it."),
    "a list of experiments": ('experiment = ["poly"]', "my.toml: names no known experiment (['poly']). Correct it."),
    "a table for the experiment": ("[experiment]\nx = 1", "my.toml: names no known experiment ({'x': 1}). Correct it."),
    "unknown setting": (POLY + "degre = 3", "my.toml: degre: no such setting. Did you mean 'degree'?"),
    "setting of another experiment": (POLY + "hidden = [1]", "my.toml: hidden: no such setting. Leave it out."),
    "control characters": (POLY + '"\\u001b[31m" = 3', r"my.toml: \x1b[31m: no such setting. Leave it out."),
    "wrong type": (POLY + "degree = 3.0", "my.toml: degree: '3.0' cannot be used. Give a whole number from 0 to 19."),
    "a table": (POLY + "[degree]\nx = 1", "my.toml: degree: \"{'x': 1}\" cannot be used. Give a whole number from 0 "),
    "a date": (POLY + "degree = 2026-11-26", "my.toml: degree: '2026-11-26' cannot be used. Give a whole number "),
    "an empty list": (POLY + "degree = []", "my.toml: degree: the list is empty. Give a value."),
    "sweep a number": (POLY + "sweep = 3", "my.toml: sweep: is not a table. Write [sweep] above its lines."),
    "sweep a list": (POLY + "[[sweep]]\ncores = 1", "my.toml: sweep: is not a table. Write [sweep] above its lines."),
    "unknown option": (POLY + "[sweep]\ncore = 2", "my.toml: sweep.core: no such option. Did you mean 'cores'?"),
    "unknown like no other": (
        POLY + "[sweep]\nzzz = 2",
        "my.toml: sweep.zzz: no such option. There are one_at_a_time, ",
    ),
    "jobs": (POLY + "[sweep]\njobs = 2", "my.toml: sweep.jobs: no such option. "),
    "a setting among the options": (POLY + "[sweep]\ndegree = 3", "my.toml: sweep.degree: no such option. "),
    "text for a number": (
        POLY + '[sweep]\ncores = "2"',
        "my.toml: sweep.cores: '2' cannot be used. Give a whole number ",
    ),
    "true for a number": (POLY + "[sweep]\ncores = true", "my.toml: sweep.cores: True cannot be used. Give a whole "),
    "no core": (
        POLY + "[sweep]\ncores = 0",
        "my.toml: sweep.cores: 0 cannot be used. Give a whole number from 1 to 4096.",
    ),
    "a table of cores": (POLY + "[sweep.cores]\nx = 1", "my.toml: sweep.cores: {'x': 1} cannot be used. Give a whole "),
    "nan": (POLY + "[sweep]\ngpus = nan", "my.toml: sweep.gpus: nan cannot be used. Give a number from 0 to 1024."),
    "never": (POLY + "[sweep]\ncheckpoint_every = inf", "my.toml: sweep.checkpoint_every: inf cannot be used. Give a "),
    "no device": (POLY + '[sweep]\ndevice = "gpu"', "my.toml: sweep.device: 'gpu' is not a device. Give auto, cpu, "),
    "a line": (POLY + '[sweep]\ndevice = "cuda:1\\n"', r"my.toml: sweep.device: 'cuda:1\n' is not a device. "),
    "a check alone": (POLY + '[sweep]\ncheck = "x < 1"', "my.toml: sweep.check: 'x < 1' cannot be used. Give a list, "),
    "a check that is a number": (
        POLY + "[sweep]\ncheck = [1]",
        "my.toml: sweep.check: 1 cannot be used. Give a list, ",
    ),
    "no check": (POLY + '[sweep]\ncheck = ["a"]', "--check: 'a' is not a check. Write one like 'test_loss < 0.05'."),
    "a check of nothing": (POLY + '[sweep]\ncheck = ["tst_loss < 1"]', "--check: no metric 'tst_loss'. Did you mean "),
    "1 for true": (
        POLY + "[sweep]\none_at_a_time = 1",
        "my.toml: sweep.one_at_a_time: 1 cannot be used. Give true or ",
    ),
    "rows of numbers": (POLY + "[sweep]\ncells = [1]", "my.toml: sweep.cells: [1] cannot be used. Give text."),
    "rows of nothing": (
        POLY + '[sweep]\ncells = " "',
        "--cells: is empty. Give a line of settings, and below it a line ",
    ),
    "two designs": (
        POLY + '[sweep]\none_at_a_time = true\ncells = "degree\\n1"',
        "--one-at-a-time and --cells: exclude ",
    ),
    "not TOML": (POLY + "degree : 3", "my.toml: is not TOML: "),
    "not UTF-8": (b"\xff\xfe", "my.toml: is not UTF-8 at byte 0. Save it as UTF-8."),
    "nested without end": ("x = " + "[" * 50_000, "my.toml: is not TOML: "),
    "digits without end": (POLY + "degree = 0x" + "f" * 5000, "my.toml: is not TOML: "),
    "five megabytes": (b"#" * 5 * 2**20, "my.toml: is longer than 4096 KiB. Give a TOML file of settings."),
    "a list without end": (POLY + f"degree = [{'1,' * 20_000}]", "my.toml: degree: [1, 1, 1, "),
    "a text without end": (POLY + f'seed = "{"1," * 1_000_000}1"', "my.toml: seed: '1,1,1,"),
}


@pytest.mark.parametrize("case", FILES_REFUSED)
def test_a_file_that_cannot_be_used_is_one_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, line = FILES_REFUSED[case]
    file_of(tmp_path, content)
    with pytest.raises(UsageError) as raised:
        Request.read(Path("my.toml")).design()
    assert str(raised.value).startswith(line)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) <= 600


def test_a_file_for_another_experiment_is_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, "degree = 3")
    assert Request.read(path, "poly").values == {"degree": [3]}
    path = file_of(tmp_path, 'experiment = "mlp"')
    with pytest.raises(UsageError, match=r"my\.toml: is for experiment 'mlp'\. Give a file for 'poly'\."):
        Request.read(path, "poly")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_is_no_file_is_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(UsageError, match=r"my\.toml: .*\. Give a TOML file of settings\."):
        Request.read(path)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"cores": 0}, "--cores: 0 cannot be used. Give a whole number from 1 to 4096."),
        ({"gpus": -1.0}, "--gpus: -1.0 cannot be used. Give a number from 0 to 1024."),
        ({"checkpoint_every": float("nan")}, "--checkpoint-every: nan cannot be used. Give a number of at least 0."),
        ({"device": "tpu"}, "--device: 'tpu' is not a device. Give auto, cpu, cuda or cuda:N."),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options: Mapping[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as raised:
        Request(PolySettings).updated({}, options)
    assert str(raised.value) == line


def test_a_check_has_to_be_known_in_every_run() -> None:
    one = {"check": ["test_loss < 1"]}
    spread = {"check": ["max_test_loss < 1"]}
    assert Request(PolySettings).updated({"replicas": "5"}, spread).design()
    for typed, check in (({"replicas": "1"}, spread), ({"replicas": "5,1", "seed": "0"}, spread)):
        with pytest.raises(UsageError, match=r"^--(check: no metric 'max_test_loss'|replicas: )"):
            Request(PolySettings).updated(typed, check).design()
    # Two numbers of replicas, and seeds apart.
    rows = {"cells": "seed,replicas\n0,5\n5,1\n"}
    assert Request(PolySettings).updated({}, one | rows).design()
    with pytest.raises(UsageError, match=r"^--check: no metric 'max_test_loss'"):
        Request(PolySettings).updated({}, spread | rows).design()
    # The metrics of the transformer depend on its task.
    for task, metric in (("reverse", "test_bleu"), ("multi30k", "test_exactness")):
        assert Request(TransformerSettings).updated({"task": task}, one).design()
        for both in (task, "reverse,multi30k", "multi30k,reverse"):
            with pytest.raises(UsageError, match=rf"^--check: no metric '{metric}'"):
                Request(TransformerSettings).updated({"task": both}, {"check": [f"{metric} > 0"]}).design()
