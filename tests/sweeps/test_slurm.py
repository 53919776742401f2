"""Sweeps and single runs on a real Slurm of two nodes: each run equals the same one trained without it."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forks import start_fork
from helpers import (
    PROGRAM,
    ROOT,
    Outcome,
    Result,
    assert_fails,
    document_of,
    environment,
    mlpx,
    outcome,
    run_program,
    table,
)
from slurm import MAX_ARRAY_SIZE, Slurm, cluster

from mlpx.sweeps.processes import LOG

pytestmark = [pytest.mark.slurm, pytest.mark.program]

# Epochs of poly, of which a core trains some 6000 a second.
SHORT, MIDDLE, LONG = 2000, 20_000, 60_000
WORKERS = 3
PATIENCE = 200.0  # a machine that is busy with other things may be slow
SCRIPTS = re.findall(r"^```sh\n(#!.*?)^```", (ROOT / "docs/clusters.md").read_text(), re.DOTALL | re.MULTILINE)

Alone = Callable[[int, int], list[Outcome]]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """The cluster of all tests that leave its daemons alone."""
    with cluster() as running:
        yield running


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """Gives what so many runs of so many epochs are, each trained alone and without Slurm."""
    known: dict[tuple[int, int], list[Outcome]] = {}

    def train(runs: int, epochs: int) -> list[Outcome]:
        if (runs, epochs) not in known:
            folder = tmp_path_factory.mktemp("alone")
            with open(os.devnull, "r+") as nothing:
                streams = [nothing.fileno()] * 3
                processes = [
                    start_fork([*poly(epochs, str(seed)), "--into", f"{seed:02}"], folder, environment(), streams)
                    for seed in range(1, runs + 1)
                ]
                for process in processes:
                    process.join()
            assert [process.exitcode for process in processes] == [0] * runs
            known[runs, epochs] = [outcome(path) for path in sorted(folder.iterdir())]
        return known[runs, epochs]

    return train


def poly(epochs: int, seeds: str) -> list[str]:
    """The settings of the runs."""
    return ["poly", "--seed", seeds, "--epochs", str(epochs), "--eval-every", str(epochs // 10 or 1), "--device", "cpu"]


def program(slurm: Slurm, *arguments: str, cwd: Path) -> Result:
    """The program, started anew on the login node."""
    done = slurm.run(*PROGRAM, *arguments, cwd=cwd)
    return Result(done.returncode, done.stdout, done.stderr)


def submit(slurm: Slurm, folder: Path, runs: int, epochs: int, *options: str) -> Path:
    """Submit a sweep of so many runs; returns its folder."""
    asked = ["--checkpoint-every", "0.2", "--jobs", str(WORKERS), "--on", "slurm", "--quiet", *options]
    code, out, error = program(slurm, "sweep", *poly(epochs, f"1..{runs}"), *asked, cwd=folder)
    assert (code, error) == (0, "")
    return Path(out.strip())


def runs_of(sweep: Path) -> list[Path]:
    return sorted(sweep.glob("seed*"))


def job_of(slurm: Slurm) -> str:
    """The number of the only job array in the queue."""
    (job,) = {job.name.partition("_")[0] for job in slurm.jobs()}
    return job


def has_checkpoint(run: Path) -> bool:
    return any((run / "checkpoints").glob("*"))


def has_rows(run: Path) -> bool:
    """Whether it has trained for some time, so that it can go on from a later epoch than the first."""
    return (run / "metrics.csv").exists() and len(table(run / "metrics.csv")) >= 2


def is_finished(run: Path) -> bool:
    return (run / "run.json").exists() and document_of(run)["status"] == "finished"


def wait_for(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not after {seconds} s"
        time.sleep(0.05)


def assert_carried_out_once(sweep: Path, expected: list[Outcome]) -> None:
    """Each run equals the one trained alone, and whoever took it over went on with it; no worker failed."""
    assert [outcome(run) for run in runs_of(sweep)] == expected
    for run in runs_of(sweep):
        assert document_of(run)["status"] == "finished"
        resumed = document_of(run)["resumed_from_epoch"]
        assert resumed == sorted(resumed)
        # The table has a header each time that the training begins or goes on.
        assert sum("train loss" in line for line in (run / LOG).read_text().splitlines()) == 1 + len(resumed)
    for log in sweep.glob("slurm-*.log"):
        assert "Traceback" not in log.read_text()


def starts_of_workers(sweep: Path) -> list[int]:
    """How often each worker has begun, by its log, of which this is the first line."""
    return [log.read_text().count(" runs: seed ") for log in sorted(sweep.glob("slurm-*.log"))]


# Sweeps


def test_workers_on_two_nodes_carry_out_each_run_once(
    slurm: Slurm,
    alone: Alone,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = time.monotonic()
    sweep = submit(slurm, tmp_path, 12, SHORT)
    assert time.monotonic() - began < 3
    jobs = slurm.wait_until(lambda jobs: [job.state for job in jobs] == ["RUNNING"] * WORKERS, 10)
    assert {job.node for job in jobs} == {"node1", "node2"}
    wait_for(lambda: any(map(is_finished, runs_of(sweep))))
    # Anyone who sees the folder sees the state, without Slurm.
    monkeypatch.chdir("/")
    statuses = [json.loads(line)["status"] for line in mlpx(capfd, "runs", str(sweep), "--json").out.splitlines()]
    assert len(statuses) == 12
    assert {"finished", "running", "waiting"} >= set(statuses) >= {"finished", "waiting"}
    slurm.wait_until_empty(PATIENCE)
    assert_carried_out_once(sweep, alone(12, SHORT))
    assert [document_of(run)["resumed_from_epoch"] for run in runs_of(sweep)] == [[]] * 12
    # There were fewer tasks than runs, and not more of them than this Slurm allows.
    assert starts_of_workers(sweep) == [1] * WORKERS
    assert 12 > MAX_ARRAY_SIZE > WORKERS


def test_workers_that_are_stopped_or_queued_again_go_on_later(slurm: Slurm, alone: Alone, tmp_path: Path) -> None:
    sweep = submit(slurm, tmp_path, 3, MIDDLE)
    wait_for(lambda: all(map(has_rows, runs_of(sweep))))
    job = job_of(slurm)
    # This is what Slurm does before the time limit.
    assert slurm.run("scancel", "--signal=TERM", "--batch", f"{job}_1").returncode == 0
    assert slurm.run("scontrol", "requeue", f"{job}_2").returncode == 0
    slurm.wait_until_empty(PATIENCE)
    assert_carried_out_once(sweep, alone(3, MIDDLE))
    resumed = sorted(document_of(run)["resumed_from_epoch"] for run in runs_of(sweep))
    assert [len(epochs) for epochs in resumed] == [0, 1, 1]
    assert [0] not in resumed
    assert starts_of_workers(sweep) == [2, 2, 1]


@pytest.mark.slow
def test_a_cancelled_job_leaves_nothing_and_the_sweep_ends_without_slurm(
    slurm: Slurm, alone: Alone, tmp_path: Path
) -> None:
    daemons = set(slurm.processes())
    sweep = submit(slurm, tmp_path, 3, MIDDLE)
    wait_for(lambda: all(map(has_rows, runs_of(sweep))))
    assert slurm.run("scancel", job_of(slurm)).returncode == 0
    slurm.wait_until_empty(10)
    wait_for(lambda: set(slurm.processes()) <= daemons)
    assert [document_of(run)["status"] for run in runs_of(sweep)] == ["interrupted"] * 3
    done = run_program(["resume", str(sweep), "--jobs", "2", "--quiet"], tmp_path)
    assert done == Result(0, f"{sweep}\n", "")
    assert slurm.jobs() == []
    assert_carried_out_once(sweep, alone(3, MIDDLE))
    assert 0 not in [document_of(run)["resumed_from_epoch"][0] for run in runs_of(sweep)]


def test_options_that_slurm_refuses_are_told_in_one_line(slurm: Slurm, tmp_path: Path) -> None:
    for number, options in enumerate(("--nonsense", "-p nowhere")):
        folder = tmp_path / str(number)
        done = program(
            slurm, "sweep", *poly(1, "1,2"), "--on", "slurm", "--into", str(folder), "--sbatch", options, cwd=tmp_path
        )
        assert_fails(done, 2, "sbatch", "Correct --sbatch", f"mlpx resume {folder} --on slurm")
    assert slurm.jobs() == []


def test_a_controller_that_does_not_answer_is_told_in_one_line(slurm: Slurm, tmp_path: Path) -> None:
    conf = tmp_path / "slurm.conf"
    # Nobody listens at this port. By default sbatch tries for 10 s.
    text = re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=9", (slurm.folder / "slurm.conf").read_text())
    conf.write_text(text + "MessageTimeout=2\n")
    done = slurm.run(
        *PROGRAM, "sweep", *poly(1, "1,2"), "--on", "slurm", env=environment(SLURM_CONF=str(conf)), cwd=tmp_path
    )
    assert_fails(Result(done.returncode, done.stdout, done.stderr), 5, "sbatch", "Slurm")


def test_with_wait_the_command_ends_as_the_job_does(slurm: Slurm, tmp_path: Path) -> None:
    asked = ["sweep", *poly(1, "1"), "--on", "slurm", "--quiet", "--sbatch"]
    done = program(slurm, *asked, "--wait --output=/nowhere/log", cwd=tmp_path)
    assert_fails(Result(done.code, "", done.err), 1, "ended with exit code 1")
    assert slurm.jobs() == []


@pytest.mark.slow
def test_with_wait_the_command_ends_as_the_runs_do(slurm: Slurm, tmp_path: Path) -> None:
    asked = ["sweep", *poly(1, "1"), "--on", "slurm", "--quiet", "--sbatch", "--wait"]
    assert program(slurm, *asked, cwd=tmp_path).code == 0
    assert program(slurm, *asked, "--lr", "1e20", cwd=tmp_path).code == 4


@pytest.mark.slow
def test_workers_go_on_after_their_time_limit(slurm: Slurm, alone: Alone, tmp_path: Path) -> None:
    # Slurm looks at the time twice a minute, so the signal comes within the first 30 s.
    sweep = submit(slurm, tmp_path, 12, LONG, "--sbatch", "--time=1 --signal=B:TERM@30")
    slurm.wait_until_empty(PATIENCE)
    assert_carried_out_once(sweep, alone(12, LONG))
    assert min(starts_of_workers(sweep)) >= 2
    assert any(document_of(run)["resumed_from_epoch"] for run in runs_of(sweep))


@pytest.mark.slow
def test_workers_whose_node_is_lost_work_on_beside_those_that_replace_them(alone: Alone, tmp_path: Path) -> None:
    with cluster() as slurm:
        sweep = submit(slurm, tmp_path, 12, MIDDLE)
        wait_for(lambda: sum(map(has_rows, runs_of(sweep))) >= WORKERS)
        slurm.kill_slurmd("node1")
        # The controller finds out by itself, half a minute later.
        assert slurm.run("scontrol", "update", "NodeName=node1", "State=DOWN", "Reason=lost").returncode == 0
        wait_for(lambda: sum(starts_of_workers(sweep)) > WORKERS)
        assert not all(map(is_finished, runs_of(sweep)))
        slurm.wait_until_empty(PATIENCE)
        wait_for(lambda: all(map(is_finished, runs_of(sweep))))
        assert_carried_out_once(sweep, alone(12, MIDDLE))
        # The lost workers had not ended, so no run had to be taken over.
        assert [document_of(run)["resumed_from_epoch"] for run in runs_of(sweep)] == [[]] * 12


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "starts"), [(0, 2), (8, 1)])
def test_a_controller_that_is_killed_and_starts_again_does_no_harm(
    alone: Alone, tmp_path: Path, seconds: float, starts: int
) -> None:
    with cluster() as slurm:
        sweep = submit(slurm, tmp_path, 12, SHORT)
        slurm.wait_until(lambda jobs: [job.state for job in jobs] == ["RUNNING"] * WORKERS, 10)
        time.sleep(seconds)
        slurm.kill_controller()
        slurm.start_controller()
        slurm.wait_until_empty(PATIENCE)
        wait_for(lambda: all(map(is_finished, runs_of(sweep))))
        assert_carried_out_once(sweep, alone(12, SHORT))
        # What it had not written down in time, it does twice.
        assert starts_of_workers(sweep) == [starts] * WORKERS


# The scripts of the documentation


SMALLER = "--num-layers 1 --d-model 16 --num-train 500 --eval-every 50 --checkpoint-every 0.2 --device cpu"


@pytest.mark.slow
def test_the_scripts_of_the_page_train_and_go_on_when_they_are_queued_again(
    slurm: Slurm, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one, array, _ = SCRIPTS
    one = one.replace("mlpx transformer", f"mlpx transformer {SMALLER}")
    (tmp_path / "reverse.sh").write_text(one)
    (tmp_path / "seeds.sh").write_text(array)
    run = tmp_path / "runs" / "reverse"
    job = sbatch(slurm, "reverse.sh", tmp_path)
    wait_for(lambda: has_checkpoint(run))
    assert slurm.run("scancel", "--signal=TERM", "--batch", job).returncode == 0
    sbatch(slurm, "seeds.sh", tmp_path)
    slurm.wait_until_empty(PATIENCE)
    (epoch,) = document_of(run)["resumed_from_epoch"]
    assert document_of(run)["status"] == "finished"
    log = (tmp_path / f"reverse-{job}.log").read_text()
    assert f"saved after epoch {epoch}" in log
    assert "Traceback" not in log
    (command,) = re.findall(r"^mlpx (.*) --into runs/reverse &$", one, re.MULTILINE)
    alone = tmp_path / "alone"
    done = slurm.run(*PROGRAM, *command.split(), "--into", str(alone), env=environment(OMP_NUM_THREADS="1"))
    assert done.returncode == 0, done
    assert outcome(run) == outcome(alone)
    listed = mlpx(
        capfd, "runs", "--runs-dir", str(run.parent), "--where", "experiment == poly", "--over", "seed", "--json"
    )
    (row,) = map(json.loads, listed.out.splitlines())
    assert row["n"] == 4


def sbatch(slurm: Slurm, script: str, folder: Path) -> str:
    """Submit a script of the documentation in ``folder``; returns the number of the job."""
    path = f"{Path(PROGRAM[0]).parent}:{os.environ['PATH']}"
    env = {**slurm.env, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = slurm.run("sbatch", "--parsable", script, env=env, cwd=folder)
    assert done.returncode == 0, done
    return done.stdout.strip()
