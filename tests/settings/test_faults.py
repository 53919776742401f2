"""Settings, options and names that cannot be used: exit 2, one line that names key, value and remedy, nothing made."""

import os
from pathlib import Path

import pytest
from helpers import Program, assert_fails

SETTINGS_FILES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "unknown key": (b"degre = 3", ("degre", "Did you mean 'degree'?")),
    "unknown key like no other": (b"zzz = 3", ("zzz", "The settings are ")),
    "text for a number": (b'degree = "3"', ("degree", "'3'", "a whole number from 0 to 19")),
    "true for 1": (b"degree = true", ("degree", "true", "a whole number from 0 to 19")),
    "true for 1.0": (b"lr = true", ("lr", "true", "a number above 0")),
    "a fraction for a whole number": (b"epochs = 1.5", ("epochs", "1.5", "a whole number")),
    "a list": (b"epochs = [1, 2]", ("epochs", "[1, 2]")),
    "a table": (b"[degree]\nx = 1", ("degree",)),
    "nan": (b"lr = nan", ("lr", "nan", "a number above 0")),
    "infinity": (b"noise_std = inf", ("noise_std", "inf", "a number from 0 to")),
    "1e999": (b"weight_decay = 1e999", ("weight_decay", "inf")),
    "too large": (b"degree = 20", ("degree", "20", "from 0 to 19")),
    "too small": (b"batch_size = 0", ("batch_size", "0", "from 1")),
    "an enormous integer": (b"seed = " + b"9" * 30, ("seed", "9" * 30)),
    "an integer beyond measure": (b"seed = " + b"9" * 5000, ("is not TOML",)),
    "control characters in a key": (b'"\\u001b[31m" = 3', ("x1b",)),
    "another experiment": (b'experiment = "mlp"', ("mlp", "'poly'")),
    "not TOML": (b"degree : 3", ("is not TOML",)),
    "not UTF-8": (b"\xff\xfe", ("is not UTF-8",)),
    "a megabyte": (b"#" * 1_000_000, ("longer than 64 KiB",)),
    "nested without end": (b"x = " + b"[" * 50_000, ("is not TOML",)),
}


@pytest.mark.parametrize("case", SETTINGS_FILES)
def test_settings_files(program: Program, tmp_path: Path, case: str) -> None:
    content, words = SETTINGS_FILES[case]
    (tmp_path / "my.toml").write_bytes(content)
    assert_fails(program("poly", "--config", "my.toml"), 2, "my.toml", *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_settings_files_that_are_none(program: Program, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "my.toml"
    if kind == "folder":
        path.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    assert_fails(program("poly", "--config", "my.toml"), 2, "my.toml", "Give a TOML file")


OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "not a number": (("--degree", "abc"), ("--degree",)),
    "too large": (("--degree", "20"), ("--degree: 20 ", "from 0 to 19")),
    "nan": (("--lr", "nan"), ("--lr: nan", "above 0")),
    "infinity": (("--lr", "inf"), ("--lr: inf", "above 0")),
    "zero": (("--lr", "0"), ("--lr: 0.0", "above 0")),
    "unknown option": (("--degre", "3"), ("--degre", "--degree")),
    "missing value": (("--degree",), ("--degree",)),
    "stray argument": (("three",), ("three",)),
    "no device": (("--device", "gpu"), ("--device", "'gpu'", "cuda:N")),
    "quiet and json": (("--quiet", "--json"), ("--quiet and --json",)),
    "checkpoints never": (("--checkpoint-every", "inf"), ("--checkpoint-every",)),
    "checkpoints before": (("--checkpoint-every=-1",), ("--checkpoint-every",)),
    "a check without a number": (("--check", "test_loss < x"), ("--check", "test_loss < x")),
    "a check that is code": (("--check", "__import__('os').system('touch owned')"), ("--check",)),
    "a check of nothing known": (("--check", "tst_loss < 3"), ("tst_loss", "'test_loss'")),
    "name ..": (("--name", ".."), ("--name",)),
    "name with a slash": (("--name", "a/b"), ("--name",)),
    "empty name": (("--name", ""), ("--name",)),
    "name with a newline": (("--name", "a\nb"), ("--name", r"a\nb")),
    "name with an escape": (("--name", "\x1b[31m"), ("--name", r"\x1b")),
    "name with a dash first": (("--name=-x",), ("--name",)),
    "name too long": (("--name", "x" * 65), ("--name",)),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(program: Program, tmp_path: Path, case: str) -> None:
    arguments, words = OPTIONS[case]
    assert_fails(program("poly", *arguments), 2, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [(), ("poli",), ("--degree", "3")])
def test_commands(program: Program, arguments: tuple[str, ...]) -> None:
    assert_fails(program(*arguments), 2, "mlpx --help")


def test_a_batch_larger_than_the_data_is_the_whole_data(program: Program) -> None:
    assert program("poly", "--epochs", "2", "--batch-size", "1000000").code == 0


def test_debug_shows_the_traceback_before_the_line(program: Program) -> None:
    result = program("poly", "--degree", "20", "--debug")
    assert result.code == 2
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1].startswith("error: --degree")
