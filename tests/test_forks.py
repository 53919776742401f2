"""A forked program is the program: what it leaves and prints is what one started anew leaves and prints."""

import re
import signal
import subprocess
from pathlib import Path

import pytest
from forks import live
from helpers import CLOCKED, PROGRAM, document_of, environment, finished, outcome

pytestmark = pytest.mark.program

COMMANDS = [
    ("poly", "--degree", "4", "--epochs", "45", "--replicas", "3"),
    ("mlp", "--dataset", "glyphs", "--num-train", "500", "--epochs", "2", "--dropout", "0.2", "--momentum", "0.9"),
    ("transformer", "--num-layers", "1", "--d-model", "16", "--num-train", "100", "--epochs", "2", "--dropout", "0.1"),
]


def layout(text: str) -> str:
    """What a run printed, with a sign for each number, since a clock measured some, and without its folder's path."""
    return re.sub(r" *\d\S*", " #", re.sub(r"^/.*", "", text, flags=re.MULTILINE))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_fork_equals_a_program_started_anew_to_the_last_bit(tmp_path: Path, command: tuple[str, ...]) -> None:
    for name in ("forked", "anew"):
        (tmp_path / name).mkdir()
    forked = finished(command, tmp_path / "forked")
    anew = subprocess.run(
        [*PROGRAM, *command], cwd=tmp_path / "anew", env=environment(), capture_output=True, text=True, check=True
    )
    run = (tmp_path / "anew" / "runs" / "latest").resolve()
    assert outcome(forked.path) == outcome(run)
    assert {path.name for path in forked.path.iterdir()} == {path.name for path in run.iterdir()}
    for picture in run.glob("*.png"):
        assert (forked.path / picture.name).read_bytes() == picture.read_bytes()
    metrics, expected = forked.document["metrics"], document_of(run)["metrics"]
    for name in CLOCKED:
        metrics.pop(name, None), expected.pop(name, None)
    assert metrics == expected
    assert forked.document["command"] == document_of(run)["command"]
    assert forked.result.err == anew.stderr
    assert layout(forked.result.out) == layout(anew.stdout)


def test_a_fork_dies_by_the_signals_that_a_program_dies_by(tmp_path: Path) -> None:
    with live(["poly", "--epochs", "1000000"], tmp_path, environment()) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
