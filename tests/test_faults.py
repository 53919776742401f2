"""What the program has to survive: each fault with its exit code, one line on stderr, nothing lost or left behind."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PROGRAM, Program, Result, environment

WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
needs_setpriv = pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None, reason="as root, permissions need setpriv to mean anything"
)


def assert_fails(result: Result, code: int, *words: str) -> None:
    """The promise of every error: its exit code and one line, ``error: what: why. what to do``, fit for a log."""
    assert result.code == code, result
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("error: ")
    assert result.err.count(": ") >= 2
    assert result.err[:-1].isprintable()
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err


def runs_of(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "runs").glob("*") if not path.is_symlink()]


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


@pytest.mark.parametrize("kibibytes", [250_000, 700_000])
def test_too_little_memory(program: Program, tmp_path: Path, kibibytes: int) -> None:
    prefix = ("bash", "-c", f'ulimit -v {kibibytes}; exec "$@"', "-")
    result = program("poly", "--num-train", "1000000", "--degree", "19", prefix=prefix)
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


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_environments(program: Program, case: str) -> None:
    result = program("poly", "--epochs", "20", env=ENVIRONMENTS[case])
    assert (result.code, result.err) == (0, "")
    assert "\x1b" not in result.out
    table = [line for line in result.out.splitlines() if line.strip()[:2].strip() in ("1", "20")]
    assert [len(line.split()) for line in table[:2]] == [5, 5]
    shown = program("poly", "--help", env=ENVIRONMENTS[case])
    assert (shown.code, shown.err) == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a name")
def test_a_user_without_a_name_and_a_cache_that_cannot_be_written(program: Program, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    prefix = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups")
    env = environment(HOME="/", TMPDIR="/nonexistent") | {"PYTHONDONTWRITEBYTECODE": "1"}
    if subprocess.run([*prefix, PROGRAM[0], "-c", ""], env=env, capture_output=True).returncode != 0:
        pytest.skip("this Python cannot be read by another user")
    result = program("poly", "--epochs", "1", env=env, prefix=prefix)
    assert result.code == 0
    assert result.err == ""


# Time and company


def test_many_starts_in_one_second_make_as_many_folders(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mlpx.runs import folder\n"
        "sys.stdin.readline(); print(folder.create(Path('runs'), 'poly', 'x').path.name)"
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


def test_a_run_folder_deleted_under_a_live_run(tmp_path: Path) -> None:
    command = [*PROGRAM, "poly", "--epochs", "1000000", "--eval-every", "100", "--json"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    shutil.rmtree(runs_of(tmp_path)[0])
    out, err = process.communicate(timeout=60)
    assert_fails(Result(process.returncode, out, err), 6, "deleted")


# Runs and checkpoints


def test_an_unknown_run_has_the_nearest_names(program: Program) -> None:
    program("poly", "--epochs", "1", "--name", "alpha")
    assert_fails(program("resume", "20261123-000000-poly-alpha"), 5, "no such run", "-poly-alpha.")
    assert_fails(program("resume", "\x1b[31m"), 5, "no such run")
    assert_fails(program("resume", "."), 5, "config.toml")


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


def test_a_bug_is_one_line_and_its_traceback_lies_in_the_run(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['mlpx', 'poly', '--epochs', '5']\n"
        "from mlpx.experiments import poly\n"
        "def broken(self): raise KeyError('oops')\n"
        "poly.Poly.evaluate = broken\n"
        "from mlpx.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run([PROGRAM[0], "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment())
    (run,) = runs_of(tmp_path)
    assert_fails(Result(done.returncode, done.stdout, done.stderr), 1, "a bug in mlpx", "oops", str(run / "error.log"))
    assert "KeyError: 'oops'" in (run / "error.log").read_text()
