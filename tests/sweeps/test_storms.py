"""Sweeps under fire, and beside one another: slow tests, each of many processes."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROGRAM, ROOT, Result, assert_fails, document_of, environment, outcome
from sweeping import make_sweep

from mlpx.sweeps.processes import LOG

pytestmark = [pytest.mark.slow, pytest.mark.program]

POLY = ("poly", "--epochs", "300", "--eval-every", "10")
MLP = ("mlp", "--dataset", "glyphs", "--num-train", "500", "--epochs", "2", "--hidden", "64", "--dropout", "0.2")
TRANSFORMER = ("transformer", "--num-layers", "1", "--d-model", "16", "--num-train", "100", "--epochs", "2")


def run(*arguments: str, folder: Path, cores: int | None = 1) -> subprocess.CompletedProcess[str]:
    """The program, started anew."""
    env = environment(OMP_NUM_THREADS=None if cores is None else str(cores))
    return subprocess.run([*PROGRAM, *arguments], cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("way", ["kill", "ctrl-c", "twice", "term", "all", "hup"])
def test_disturbed_sweeps_leave_nothing_and_resume_bit_for_bit(way: str) -> None:
    storm = [sys.executable, str(ROOT / "benchmarks" / "kill_storm.py"), "--kills", "3", "--seed", "1", "--by", way]
    sweep = ["sweep", "poly", "--degree", "3..8", "--epochs", "2000", "--eval-every", "20"]
    done = subprocess.run([*storm, "--", *sweep], capture_output=True, text=True, env=environment())
    print("\n" + done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("3 of 3 equal")


@pytest.mark.parametrize("number", [2, 8])
def test_several_processes_carry_out_a_sweep_together_each_run_once(tmp_path: Path, number: int) -> None:
    asked = {"epochs": "300", "eval_every": "10", "seed": "1..30"}
    alone, sweep = (
        make_sweep(tmp_path / name, "poly", asked, lambda *_: None, device="cpu").path for name in ("alone", "together")
    )
    assert run("resume", str(alone), folder=tmp_path).returncode == 0
    command = [*PROGRAM, "resume", str(sweep), "--jobs", "2"]
    helpers = [subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL) for _ in range(number)]
    codes = {helper.wait(timeout=300) for helper in helpers}
    assert 0 in codes
    assert codes <= {0, 75}
    for path in sorted(sweep.glob("seed*")):
        assert outcome(path) == outcome(alone / path.name)
        assert document_of(path)["resumed_from_epoch"] == []
        lines = (path / LOG).read_text().splitlines()
        assert sum("train loss" in line for line in lines) == 1
        assert lines.count(str(path)) == 1


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("command", [POLY, MLP, TRANSFORMER], ids=lambda command: command[0])
def test_each_run_equals_the_single_run_with_as_many_threads_forked_or_not(
    tmp_path: Path, command: tuple[str, ...], cores: int
) -> None:
    seeds = ("3", "4")
    expected = {}
    for seed in seeds:
        done = run(*command, "--seed", seed, "--quiet", "--device", "cpu", folder=tmp_path, cores=cores)
        assert done.returncode == 0, done.stderr
        expected[f"seed{seed}"] = outcome(Path(done.stdout.strip()))
    asked = ["--seed", ",".join(seeds), "--cores", str(cores), "--device", "cpu", "--quiet"]
    for jobs in ("1", "2"):
        # The number of threads of the sweep's own process does not matter.
        for own in (None, 1):
            done = run("sweep", *command, *asked, "--jobs", jobs, folder=tmp_path, cores=own)
            assert (done.returncode, done.stderr) == (0, "")
            sweep = Path(done.stdout.strip())
            assert {name: outcome(sweep / name) for name in expected} == expected
    # A run that was laid out, and is begun by hand.
    for name in expected:
        for path in (sweep / name).iterdir():
            if path.name != "config.toml" and path.is_file():
                path.unlink()
        for path in (sweep / name / "checkpoints").iterdir():
            path.unlink()
        done = run("resume", str(sweep / name), "--device", "cpu", "--quiet", folder=tmp_path, cores=cores)
        assert done.returncode == 0, done.stderr
        assert outcome(sweep / name) == expected[name]


def test_runs_go_on_when_the_process_that_forks_them_is_killed(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "runs", "poly", {"epochs": "300", "seed": "1..4"}, lambda *_: None, device="cpu").path
    lines = (
        "import sys; sys.argv = ['mlpx', 'resume', sys.argv[1], '--jobs', '2']\n"
        "import planted; from mlpx.sweeps import processes; from mlpx.__main__ import main\n"
        "processes._become_the_run = planted.server_killed_once\n"
        "sys.exit(main())"
    )
    env = environment(PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}")
    done = subprocess.run([sys.executable, "-c", lines, str(sweep)], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert {document_of(path)["status"] for path in sweep.glob("seed*")} == {"finished"}


REDIRECTIONS = [">/dev/full", ">&-", ">&- 2>&-", "<&- >/dev/full 2>/dev/full", "| head -1", "</dev/null | head -1"]


@pytest.mark.parametrize("view", ["", "--quiet", "--json"])
@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_output_that_cannot_be_written_does_not_stop_a_sweep(tmp_path: Path, redirection: str, view: str) -> None:
    command = shlex.join([*PROGRAM, "sweep", "poly", "--epochs", "1", "--seed", "1,2", "--device", "cpu"])
    line = f"{command} {view} {redirection}; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0", "")
    sweep = tmp_path / "runs" / "latest"
    assert [document_of(sweep / name)["status"] for name in ("seed1", "seed2")] == ["finished"] * 2


def test_where_the_runs_cannot_be_started_the_remedy_is_said(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    command = [*PROGRAM, "sweep", "poly", "--seed", "1,2", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(TMPDIR=str(long)), capture_output=True, text=True)
    assert_fails(Result(done.returncode, done.stdout, done.stderr), 6, "AF_UNIX path too long. Set TMPDIR")
