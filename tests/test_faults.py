"""What the program has to survive of paths, numbers, environments and company; settings have a file of their own."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import PROGRAM, Program, Result, assert_fails, environment, runs_of

WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
needs_setpriv = pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None, reason="as root, permissions need setpriv to mean anything"
)


# Disk and paths


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("obstacle", [a_file, a_dangling_link])
def test_something_in_the_place_of_the_runs_folder(
    program: Program, tmp_path: Path, obstacle: Callable[[Path], None]
) -> None:
    obstacle(tmp_path / "runs")
    assert_fails(program("poly"), 6, "runs", "--runs-dir")
    assert_fails(program("poly", "--runs-dir", "runs/deeper"), 6, "runs/deeper")


def test_a_missing_runs_folder_is_made(program: Program, tmp_path: Path) -> None:
    assert program("poly", "--epochs", "1", "--runs-dir", "a/b/c").code == 0
    assert (tmp_path / "a" / "b" / "c" / "latest").is_dir()


@needs_setpriv
@pytest.mark.parametrize("runs_dir", ["closed", "closed/new"])
def test_a_runs_folder_that_cannot_be_written(program: Program, tmp_path: Path, runs_dir: str) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    result = program("poly", "--runs-dir", runs_dir, prefix=WITHOUT_CAPABILITIES)
    assert_fails(result, 6, runs_dir, "Permission denied")
    assert list((tmp_path / "closed").iterdir()) == []


@needs_setpriv
def test_a_run_folder_that_cannot_be_written_any_more(program: Program, tmp_path: Path) -> None:
    run = Path(program("poly", "--epochs", "1", "--quiet").out.strip())
    (run / "lock").chmod(0o444)
    run.chmod(0o555)
    try:
        assert_fails(program("resume", "latest", "--epochs", "2", prefix=WITHOUT_CAPABILITIES), 6, "Permission denied")
    finally:
        run.chmod(0o755)


def test_something_that_is_no_link_called_latest_stays(program: Program, tmp_path: Path) -> None:
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    assert program("poly", "--epochs", "1").code == 0
    assert not (tmp_path / "runs" / "latest").is_symlink()


def test_spaces_unicode_emoji_and_bytes_in_paths_work(program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "a b" / "ünï" / "🙂" / os.fsdecode(b"\xff\xfe")
    folder.mkdir(parents=True)
    for env in (environment(), environment(PYTHONIOENCODING="ascii")):
        done = subprocess.run([*PROGRAM, "poly", "--epochs", "1", "--quiet"], cwd=folder, capture_output=True, env=env)
        assert done.returncode == 0
        assert Path(os.fsdecode(done.stdout[:-1])).is_dir()


# Numbers and devices


def test_divergence_keeps_no_weight_that_is_not_finite(program: Program, tmp_path: Path) -> None:
    result = program("poly", "--lr", "1e30", "--checkpoint-every", "0")
    assert_fails(result, 4, "epoch 0", "--lr")  # the first checkpoint is due before the first row
    (run,) = runs_of(tmp_path)
    assert not (run / "checkpoints").exists()
    assert not (run / "weights.safetensors").exists()
    assert_fails(program("poly", "--lr", "1e30"), 4, "train_loss is nan at epoch 1")


def test_a_late_divergence_keeps_the_last_good_checkpoint(program: Program, tmp_path: Path) -> None:
    import torch

    result = program("poly", "--lr", "0.8", "--checkpoint-every", "0")
    assert_fails(result, 4, "epoch")
    (run,) = runs_of(tmp_path)
    kept = sorted((run / "checkpoints").iterdir())
    assert kept
    assert all(torch.load(path, weights_only=True)["state"]["weight"].isfinite().all() for path in kept)
    assert_fails(program("resume", "latest"), 4, "epoch")


@pytest.mark.parametrize("device", ["cuda", "cuda:9"])
def test_no_such_device(program: Program, tmp_path: Path, device: str) -> None:
    env = environment(CUDA_VISIBLE_DEVICES="")
    assert_fails(program("poly", "--device", device, env=env), 6, f"--device {device}", "no CUDA device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threads", ["1", "2"])  # each thread has buffers of its own
@pytest.mark.parametrize("kibibytes", [250_000, 450_000, 550_000, 700_000, 1_100_000])
def test_too_little_memory(program: Program, tmp_path: Path, kibibytes: int, threads: str) -> None:
    prefix = ("bash", "-c", f'ulimit -v {kibibytes}; exec "$@"', "-")
    result = program(
        "poly",
        "--num-train",
        "1000000",
        "--num-test",
        "1000000",
        "--degree",
        "19",
        prefix=prefix,
        env=environment(OMP_NUM_THREADS=threads),
    )
    assert_fails(result, 6, "memory")
    assert list(tmp_path.iterdir()) == []


# Terminals and environments

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "nothing": {},
    "no HOME": {"PATH": os.environ["PATH"]},
    "a HOME that is not there": {"HOME": "/nonexistent", "PATH": os.environ["PATH"]},
    **{f"TERM={term}": environment(TERM=term) for term in ("", "dumb", "nonsense")},
    **{f"COLUMNS={columns}": environment(COLUMNS=columns) for columns in ("1", "20", "abc", "-5")},
    "NO_COLOR": environment(NO_COLOR="1"),
    "ASCII": environment(PYTHONIOENCODING="ascii"),
    "the C locale": environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
    "an odd time zone": environment(TZ="Nowhere/Land"),
    "far east": environment(TZ="Asia/Kathmandu"),
}


# These are read when something is printed; the others when Python starts, so that a fork would come too late.
READ_LATE = ("TERM", "COLUMNS", "NO_COLOR")


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_environments(program: Program, case: str) -> None:
    prefix = () if case.startswith(READ_LATE) else ("env",)
    result = program("poly", "--epochs", "20", env=ENVIRONMENTS[case], prefix=prefix)
    assert (result.code, result.err) == (0, "")
    assert "\x1b" not in result.out
    table = [line for line in result.out.splitlines() if line.strip()[:2].strip() in ("1", "20")]
    assert [len(line.split()) for line in table[:2]] == [5, 5]
    shown = program("poly", "--help", env=ENVIRONMENTS[case], prefix=prefix)
    assert (shown.code, shown.err) == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a name")
def test_a_user_without_a_name_and_a_cache_that_cannot_be_written(program: Program) -> None:
    prefix = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups")
    env = environment(HOME="/", TMPDIR="/nonexistent") | {"PYTHONDONTWRITEBYTECODE": "1"}
    if subprocess.run([*prefix, PROGRAM[0], "-c", ""], env=env, capture_output=True).returncode != 0:
        pytest.skip("this Python cannot be read by another user")
    with tempfile.TemporaryDirectory() as folder:  # others may not enter pytest's folders
        Path(folder).chmod(0o777)
        result = program("poly", "--epochs", "1", env=env, prefix=prefix, cwd=Path(folder))
    assert result.code == 0
    assert result.err == ""


# Time and company


@pytest.mark.program
def test_many_starts_in_one_second_make_as_many_folders(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mlpx.runs import folder\n"
        "from mlpx.experiments.poly.settings import PolySettings\n"
        "sys.stdin.readline(); print(folder.create(Path('runs'), PolySettings(), 'x').path.name)"
    )
    processes = [
        subprocess.Popen(
            [PROGRAM[0], "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(50)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    names = {process.communicate()[0].strip() for process in processes}
    print(f"\n{len(names)} folders of {len(processes)} starts, such as {sorted(names)[-1]}")
    assert len(names) == len(processes) == len(runs_of(tmp_path))
    assert (tmp_path / "runs" / "latest").resolve().name in names


def test_the_second_resume_of_a_run_says_who_holds_it(program: Program, tmp_path: Path) -> None:
    command = [*PROGRAM, "poly", "--epochs", "1000000", "--eval-every", "100000", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert_fails(program("resume", "latest"), 75, f"process {process.pid} ")
        process.send_signal(signal.SIGKILL)


@pytest.mark.program
def test_a_run_folder_deleted_under_a_live_run(tmp_path: Path) -> None:
    command = [*PROGRAM, "poly", "--epochs", "1000000", "--eval-every", "100", "--json"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    shutil.rmtree(runs_of(tmp_path)[0])
    out, err = process.communicate(timeout=60)
    assert_fails(Result(process.returncode, out, err), 6, "the run folder was deleted")


# Runs and checkpoints


def test_an_unknown_run_has_the_nearest_names(program: Program, tmp_path: Path) -> None:
    program("poly", "--epochs", "1", "--name", "alpha")
    assert_fails(program("resume", "20261123-000000-poly-alpha"), 5, "no such run", "-poly-alpha.")
    assert_fails(program("resume", "\x1b[31m"), 5, "no such run")
    assert_fails(program("resume", "."), 5, "config.toml")
    assert not (tmp_path / "lock").exists()


def test_settings_cannot_change_on_resume(program: Program, tmp_path: Path) -> None:
    run = Path(program("poly", "--epochs", "2", "--quiet").out.strip())
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace("lr = 0.01", "lr = 0.02").replace("degree = 3", "degree = 4"))
    before = (run / "run.json").read_bytes()
    words = ("degree was 3 and is 4", "lr was 0.01 and is 0.02")
    assert_fails(program("resume", "latest", "--epochs", "4"), 2, "config.toml", *words)
    assert (run / "run.json").read_bytes() == before
    (run / "config.toml").write_text("degree = [")
    assert_fails(program("resume", "latest"), 5, "config.toml")
    assert_fails(program("resume", "latest", "--lr", "3"), 2, "--lr")


@pytest.mark.program
def test_a_bug_is_one_line_and_its_traceback_lies_in_the_run(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['mlpx', 'poly', '--epochs', '5']\n"
        "from mlpx.experiments.poly import experiment as poly\n"
        "def broken(self): raise KeyError('oops')\n"
        "poly.Polynomials.evaluate = broken\n"
        "from mlpx.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run([PROGRAM[0], "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment())
    (run,) = runs_of(tmp_path)
    assert_fails(Result(done.returncode, done.stdout, done.stderr), 1, "a bug in mlpx", "oops", str(run / "error.log"))
    assert "KeyError: 'oops'" in (run / "error.log").read_text()
