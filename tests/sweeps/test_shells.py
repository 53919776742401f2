"""No shell changes the lines of the pages that begin with ``mlpx sweep``, whatever files lie in its folder."""

import itertools
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from test_docs import commands

SHELLS = ["bash", "dash"]
# Files for whose names a shell looks where a word holds brackets, braces, stars or question marks.
FILES = ["x=1", "x=2", "1", "3", "[1]", "a,b", "1,3,19", "1..9", "0.001..1..x10", "x10", "none", "-x", " "]
# What pages and people write.
TYPICAL = [
    "mlpx sweep poly --degree 1,3,19",
    "mlpx sweep poly --degree 0..19 --replicas 100 --epochs 1500",
    "mlpx sweep poly --degree 0..9..3 --lr 0.001..1..x10 --weight-decay 0..0.5..0.1,1e-3 --seed 0..90..10",
    "mlpx sweep mlp --hidden none,256,512x256 --flip true,false --dataset fashion-mnist,glyphs --lr 1e-05,+1,-1",
    "mlpx sweep mlp --config configs/mlp-best.toml --one-at-a-time --jitter 2,0,4 --seed 0..5 --jobs 2 --cores 1",
    "mlpx sweep poly --cells configs/cells.csv --check 'test_loss < 0.05' --name few # a comment",
    "mlpx sweep mlp --data-dir 'a b' --data-dir=a,b --into runs/s --sbatch '--partition=gpu --time=1:00:00'",
    "mlpx sweep poly --cells - --dry-run < cells.csv | head -1; echo done",
]
CHANGED = {
    "bash": ["--degree [0-9]", "--degree ?", "x=[1,2]", "x*", "--degree {1,3}", "--seed $HOME", "~", "--lr [x]*"],
    "dash": ["--degree [0-9]", "--degree ?", "x=[1,2]", "x*", "--seed $HOME", "~"],
}
LINES = [*TYPICAL, *(command.line for command in commands() if command.line.startswith("mlpx sweep"))]


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A folder full of files, and beside it a program ``mlpx`` that prints what reaches it."""
    program = tmp_path / "bin" / "mlpx"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf \'%s\\0\' "$@" >> "$REACHED"\n')
    program.chmod(0o755)
    folder = tmp_path / "crowded"
    folder.mkdir()
    for name in [*FILES, "cells.csv"]:
        (folder / name).write_text("")
    return folder


def reached(line: str, shell: str, folder: Path) -> list[str]:
    """The arguments with which the shell starts the program in the folder."""
    if not shutil.which(shell):
        pytest.skip(f"no {shell}")
    path = folder.parent / "reached"
    env = os.environ | {"PATH": f"{folder.parent / 'bin'}:{os.environ['PATH']}", "REACHED": str(path)}
    subprocess.run([shell, "-c", line], cwd=folder, env=env, check=True, capture_output=True)
    words = path.read_text().split("\0")[:-1]
    path.unlink()
    return words


def typed(line: str) -> list[str]:
    """The arguments of the first command of a line, as they were typed, but for quotes."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(itertools.takewhile(lambda word: set(word) - set(lexer.punctuation_chars) or not word, lexer))[1:]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("line", dict.fromkeys(LINES))
def test_a_line_of_the_pages_reaches_the_program_as_it_was_typed(line: str, shell: str, crowded: Path) -> None:
    assert reached(line, shell, crowded) == typed(line)


def test_what_was_typed_is_taken_apart_by_its_quotes_alone() -> None:
    assert typed("mlpx sweep poly --check 'test_loss < 0.05' --degree [1] # a comment") == [
        *("sweep", "poly", "--check", "test_loss < 0.05", "--degree", "[1]"),
    ]
    assert typed(TYPICAL[-1]) == ["sweep", "poly", "--cells", "-", "--dry-run"]


@pytest.mark.parametrize(("shell", "words"), [(shell, words) for shell, lines in CHANGED.items() for words in lines])
def test_what_a_shell_changes_is_noticed(shell: str, words: str, crowded: Path) -> None:
    line = f"mlpx sweep poly {words}"
    assert reached(line, shell, crowded) != typed(line)
