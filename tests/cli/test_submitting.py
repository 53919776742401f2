"""``--on slurm`` against a stand-in of ``sbatch``; tests/sweeps/test_slurm.py does the same with the real one."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import Result, assert_fails, document_of, environment, mlpx, outcome, run_program
from sweeping import losses, make_sweep

from mlpx import registry
from mlpx.runs import reading
from mlpx.sweeps import folder, on_slurm
from mlpx.sweeps.request import Request

# Slurm reads the options in the script, and starts the tasks of the array; these run one after the other.
SBATCH = """\
#!/bin/sh
printf '%s\\n' "$PWD" "$@" > "$CALLED"
export SLURM_JOB_ID=7 SLURM_ARRAY_JOB_ID=7
for task in $(seq $(sed -n 's/^#SBATCH --array=1-//p' slurm.sh)); do
    SLURM_ARRAY_TASK_ID=$task sh slurm.sh > slurm-7_$task.log 2>&1
    echo $? >> "$CALLED"
done
echo '7;north'
"""
POLY = ("sweep", "poly", "--epochs", "20", "--degree", "1,3", "--seed", "0..1")


@pytest.fixture(autouse=True)
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the stand-in notes how it was called."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLPX_RUNS_DIR", "SLURM_CONF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("CALLED", str(tmp_path / "called"))
    write_sbatch(tmp_path, SBATCH)
    return tmp_path / "called"


def write_sbatch(place: Path, text: str) -> None:
    (place / "bin").mkdir(exist_ok=True)
    (place / "bin" / "sbatch").write_text(text)
    (place / "bin" / "sbatch").chmod(0o755)


def submitted(capfd: pytest.CaptureFixture[str], tmp_path: Path, *words: str) -> tuple[Result, str]:
    """What was printed, and the options in the script; no task is started."""
    write_sbatch(tmp_path, "#!/bin/sh\necho 7\n")
    result = mlpx(capfd, *words, "--on", "slurm")
    assert result.code == 0, result
    return result, (tmp_path / "runs" / "latest" / "slurm.sh").read_text()


def test_workers_carry_out_all_runs_and_the_results_equal_those_of_single_runs(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, called: Path
) -> None:
    result = mlpx(capfd, *POLY, "--on", "slurm", "--jobs", "2")
    assert (result.code, result.err) == (0, "")
    sweep = (tmp_path / "runs" / "latest").resolve()
    told = f"Slurm job 7: 2 workers. See how far it is: mlpx runs {sweep}"
    assert result.out.splitlines() == ["4 runs: degree 2 x seed 2", told, str(sweep)]
    assert called.read_text().splitlines() == [str(sweep), "--parsable", "slurm.sh", "0", "0"]
    assert "4 finished in" in (sweep / "slurm-7_1.log").read_text()
    assert "all of them are over" in (sweep / "slurm-7_2.log").read_text()
    for run in reading.runs_in(sweep):
        single = run_program(["poly", "--config", str(run / "config.toml"), "--into", f"single-{run.name}"], tmp_path)
        assert single.code == 0
        assert outcome(tmp_path / f"single-{run.name}") == outcome(run)
    again = mlpx(capfd, "resume", "latest", "--on", "slurm")
    assert again.out.splitlines() == ["4 runs: degree 2 x seed 2; all of them are over", str(sweep)]


def test_only_as_many_workers_as_there_is_work_for_are_submitted(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "--array=1-4\n" in submitted(capfd, tmp_path, *POLY)[1]
    assert "--array=1-8\n" in submitted(capfd, tmp_path, "sweep", "poly", "--seed", "0..30")[1]
    assert "--array=1-12\n" in submitted(capfd, tmp_path, "sweep", "poly", "--seed", "0..30", "--jobs", "12")[1]

    def one_waits(settings: object, seed: int) -> dict[str, float] | None:
        return None if seed == 0 else losses(settings, seed)

    make_sweep(tmp_path / "runs", "poly", {"seed": "0..4"}, one_waits)
    result, script = submitted(capfd, tmp_path, "resume", "latest")
    assert "--array=1-1\n" in script
    assert result.out.splitlines()[0] == "5 runs: seed 5; 1 to go"


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ((), ["--cpus-per-task=1"]),
        (("--cores", "4"), ["--cpus-per-task=4"]),
        (("--gpus", "1"), ["--cpus-per-task=1", "--gres=gpu:1"]),
        (("--gpus", "0.5", "--cores", "2", "--jobs", "2"), ["--cpus-per-task=4", "--gres=gpu:1"]),
        (("--gpus", "2", "--cores", "2"), ["--cpus-per-task=2", "--gres=gpu:2"]),
    ],
)
def test_a_worker_asks_for_the_cores_and_gpus_of_its_runs(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, typed: tuple[str, ...], asked: list[str]
) -> None:
    script = submitted(capfd, tmp_path, *POLY, *typed)[1]
    options = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    assert [option for option in options if option.startswith(("--cpus", "--gres"))] == asked
    # Runs that share a GPU are carried out by one worker.
    shared = "0.5" in typed
    assert f"--array=1-{1 if shared else 4}" in options
    assert f"--jobs {2 if shared else 1} &\n" in script


def test_the_options_of_the_user_come_last(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = submitted(capfd, tmp_path, *POLY, "--sbatch", "--time=4:00:00 -p 'big one'")[1]
    options = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    assert options[-1] == "#SBATCH --time=4:00:00 -p 'big one'"
    assert options[-2].startswith("#SBATCH --output=")


def test_json_and_quiet(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    result, _ = submitted(capfd, tmp_path, *POLY, "--json")
    start, submit = map(json.loads, result.out.splitlines())
    assert (start["event"], start["runs"], start["waiting"]) == ("start", 4, 4)
    assert submit == {"event": "submit", "job": "7", "workers": 4}
    result, _ = submitted(capfd, tmp_path, *POLY, "--quiet")
    assert result.out == f"{(tmp_path / 'runs' / 'latest').resolve()}\n"


def test_a_strange_path_is_quoted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "it's %A\n#SBATCH $(touch broken) é"
    result = mlpx(capfd, *POLY, "--into", str(path), "--on", "slurm", "--jobs", "1")
    assert result.code == 0, result
    assert [document_of(run)["status"] for run in reading.runs_in(path)] == 4 * ["finished"]
    assert not list(tmp_path.rglob("broken"))


def test_the_data_folder_is_the_same_for_a_worker(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_sbatch(tmp_path, '#!/bin/sh\necho "$MLPX_DATA_DIR" > "$CALLED"\necho 7\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLPX_DATA_DIR", "data")
        assert mlpx(capfd, *POLY, "--on", "slurm").code == 0
    assert (tmp_path / "called").read_text() == f"{tmp_path / 'data'}\n"


def test_waiting_for_the_job_gives_its_exit_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_sbatch(tmp_path, "#!/bin/sh\necho 7\nexit 5\n")
    assert_fails(mlpx(capfd, *POLY, "--on", "slurm", "--sbatch", "--wait"), 5, "job 7", "exit code 5")


@pytest.mark.parametrize(
    ("says", "code"),
    [
        ("sbatch: error: Unable to contact slurm controller (connect failure)", 5),
        ("sbatch: fatal: Could not establish a configuration source", 5),
        ("sbatch: error: invalid partition specified: gpu", 2),
        ("sbatch: unrecognized option '--x'", 2),
        ("", 2),
    ],
)
def test_what_slurm_refuses_is_one_line_and_the_way_to_go_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], says: str, code: int
) -> None:
    write_sbatch(tmp_path, f"#!/bin/sh\necho {shlex.quote(says)} >&2\nexit 1\n")
    result = mlpx(capfd, *POLY, "--on", "slurm")
    sweep = (tmp_path / "runs" / "latest").resolve()
    assert_fails(result, code, says.rpartition("error: ")[2] or "exit code 1", f"mlpx resume {sweep} --on slurm")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--on", "slurm", "--sbatch", "-p a\n#SBATCH -p b"), 2, "is not one line"),
        (("--sbatch", "-p a"), 2, "--sbatch: is for Slurm, and this is --on local"),
        (("--on", "ray", "--sbatch", "-p a"), 2, "--sbatch: is for Slurm, and this is --on ray"),
        (("--on", "mars"), 2, "'mars' is not one of"),
    ],
)
def test_what_cannot_be_used_makes_no_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    assert_fails(mlpx(capfd, *POLY, *words), code, said)
    assert not (tmp_path / "runs").exists()


def test_without_sbatch_nothing_is_laid_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.remove(tmp_path / "bin" / "sbatch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "bin"))
        assert_fails(mlpx(capfd, *POLY, "--on", "slurm"), 6, "there is no sbatch on this machine")
    assert not (tmp_path / "runs").exists()


def test_a_check_that_the_workers_would_not_know_is_refused(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    submitted(capfd, tmp_path, *POLY)
    assert_fails(
        mlpx(capfd, "resume", "latest", "--on", "slurm", "--check", "test_loss < 1"), 2, "--check: the workers"
    )


def test_a_run_is_nothing_for_slurm(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_program(["poly", "--epochs", "1", "--into", "a"], tmp_path).code == 0
    assert_fails(mlpx(capfd, "resume", "a", "--on", "slurm"), 2, "--on: a is a run, and no sweep")


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize(
    ("code", "status", "ends"), [(143, "RUNNING", 143), (143, "COMPLETING", 143), (75, "", 0), (6, "", 6)]
)
def test_a_worker_queues_itself_again_only_after_a_signal_and_while_its_job_runs(
    tmp_path: Path, shell: str, code: int, status: str, ends: int
) -> None:
    request = Request(registry.settings_class("poly")).updated({"seed": "0..1"}, {})
    sweep = folder.create(tmp_path / "runs", "x", request, request.design())
    script = on_slurm.script(sweep, 1, "").replace(shlex.quote(sys.executable), str(tmp_path / "worker"))
    # The worker waits for the signal that the shell hands on, where there is one.
    waits = f"trap 'exit {code}' TERM\necho > started\nwhile :; do sleep 0.02; done\n"
    (tmp_path / "worker").write_text(f"#!/bin/sh\n{waits if code == 143 else f'exit {code}'}\n")
    (tmp_path / "bin" / "squeue").write_text(f"#!/bin/sh\necho {status}\n")
    (tmp_path / "bin" / "scontrol").write_text('#!/bin/sh\necho "$@" > requeued\n')
    for path in (tmp_path / "worker", tmp_path / "bin" / "squeue", tmp_path / "bin" / "scontrol"):
        path.chmod(0o755)
    env = environment(SLURM_JOB_ID="9", SLURM_ARRAY_JOB_ID="9", SLURM_ARRAY_TASK_ID="3")
    process = subprocess.Popen([shell, "-c", script], cwd=tmp_path, env=env)
    if code == 143:
        while not (tmp_path / "started").exists():
            assert process.poll() is None
        time.sleep(0.2)  # until the shell knows the number of the worker
        process.terminate()
    assert process.wait(20) == ends
    assert (tmp_path / "requeued").exists() == (status == "RUNNING")
    if status == "RUNNING":
        assert (tmp_path / "requeued").read_text() == "requeue 9_3\n"
