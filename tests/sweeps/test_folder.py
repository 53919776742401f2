"""A sweep appears with all its runs or not at all; what a killed process left, the same call completes."""

import errno
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers import write_run

from mlpx.errors import InputError, MachineError, MlpxError, UsageError
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly.settings import PolySettings
from mlpx.experiments.transformer.settings import FILES, TransformerSettings
from mlpx.files import TEMPORARY, temporary_for
from mlpx.runs import reading
from mlpx.runs.holding import CLAIMS, LOCK
from mlpx.settings.base import Settings
from mlpx.sweeps import folder
from mlpx.sweeps.folder import Sweep
from mlpx.sweeps.request import Request


def request_of(model: type[Settings] = PolySettings, **typed: str) -> Request:
    return Request(model).updated(typed, {})


def create(runs: Path, request: Request, name: str = "x") -> Sweep:
    return folder.create(runs, name, request, request.design())


def extend(path: Path, request: Request) -> Sweep:
    return folder.create_or_extend(path, request, request.design())


def names_in(path: Path) -> list[str]:
    """What is seen in a folder, but for who held it."""
    return sorted(each.name for each in path.iterdir() if each.name[0] != "." and each.name not in (LOCK, CLAIMS))


def hidden_in(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir() if each.name.startswith("."))


def settings_in(sweep: Path) -> list[Settings]:
    """The settings of each run, in the order of their names."""
    return [reading.settings_of(run) for run in reading.runs_in(sweep)]


class State(NamedTuple):
    """What tells whether anyone touched a file."""

    inode: int
    modified: int
    content: bytes | None


def states(path: Path) -> dict[str, State]:
    """All that is in the folder, at whatever depth, but for who held it."""
    found = {}
    for each in sorted(path.rglob("*")):
        if each.relative_to(path).parts[0] in (LOCK, CLAIMS):
            continue
        stat = each.lstat()
        found[str(each.relative_to(path))] = State(
            stat.st_ino, stat.st_mtime_ns if each.is_file() else 0, each.read_bytes() if each.is_file() else None
        )
    return found


# A new sweep


def test_a_sweep_is_a_folder_of_runs_with_their_settings_and_what_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(degree="3,19", seed="0..1")
    sweep = create(tmp_path / "a" / "runs", request, folder.name_of(request.design()))
    assert re.fullmatch(r"\d{8}-\d{6}-poly-sweep-degree-seed", sweep.path.name)
    names = ["degree03-seed0", "degree03-seed1", "degree19-seed0", "degree19-seed1"]
    assert names_in(sweep.path) == [*names, "sweep.toml"]
    assert hidden_in(sweep.path) == hidden_in(sweep.path.parent) == []
    for name, cell in zip(names, request.design().cells, strict=True):
        assert [path.name for path in (sweep.path / name).iterdir()] == ["config.toml"]
        assert reading.settings_of(sweep.path / name) == cell
    monkeypatch.chdir(tmp_path)
    again = folder.read(sweep.path.relative_to(tmp_path))
    assert (again.path, again.design) == (sweep.path, request.design())
    assert [run.name for run in again.runs()] == [run.name for run in sweep.runs()] == names
    assert reading.is_sweep(sweep.path)
    assert not reading.is_sweep(sweep.path / names[0])


def test_latest_points_at_the_sweep_and_the_sweep_is_found_by_name_and_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = Path("runs")
    first, second = create(runs, request_of(degree="1,3")), create(runs, request_of(degree="1,3"))
    assert os.readlink(runs / "latest") == second.path.name
    assert first.path.is_absolute()
    # Both may have been made in the same second.
    assert first.path.name != second.path.name
    for reference in ("latest", second.path.name, str(second.path), f"runs/{second.path.name}"):
        assert folder.find(reference, runs) == second.path
    for reference in ("", ".", "runs", "none", f"{second.path.name}/degree1", "a" * 300):
        assert folder.find(reference, runs) is None


def test_the_runs_come_in_the_order_of_the_design_whatever_their_names(tmp_path: Path) -> None:
    sweep = create(tmp_path, request_of(degree="19,1,3"))
    assert [run.name for run in sweep.runs()] == ["degree19", "degree01", "degree03"]
    (sweep.path / "degree19").rename(sweep.path / "best")
    (sweep.path / "degree01" / "config.toml").write_text("broken")
    (sweep.path / "latest").symlink_to("best")
    (sweep.path / "notes").mkdir()
    assert [run.name for run in sweep.runs()] == ["best", "degree03", "degree01"]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ({"hidden": "1,3", "seed": "0,1", "lr": "1"}, "sweep-hidden-seed"),
        ({"hidden": "1"}, "sweep"),
        ({"batch_size": "1,2", "weight_decay": "1,2", "lr": "1"}, "sweep-batch_size-weight_decay"),
        ({"batch_size": "1,2", "weight_decay": "1,2", "num_train": "1,2"}, "sweep-batch_size-weight_decay-num_train"),
        ({"batch_size": "1,2", "weight_decay": "1,2", "label_smoothing": "0,0.1"}, "sweep-3-settings"),
        # Of 40 characters, and of 41.
        (
            {"batch_norm": "true,false", "batch_size": "8,9", "num_train": "8,9", "lr": "1,2"},
            "sweep-batch_norm-batch_size-num_train-lr",
        ),
        (
            {"hidden": "1,2", "seed": "1,2", "dropout": "0,0.1", "momentum": "0,0.1", "jitter": "1,2"},
            "sweep-5-settings",
        ),
    ],
)
def test_a_sweep_is_named_by_what_varies(typed: dict[str, str], name: str) -> None:
    assert folder.name_of(request_of(MlpSettings, **typed).design()) == name


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "x" * 65, "a\n"])
def test_a_name_that_is_none_makes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"^--name: "):
        create(tmp_path / "runs", request_of(), name)
    assert names_in(tmp_path) == []


def test_settings_that_cannot_be_used_make_nothing(tmp_path: Path) -> None:
    good, bad = request_of(degree="1,3"), request_of(degree="20")
    for path in (tmp_path, tmp_path / "new"):
        with pytest.raises(UsageError, match=r"^--degree: '20' "):
            folder.create_or_extend(path, bad, good.design())
    with pytest.raises(UsageError, match=r"^--degree: '20' "):
        folder.create(tmp_path, "x", bad, good.design())
    assert list(tmp_path.iterdir()) == []


def test_files_are_utf_8_whatever_the_locale_is(tmp_path: Path) -> None:
    code = (
        "import locale, pathlib\n"
        "from mlpx.sweeps import folder; from mlpx.sweeps.request import Request\n"
        "from mlpx.experiments.mlp.settings import MlpSettings\n"
        "request = Request(MlpSettings).updated({'data_dir': '/\\u00e9', 'seed': '0,1'}, {})\n"
        "print(locale.getencoding()); folder.create_or_extend(pathlib.Path('new'), request, request.design())"
    )
    env = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("ANSI_X3.4-1968\n", "")
    assert {settings.data_dir for settings in settings_in(tmp_path / "new")} == {"/é"}  # type: ignore[attr-defined]
    assert folder.read(tmp_path / "new").request.values["data_dir"] == ["/é"]


# Exactly that folder


def test_a_folder_that_is_not_there_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = extend(Path("a/b/new"), request_of(degree="1,3"))
    assert sweep.path == tmp_path / "a" / "b" / "new"
    assert names_in(sweep.path) == ["degree1", "degree3", "sweep.toml"]
    assert hidden_in(sweep.path.parent) == []
    assert not (sweep.path.parent / "latest").is_symlink()


def test_an_empty_folder_becomes_a_sweep_and_stays_the_same_folder(tmp_path: Path) -> None:
    """As ``mktemp -d`` makes one; it may be the current folder of a shell."""
    path = tmp_path / "empty"
    path.mkdir(mode=0o700)
    inode = path.stat().st_ino
    (path / temporary_for(Path("degree9")).name).mkdir()  # a killed process left it
    extend(path, request_of(degree="1,3"))
    assert names_in(path) == ["degree1", "degree3", "sweep.toml"]
    assert (path.stat().st_ino, path.stat().st_mode & 0o777) == (inode, 0o700)
    link = tmp_path / "link"
    (tmp_path / "other").mkdir()
    link.symlink_to("other")
    assert len(extend(link, request_of(degree="1,3")).runs()) == 2
    assert link.is_symlink()


def test_the_same_request_again_changes_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_of(degree="1,3", seed="0..2")
    extend(tmp_path / "s", request)
    (tmp_path / "s" / "degree1-seed0" / "metrics.csv").write_text("mine")
    before = states(tmp_path / "s")
    monkeypatch.setattr(os, "sync", lambda: pytest.fail("there is nothing to sync"))
    assert len(extend(tmp_path / "s", request).runs()) == 6
    after = states(tmp_path / "s")
    before.pop("sweep.toml"), after.pop("sweep.toml")
    assert after == before


def test_runs_that_are_missing_are_added_and_the_others_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "s"
    extend(path, request_of(degree="1,3", seed="0"))
    (path / "degree1" / "metrics.csv").write_text("mine")
    (path / "degree3").rename(path / "renamed")
    (path / "notes.txt").write_text("mine")
    before = states(path)
    sweep = extend(path, request_of(degree="3,19", seed="0,1"))
    added = ["degree03-seed1", "degree19-seed0", "degree19-seed1"]
    assert names_in(path) == sorted(["degree1", "renamed", "notes.txt", "sweep.toml", *added])
    after = states(path)
    for name, state in before.items():
        assert after[name] == state or name == "sweep.toml"
    # The newest request decides the order; what an earlier one asked for comes last.
    assert [run.name for run in sweep.runs()] == ["renamed", *added, "degree1"]
    assert [run.name for run in folder.read(path).runs()] == ["renamed", *added, "degree1"]
    # A run that is no longer asked for is there all the same, so it is not made again.
    assert len(extend(path, request_of(degree="1,3,19", seed="0,1")).runs()) == 6
    assert len({tuple(settings) for settings in settings_in(path)}) == 6


def test_a_name_that_an_earlier_request_took_gets_a_number(tmp_path: Path) -> None:
    path = tmp_path / "s"
    extend(path, request_of(degree="1,3", epochs="10"))
    (path / "degree1-2").mkdir()
    sweep = extend(path, request_of(degree="1,3", epochs="20"))
    assert names_in(path) == ["degree1", "degree1-2", "degree1-3", "degree3", "degree3-2", "sweep.toml"]
    assert [run.name for run in sweep.runs()] == ["degree1-3", "degree3-2", "degree1", "degree3"]
    assert names_in(path / "degree1-2") == []


def test_another_data_folder_makes_no_other_run_but_another_file_of_sentences_does(tmp_path: Path) -> None:
    extend(tmp_path / "m", request_of(MlpSettings, seed="0,1", data_dir="/a"))
    extend(tmp_path / "m", request_of(MlpSettings, seed="0..2", data_dir="/b"))
    assert [settings.data_dir for settings in settings_in(tmp_path / "m")] == ["/a", "/a", "/b"]  # type: ignore[attr-defined]
    texts = dict.fromkeys(FILES, "/a")
    extend(tmp_path / "t", request_of(TransformerSettings, task="text", **texts))
    extend(tmp_path / "t", request_of(TransformerSettings, task="text", **(texts | {"train_src": "/b"})))
    assert len(settings_in(tmp_path / "t")) == 2


def test_a_broken_run_does_not_hinder_the_others(tmp_path: Path) -> None:
    extend(tmp_path / "s", request_of(degree="1,3"))
    (tmp_path / "s" / "degree1" / "config.toml").write_bytes(b"\xff")
    sweep = extend(tmp_path / "s", request_of(degree="1,3,5"))
    assert names_in(tmp_path / "s") == ["degree1", "degree1-2", "degree3", "degree5", "sweep.toml"]
    assert [run.name for run in sweep.runs()] == ["degree1-2", "degree3", "degree5", "degree1"]


def refused(path: Path, request: Request) -> str:
    """The error, which changed nothing."""
    before = states(path.parent)
    with pytest.raises(MlpxError) as raised:
        extend(path, request)
    assert states(path.parent) == before
    return f"{raised.value.exit_code} {raised.value}".replace(str(path), "PATH")


def test_what_is_no_sweep_of_the_experiment_is_refused(tmp_path: Path) -> None:
    there = "2 --into: PATH is there already, and is no sweep. Give a sweep, or a new name."
    for name in ("full", "folder-in", "plain"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "folder-in" / "data").mkdir()
    (tmp_path / "plain" / ".hidden").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    run = write_run(tmp_path / "runs", PolySettings(), {})
    paths = [tmp_path / name for name in ("full", "folder-in", "plain", "file", "dangling", "pipe")]
    for path in [*paths, run, run.parent, run.parent / "latest"]:
        assert refused(path, request_of(degree="1,3")) == there
    extend(tmp_path / "s", request_of(degree="1,3"))
    line = "2 --into: PATH is a sweep of poly. Give a sweep of mlp."
    assert refused(tmp_path / "s", request_of(MlpSettings, seed="0,1")) == line


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "names no known experiment"),
        ("degree : 3", "is not TOML"),
        ('experiment = "poly"\ndegree = 20\n', "degree: '20' cannot be used"),
        ('experiment = "poly"\n[sweep]\ncores = 0\n', "sweep.cores: 0 cannot be used"),
        ('experiment = "poly"\n[sweep]\ncells = "degree\\n20"\n', "row 1: degree: '20' cannot be used"),
        ('experiment = ["poly"]\n', "names no known experiment"),
        (None, "Is a directory"),
    ],
)
def test_a_broken_file_is_an_error_of_reading(tmp_path: Path, content: str | None, why: str) -> None:
    (tmp_path / "s").mkdir()
    if content is None:
        (tmp_path / "s" / "sweep.toml").mkdir()
    else:
        (tmp_path / "s" / "sweep.toml").write_text(content)
    with pytest.raises(InputError, match=rf"^not a sweep that can be used: .*{re.escape(why)}.*\. Correct it, or lay"):
        folder.read(tmp_path / "s")
    assert why in refused(tmp_path / "s", request_of(degree="1,3"))


# What the machine refuses


@pytest.mark.parametrize("where", ["file", "file/runs", "\0", "a" * 300])
def test_a_place_where_no_folder_can_be_made_is_named(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(MachineError, match=r": cannot lay out a sweep there: .*\. Choose another --runs-dir\.$"):
        create(tmp_path / where, request_of(degree="1,3"))
    if where != "file":
        with pytest.raises(MachineError, match=r"^--into: cannot lay out a sweep in .*: .*\. Choose another\.$"):
            extend(tmp_path / where, request_of(degree="1,3"))
    assert names_in(tmp_path) == ["file"]


CALLS = ["mkdir", "rename", "fsync", "sync", "write"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("way", ["create", "make", "fill", "extend"])
def test_a_disk_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, call: str
) -> None:
    path = tmp_path / "s"
    if way == "fill":
        path.mkdir()
    if way == "extend":
        extend(path, request_of(degree="1,3"))
    before = states(path) if path.exists() else {}
    left = 3

    def fail(real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            # A folder is the first to be made, and the third is the second run. The other calls fail at once.
            if left < 0 or call not in ("mkdir", "write"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*given, **more)

        return counted

    request = request_of(degree="1,3", seed="0..5")
    with monkeypatch.context() as patch:
        place, name = (Path, "write_bytes") if call == "write" else (os, call)
        patch.setattr(place, name, fail(getattr(place, name)))
        with pytest.raises(MachineError, match=r"cannot lay out a sweep .*: No space left on device\. Choose another"):
            create(tmp_path, request) if way == "create" else extend(path, request)
    after = states(path) if path.exists() else {}
    if call in ("rename", "fsync"):  # by then the request may have been written
        before.pop("sweep.toml", None), after.pop("sweep.toml", None)
    if (way, call) == ("make", "fsync"):
        # All of it is there; whether it outlives a power failure is not known.
        assert len(settings_in(path)) == 12
    else:
        assert after == before
        assert not [name for name in [*after, *names_in(tmp_path)] if TEMPORARY.search(name)]
    assert hidden_in(tmp_path) == []
    if way != "create":
        assert len(extend(path, request).runs()) == 12


# What a kill leaves, and who works at once. A process of its own forks the others, which takes a hundredth of a second.

FORKS = """
import os, random, shutil, signal, sys, time
from pathlib import Path
from mlpx.errors import MlpxError
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly.settings import PolySettings
from mlpx.runs import reading
from mlpx.sweeps import folder
from mlpx.sweeps.designs import identity
from mlpx.sweeps.request import Request

def request_of(model, **typed):
    return Request(model).updated(typed, {})

def start(work):
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = work()
    except MlpxError as error:
        code = error.exit_code
    finally:
        os._exit(code or 0)

def end_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def in_sweep(path):
    return [identity(reading.settings_of(run)) for run in reading.runs_in(path)]

def seen_in(path):
    found = path.iterdir() if path.exists() else ()
    return [each for each in found if each.name[0] != "." and each.name not in ("lock", "claims")]
"""
KILLS = """
few, many = request_of(PolySettings, degree="3", seed="0..1"), request_of(PolySettings, degree="3,1", seed=sys.argv[2])
count = len(many.design().cells)

def lay_out(way):
    if way == "create":
        folder.create(Path("place"), "x", many, many.design())
    else:
        folder.create_or_extend(Path("place/s"), many, many.design())

def prepare(way):
    shutil.rmtree("place", ignore_errors=True)
    if way == "fill":
        os.makedirs("place/s")
    if way == "extend":
        folder.create_or_extend(Path("place/s"), few, few.design())

def files_of(way):
    found = [path for path in Path("place/s").rglob("config.toml")] if way == "extend" else []
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found if ".tmp" not in str(path)}

def check(way, before):
    seen = seen_in(Path("place"))
    sweeps = [path for path in seen if not path.is_symlink()]
    if way in ("create", "make"):
        assert len(sweeps) <= 1
        for path in sweeps:
            assert len(set(in_sweep(path))) == len(seen_in(path)) - 1 == count
    assert len(sweeps) <= 1
    left = len(in_sweep(sweeps[0])) if sweeps else 0
    if way != "create":
        lay_out(way)
        sweep = folder.read(Path("place/s"))
        found = in_sweep(sweep.path)
        assert len(found) == len(set(found)) == len(sweep.runs()) == count
        assert {identity(cell) for cell in many.design().cells} == set(found)
        assert before.items() <= files_of("extend").items()
    return "nothing" if left == 0 else "all" if left == count else "some"
"""
AT_RANDOM = """
way, random_numbers = sys.argv[1], random.Random(int(sys.argv[4]))
prepare(way)
began = time.perf_counter()
assert end_of(start(lambda: lay_out(way))) == 0
seconds = time.perf_counter() - began
outcomes = []
for _ in range(int(sys.argv[3])):
    prepare(way)
    before = files_of(way)
    child = start(lambda: lay_out(way))
    time.sleep(random_numbers.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    end_of(child)
    outcomes.append(check(way, before))
print(f"{seconds:.3f} s,", *sorted(f"{outcomes.count(each)} {each}" for each in set(outcomes)))
"""
AT_EACH_CALL = """
def killed_before(number, call):
    real, left = getattr(os, call), number
    def counted(*given, **more):
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **more)
    setattr(os, call, counted)
    lay_out(way)

way, kills, outcomes = sys.argv[1], 0, set()
for call in ("mkdir", "sync", "fsync", "rename", "replace", "open", "close", "symlink"):
    for number in range(200):
        prepare(way)
        before = files_of(way)
        ended = end_of(start(lambda: killed_before(number, call)))
        outcomes.add(check(way, before))
        if ended == 0:
            break
        assert ended == -signal.SIGKILL, ended
        kills += 1
    else:
        raise AssertionError("it never came through")
print(kills, *sorted(outcomes))
"""
OUTCOMES = {"create": "all nothing", "make": "all nothing", "fill": "all nothing some", "extend": "all some"}


def run_apart(code: str, place: Path, *arguments: str) -> str:
    """What a process printed that ran this code in the folder."""
    command = [sys.executable, "-c", FORKS + code, *arguments]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    print(f"\n{done.stdout}", end="")
    return done.stdout


@pytest.mark.parametrize("way", OUTCOMES)
def test_a_kill_before_any_call_leaves_all_or_nothing_and_the_same_call_completes_it(tmp_path: Path, way: str) -> None:
    """A new sweep appears whole or not at all. What was extended has each run once when the call is repeated."""
    kills, outcomes = run_apart(KILLS + AT_EACH_CALL, tmp_path, way, "0..2").strip().split(" ", 1)
    assert int(kills) >= 12
    assert outcomes == OUTCOMES[way]


@pytest.mark.slow
@pytest.mark.parametrize("way", OUTCOMES)
def test_twenty_kills_at_random_over_two_hundred_runs_leave_all_or_nothing(tmp_path: Path, way: str) -> None:
    outcomes = run_apart(KILLS + AT_RANDOM, tmp_path, way, "0..99", "20", "1")
    assert sum(map(int, re.findall(r"(\d+) [a-z]{3,}", outcomes))) == 20


TOGETHER = """
def work(number):
    os.close(writable)
    os.read(readable, 1)  # until all have been started
    if way == "another":
        model, typed = ((PolySettings, "degree"), (MlpSettings, "hidden"))[number % 2]
        request = request_of(model, **{typed: "1..9"})
    else:
        # Each asks for some that others ask for too, and for some of its own.
        request = request_of(PolySettings, degree="0..9", seed=f"{number}..{number + 1}")
    folder.create_or_extend(Path("s"), request, request.design())

way = sys.argv[1]
for _ in range(3):
    shutil.rmtree("s", ignore_errors=True)
    if way != "make":
        os.mkdir("s")
    if way == "extend":
        first = request_of(PolySettings, seed="0..1")
        folder.create_or_extend(Path("s"), first, first.design())
    readable, writable = os.pipe()
    children = [start(lambda: work(number)) for number in range(4)]
    os.close(writable)
    print(*sorted(map(end_of, children)), end=": ")
    os.close(readable)
    found = in_sweep(Path("s"))
    assert len(found) == len(set(found)) == len(folder.read(Path("s")).runs()) == len(seen_in(Path("s"))) - 1
    assert len({each[0] for each in found}) == 1
    print(len(found), "runs")
"""


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("make", "0 0 0 0: 50 runs\n"),
        ("fill", "0 0 0 0: 50 runs\n"),
        ("extend", "0 0 0 0: 50 runs\n"),
        ("another", "0 0 2 2: 9 runs\n"),
    ],
)
def test_four_at_once_make_each_run_once(tmp_path: Path, way: str, expected: str) -> None:
    assert run_apart(TOGETHER, tmp_path, way) == 3 * expected


def test_a_folder_that_becomes_a_sweep_while_it_is_looked_at_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    path.mkdir()
    is_sweep = reading.is_sweep

    def overtaken(asked: Path) -> bool:
        found = is_sweep(asked)
        monkeypatch.setattr(reading, "is_sweep", is_sweep)
        extend(path, request_of(degree="1,3"))
        return found

    monkeypatch.setattr(reading, "is_sweep", overtaken)
    assert len(extend(path, request_of(degree="3,5")).runs()) == 3


@pytest.mark.parametrize("lay_out", [create, extend])
def test_what_killed_processes_left_is_removed_after_an_hour(
    tmp_path: Path, lay_out: Callable[[Path, Request], Sweep]
) -> None:
    path = tmp_path / "s"
    extend(path, request_of(degree="1,3"))
    places = {"create": [path], "extend": [tmp_path, path]}[lay_out.__name__]
    old = [temporary_for(place / "old") for place in places]
    young = [temporary_for(place / "young") for place in places]
    for each in (*old, *young):
        each.mkdir()
        (each / "config.toml").write_text("")
    for each in old:
        os.utime(each, (time.time() - 3700,) * 2)
    lay_out(path, request_of(degree="1,3,5"))
    if lay_out is extend:
        extend(tmp_path / "other", request_of(degree="1,3"))
    assert not [each for each in old if each.exists()]
    assert all(each.is_dir() for each in young)


# Time


def test_one_sync_serves_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def count(name: str) -> None:
        real = getattr(os, name)

        def counted(*given: int) -> None:
            calls.append(name)
            real(*given)

        monkeypatch.setattr(os, name, counted)

    count("sync")
    count("fsync")
    for last in (1, 39):
        found = []
        requests = [request_of(seed=f"0..{last}"), request_of(seed=f"0..{last}", degree="1,3")]
        for lay_out, place, request in ((create, "runs", 0), (extend, "s", 0), (extend, "s", 1)):
            calls.clear()
            lay_out(tmp_path / str(last) / place, requests[request])
            found.append((calls.count("sync"), calls.count("fsync")))
        # The folder; the folder; sweep.toml, its name, and the names of the runs.
        assert found == [(1, 1), (1, 1), (1, 3)]


@pytest.mark.slow
def test_two_thousand_runs_are_laid_out_in_ten_seconds(tmp_path: Path) -> None:
    request = request_of(degree="0..19", seed="0..99")
    began = time.perf_counter()
    sweep = create(tmp_path, request)
    made = time.perf_counter()
    assert len(folder.read(sweep.path).runs()) == 2000
    read = time.perf_counter()
    extend(sweep.path, request_of(degree="0..19", seed="0..199"))
    extended = time.perf_counter()
    seconds = (made - began, read - made, extended - read)
    print("\n2,000 runs: laid out in {:.2f} s, read in {:.2f} s, 2,000 more added in {:.2f} s".format(*seconds))
    assert max(seconds) < 10
