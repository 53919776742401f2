"""One process at a time holds a folder, on one host or on several, with and without the kernel's locks."""

import errno
import fcntl
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import ROOT, assert_fails, draws_nothing, environment, mlpx
from hosts import FLOCKS

from mlpx.errors import Locked, MachineError
from mlpx.experiments.poly.settings import PolySettings
from mlpx.files import temporaries, temporary_for
from mlpx.runs import folder, holding
from mlpx.runs.execution import Execution
from mlpx.runs.folder import Run
from mlpx.runs.holding import CLAIMS, HOLDER, LOCK, Hold, is_held
from mlpx.runs.metrics import Metrics
from mlpx.sweeps import folder as sweeps
from mlpx.sweeps.folder import Sweep
from mlpx.sweeps.request import Request

LEASE = 0.6


@pytest.fixture
def lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "LEASE_SECONDS", LEASE)


@pytest.fixture
def go_to(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put this process on another host, where it finds no lock of the one before."""

    def go(host: str) -> None:
        monkeypatch.setattr(holding, "_boot", lambda: host)
        monkeypatch.setattr(platform, "node", lambda: host)

    go("here")
    return go


def break_flock(monkeypatch: pytest.MonkeyPatch, flock: str) -> None:
    def broken(descriptor: int, kind: int) -> None:
        if flock != "nothing":
            number = getattr(errno, flock)
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", broken)


@pytest.fixture(params=FLOCKS)
def no_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    break_flock(monkeypatch, request.param)


@pytest.fixture
def granted_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    break_flock(monkeypatch, "nothing")


def killed_holder(path: Path) -> None:
    """Leave ``path`` as a holder leaves it that is killed."""
    child = os.fork()
    if child == 0:
        Hold(path)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def stand_still(hold: Hold) -> None:
    """What SIGSTOP for longer than the lease does to a holder of this process."""
    hold._released.set()
    hold._renewing.join()
    os.utime(hold._claim_folder, (1e9, 1e9))


# Taking


def test_nobody_waits_on_one_machine(tmp_path: Path) -> None:
    for _ in range(3):
        killed_holder(tmp_path)
        assert not is_held(tmp_path)
        began = time.monotonic()
        Hold(tmp_path).release()
        assert time.monotonic() - began < 0.3
    assert len(list((tmp_path / CLAIMS).iterdir())) == 6
    assert holding.LEASE_SECONDS == 90


def test_a_folder_that_is_let_go_is_free_at_once_everywhere(
    tmp_path: Path, no_flock: None, go_to: Callable[[str], None]
) -> None:
    for host in ("here", "there", "here"):
        go_to(host)
        hold = Hold(tmp_path)
        assert is_held(tmp_path)
        with pytest.raises(Locked, match=rf"is held by process {os.getpid()} on {host}, seen 0 s ago\."):
            Hold(tmp_path)
        hold.release()
        assert not is_held(tmp_path)


def test_the_folder_of_a_killed_holder_is_free_after_the_lease_and_not_before(
    tmp_path: Path, no_flock: None, lease: None
) -> None:
    killed_holder(tmp_path)
    claim = tmp_path / CLAIMS / "1"
    assert is_held(tmp_path)
    with pytest.raises(Locked):
        Hold(tmp_path)
    hold = Hold.wait_for(tmp_path)
    assert LEASE - 0.01 <= time.time() - claim.stat().st_mtime < LEASE + 0.5
    hold.require()
    hold.release()


def test_a_lock_that_works_here_tells_nothing_of_other_hosts(
    tmp_path: Path, lease: None, go_to: Callable[[str], None]
) -> None:
    killed_holder(tmp_path)
    go_to("there")
    assert is_held(tmp_path)
    with pytest.raises(Locked, match="on here, seen 0 s ago"):
        Hold(tmp_path)
    time.sleep(LEASE)
    assert not is_held(tmp_path)
    Hold(tmp_path).release()


def test_a_lock_tells_nothing_of_another_mount_on_the_same_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_holder(tmp_path)
    monkeypatch.setattr(holding, "_domain", lambda _: f"{holding._boot()} 12345")
    assert is_held(tmp_path)
    with pytest.raises(Locked):
        Hold(tmp_path)


def test_a_live_holder_keeps_the_folder_for_many_leases(
    tmp_path: Path, granted_to_all: None, lease: None, go_to: Callable[[str], None]
) -> None:
    hold = Hold(tmp_path)
    go_to("there")
    for _ in range(20):
        time.sleep(LEASE / 8)
        assert is_held(tmp_path)
        with pytest.raises(Locked):
            Hold(tmp_path)
    hold.require()
    hold.release()


def test_of_many_that_want_a_folder_at_once_one_gets_it(tmp_path: Path, no_flock: None) -> None:
    for number in range(3):
        path = tmp_path / str(number)
        path.mkdir()
        start, go = os.pipe()
        children = []
        for _ in range(6):
            children.append(os.fork())
            if children[-1] == 0:
                os.close(go)
                os.read(start, 1)
                try:
                    Hold(path)
                except Locked:
                    os._exit(75)
                except BaseException:
                    os._exit(1)
                os._exit(0)
        os.close(go)
        codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        os.close(start)
        assert codes == [0, 75, 75, 75, 75, 75]
        assert [each.name for each in (path / CLAIMS).iterdir()] == ["1"]


def test_a_kill_at_any_call_leaves_the_folder_free_and_nothing_else(tmp_path: Path) -> None:
    """Killed before the first call, before the second, and so on, until one takes the folder and lets it go."""
    for number in range(40):
        child = os.fork()
        if child == 0:
            left = [number]

            def counted(call: Callable[..., object], left: list[int] = left) -> Callable[..., object]:
                def act(*given: object, **more: object) -> object:
                    left[0] -= 1
                    if left[0] < 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*given, **more)

                return act

            for name in ("open", "mkdir", "listdir", "rename", "unlink", "pwrite", "ftruncate", "utime", "close"):
                setattr(os, name, counted(getattr(os, name)))
            Hold(tmp_path).release()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert not is_held(tmp_path)
        Hold(tmp_path).release()
        assert temporaries(tmp_path / CLAIMS) == []
        if code == 0:
            break
        assert code == -signal.SIGKILL
    print(f"\n{number} kills")
    assert 10 < number < 39


def test_a_network_file_system_has_no_exclusive_lock_for_who_may_only_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS makes locks of bytes of them: see flock(2)."""
    flock = fcntl.flock

    def strict(descriptor: int, kind: int) -> None:
        if kind & fcntl.LOCK_EX and not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_RDWR:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", strict)
    hold = Hold(tmp_path)
    assert is_held(tmp_path)
    hold.release()
    killed_holder(tmp_path)
    assert not is_held(tmp_path)
    Hold(tmp_path).release()


@pytest.mark.parametrize(("ahead", "may_live"), [(LEASE / 2, True), (3600, False)])
def test_a_claim_from_the_future_does_not_hold_for_longer_than_a_lease(
    tmp_path: Path, granted_to_all: None, lease: None, ahead: float, may_live: bool
) -> None:
    killed_holder(tmp_path)
    os.utime(tmp_path / CLAIMS / "1", (time.time() + ahead,) * 2)
    assert is_held(tmp_path) == may_live


def test_without_a_thread_the_folder_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, granted_to_all: None
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(OSError, match="no thread can be started"):
            Hold(tmp_path)
    assert not is_held(tmp_path)
    Hold(tmp_path).release()


def test_who_may_only_read_judges_by_its_own_clock_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, granted_to_all: None
) -> None:
    def on_read_only(call: Callable[..., int]) -> Callable[..., int]:
        def refuse(path: Path, flags: int = os.O_CREAT, *more: object) -> int:
            if flags & os.O_CREAT:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return call(path, flags, *more)

        return refuse

    killed_holder(tmp_path)
    os.utime(tmp_path / CLAIMS / "1", (time.time() - 1000,) * 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", on_read_only(os.open))
        patch.setattr(os, "unlink", on_read_only(lambda *_: 0))
        assert not is_held(tmp_path)
        os.utime(tmp_path / CLAIMS / "1")
        assert is_held(tmp_path)
    assert is_held(tmp_path)
    assert [each.name for each in (tmp_path / CLAIMS).iterdir()] == ["1"]


def test_a_run_that_was_let_go_fits_into_an_archive(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    Hold(tmp_path / "run").release()
    shutil.make_archive(str(tmp_path / "run"), "zip", tmp_path / "run")


# Being overtaken


@pytest.fixture
def overtaken(
    tmp_path: Path, granted_to_all: None, go_to: Callable[[str], None]
) -> Iterator[tuple[Run, Callable[[], Run]]]:
    """A run that stands still, and what takes it over."""
    run = folder.create(tmp_path, PolySettings(), "x")
    others: list[Run] = []

    def take_over() -> Run:
        stand_still(run._hold)
        go_to("there")
        others.append(Run(run.path))
        return others[-1]

    yield run, take_over
    for each in (*others, run):
        each.__exit__()


def test_who_was_overtaken_writes_nothing_more(overtaken: tuple[Run, Callable[[], Run]]) -> None:
    run, take_over = overtaken
    (run.path / "error.log").write_text("of the other one")
    other = take_over()
    other.update({"status": "running"})
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    for act in (
        run.require_held,
        lambda: run.update({}),
        lambda: run.write_settings(PolySettings(degree=9)),
        lambda: run.record_failure(ValueError("a bug"), {}),
        run.forget_failure,
    ):
        with pytest.raises(Locked, match=r"was taken over by process \d+ on there\. That one goes on with it"):
            act()
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    other.require_held()


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "gone"), ValueError("odd"), MachineError("disk", "full")])
def test_whatever_fails_once_a_run_was_taken_over_is_reported_as_that(
    overtaken: tuple[Run, Callable[[], Run]], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    run, take_over = overtaken
    hold = run._hold
    monkeypatch.setattr(hold, "release", lambda: None)
    with pytest.raises(type(error)), hold:
        raise error
    take_over()
    with pytest.raises(Locked, match="was taken over"), hold:
        raise error
    monkeypatch.undo()


def test_what_it_wrote_but_has_not_renamed_yet_goes(overtaken: tuple[Run, Callable[[], Run]]) -> None:
    run, take_over = overtaken
    half = temporary_for(run.path / "run.json")
    half.write_text("{}")
    take_over()
    assert not half.exists()


def test_it_removes_nothing_of_the_one_that_overtakes_it(
    tmp_path: Path, granted_to_all: None, go_to: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped after it has claimed the run, and before it removes what a killed process left there."""
    path = folder.create(tmp_path, PolySettings(), "x").path
    claim = path / CLAIMS / "1"
    os.utime(claim, (1e9, 1e9))
    others: list[Run] = []

    def stopped(where: Path) -> list[Path]:
        found = temporaries(where)
        if not others:
            os.utime(path / CLAIMS / "2", (1e9, 1e9))
            go_to("there")
            monkeypatch.setattr(folder, "temporaries", temporaries)
            others.append(Run(path))
            (path / temporary_for(Path("run.json"))).write_text("{}")
            found += temporaries(where)
        return found

    monkeypatch.setattr(folder, "temporaries", stopped)
    with pytest.raises(Locked, match="was taken over"):
        Run(path)
    assert len(temporaries(path)) == 1
    others[0].__exit__()


def test_a_row_goes_only_to_a_file_that_was_there_while_the_run_was_held(tmp_path: Path) -> None:
    """It is stopped after it has put a new ``metrics.csv`` in place, and opens the one of whoever overtook it."""
    Metrics(tmp_path / "metrics.csv", ["epoch"]).close()
    calls: list[int] = []

    def require_held() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise Locked("run", "was taken over")

    metrics = Metrics(tmp_path / "metrics.csv", ["epoch"], require_held)
    with pytest.raises(Locked):
        metrics.start()
    metrics.close()


def test_who_is_overtaken_while_it_extends_a_sweep_adds_no_run_twice(
    tmp_path: Path, granted_to_all: None, go_to: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped before it gives a run its name."""

    def extend(degrees: str) -> Sweep:
        request = Request(PolySettings).updated({"degree": degrees}, {})
        return sweeps.create_or_extend(tmp_path / "sweep", request, request.design())

    extend("1")
    rename = folder.rename

    def stopped(hidden: Path, path: Path) -> Path:
        monkeypatch.setattr(folder, "rename", rename)
        os.utime(tmp_path / "sweep" / CLAIMS / "1", (1e9, 1e9))
        go_to("there")
        extend("1..3")
        return rename(hidden, path)

    monkeypatch.setattr(folder, "rename", stopped)
    with pytest.raises(Locked, match="was taken over"):
        extend("1..3")
    assert [run.name for run in extend("1..3").runs()] == ["degree1", "degree2", "degree3"]
    assert temporaries(tmp_path / "sweep") == []


# Claims that are not what mlpx made


def as_file(claims: Path) -> None:
    claims.write_text("")


def as_fifo(claims: Path) -> None:
    os.mkfifo(claims)


def as_link_to_nowhere(claims: Path) -> None:
    claims.symlink_to("nowhere")


def as_link_elsewhere(claims: Path) -> None:
    claims.with_name("elsewhere").mkdir()
    claims.symlink_to("elsewhere")


def with_huge_number(claims: Path) -> None:
    (claims / ("9" * 40)).mkdir(parents=True)
    os.utime(claims / ("9" * 40), (1e9, 1e9))


def with_number_too_long(claims: Path) -> None:
    (claims / ("9" * 255)).mkdir(parents=True)
    os.utime(claims / ("9" * 255), (1e9, 1e9))


def with_number_that_is_a_file(claims: Path) -> None:
    claims.mkdir()
    (claims / "3").write_text("")


def with_odd_names(claims: Path) -> None:
    for name in ("0", "007", "-1", "1.5", "x", "²", "٣"):
        (claims / name).mkdir(parents=True)


def with_odd_holder(claims: Path) -> None:
    (claims / "1").mkdir(parents=True)
    (claims / "1" / HOLDER).write_bytes(b"\xff\x00\x1b[31m" * 1000)
    os.utime(claims / "1", (1e9, 1e9))


def with_fifo_for_holder(claims: Path) -> None:
    (claims / "1").mkdir(parents=True)
    os.mkfifo(claims / "1" / HOLDER)
    os.utime(claims / "1", (1e9, 1e9))


def with_fresh_claim_of_nobody(claims: Path) -> None:
    (claims / "1").mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (as_file, 6),
        (as_fifo, 6),
        (as_link_to_nowhere, 6),
        (as_link_elsewhere, 0),
        (with_huge_number, 0),
        (with_number_too_long, 6),
        (with_number_that_is_a_file, 6),
        (with_odd_names, 0),
        (with_odd_holder, 0),
        (with_fifo_for_holder, 0),
        (with_fresh_claim_of_nobody, 75),
    ],
)
def test_odd_claims_cost_one_line_at_most(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    code: int,
) -> None:
    monkeypatch.setattr(Execution, "_drawn", draws_nothing)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text('experiment = "poly"\nepochs = 1\n')
    (run / "run.json").write_text('{"status": "running"}')
    make(run / CLAIMS)
    assert mlpx(capfd, "runs", str(run)).code == 0
    result = mlpx(capfd, "resume", str(run), "--quiet")
    if code:
        assert_fails(result, code)
        assert not (run / "metrics.csv").exists()
    else:
        assert (result.code, result.err) == (0, "")
    assert mlpx(capfd, "runs", str(run)).code == 0


def test_a_holder_whose_claim_was_deleted_says_so(tmp_path: Path) -> None:
    with Run(tmp_path) as run:
        shutil.rmtree(tmp_path / CLAIMS)
        with pytest.raises(OSError, match="the claim of this process was deleted"):
            run.update({})


@pytest.mark.parametrize("what", [LOCK, CLAIMS, ""])
def test_a_run_whose_folder_was_deleted_ends_as_that(tmp_path: Path, what: str) -> None:
    with folder.create(tmp_path, PolySettings(), "x") as run:
        gone = run.path / what
        gone.unlink() if what == LOCK else shutil.rmtree(gone)
        if what == LOCK:
            run.update({})
        else:
            with pytest.raises(FileNotFoundError):
                run.update({})


# Whole programs on two pretended hosts


def two_hosts(*arguments: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "two_hosts.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    print("\n" + done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.program
@pytest.mark.slow
def test_two_hosts_work_on_one_run_as_one_does() -> None:
    two_hosts("--trials", "2", "--every", "90", "--workers", "8", "killed", "every-call")


@pytest.mark.slow
def test_two_hosts_work_on_runs_and_sweeps_as_one_does() -> None:
    two_hosts()
