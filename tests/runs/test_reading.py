"""Which run is meant, and runs that cannot be read: exit code 5, in one line."""

import os
from pathlib import Path

import pytest

from mlpx.errors import InputError
from mlpx.experiments.poly.settings import PolySettings
from mlpx.runs import reading
from mlpx.settings.files import to_toml


def make_run(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.toml").write_text(to_toml(PolySettings()))
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A runs folder with one run, the link to it, a folder and a file that are no runs, and an unfinished run."""
    run = make_run(tmp_path / "runs" / "20261123-041530-poly-alpha")
    (tmp_path / "runs" / "latest").symlink_to(run.name)
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "notes.txt").write_text("")
    make_run(tmp_path / "runs" / ".20261123-041530-poly-beta.0123abcd.tmp")
    return tmp_path / "runs"


def test_a_run_is_meant_by_its_name_its_path_and_as_the_latest(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs / "20261123-041530-poly-alpha"
    monkeypatch.chdir(runs.parent)
    for reference in (
        run.name,
        "latest",
        str(run),
        f"runs/{run.name}",
        f"./runs/{run.name}/",
        f"../{runs.parent.name}/runs/{run.name}",
    ):
        assert reading.find(reference, Path("runs")) == run, reference
    make_run(runs / "sweep" / "a")
    assert reading.find("sweep/a", Path("runs")) == runs / "sweep" / "a"


def test_a_run_is_meant_from_within_it(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs / "20261123-041530-poly-alpha"
    monkeypatch.chdir(run)
    assert reading.find(".", runs) == run
    (run / "checkpoints").mkdir()
    monkeypatch.chdir(run / "checkpoints")
    assert reading.find("..", runs) == run


def test_a_folder_that_is_no_run_does_not_end_the_search(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reading.find(str(make_run(tmp_path / "notes").name), runs) == tmp_path / "notes"
    with pytest.raises(InputError, match=r"config\.toml"):
        reading.find("runs", runs)


@pytest.mark.parametrize("reference", ["", "zzz", "x" * 300, "x/" * 3000, "a\0b", "notes.txt"])
def test_an_unknown_run_is_an_input_error_that_counts_runs_alone(runs: Path, reference: str) -> None:
    with pytest.raises(InputError, match=r"no such run\. .* holds one run\.$"):
        reading.find(reference, runs)
    with pytest.raises(InputError, match=r"no such run\. .* holds no runs\.$"):
        reading.find(reference, runs / "nowhere")


def test_the_nearest_names_are_those_of_runs(runs: Path) -> None:
    make_run(runs / "20261123-041530-poly-alphb")
    with pytest.raises(InputError, match=r"The nearest: 20261123-041530-poly-alph., 20261123-041530-poly-alph.\.$"):
        reading.find("20261123-041530-poly-alphc", runs)
    with pytest.raises(InputError, match=r"holds 2 runs\.$"):
        reading.find("lates", runs)  # the link is no run


def make_sweep(path: Path, *names: str) -> Path:
    path.mkdir()
    (path / "sweep.toml").write_text('experiment = "poly"\n')
    for name in names:
        make_run(path / name)
    return path


def test_a_sweep_is_no_run_and_the_error_says_what_to_do(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(runs / "sweep", "degree03", "degree19")
    (runs / "latest").unlink()
    (runs / "latest").symlink_to("sweep")
    for typed in ("latest", "sweep", "sweep/", str(sweep)):
        cure = (
            f"Give one of its runs, such as {typed.rstrip('/')}/degree03, or list them: mlpx runs {typed.rstrip('/')}."
        )
        with pytest.raises(InputError) as caught:
            reading.find(typed, runs)
        assert str(caught.value) == f"{typed}: is a sweep of 2 runs. {cure}"
        assert reading.find(f"{typed.rstrip('/')}/degree03", runs) == sweep / "degree03"
    make_sweep(runs / "one sweep", "a b")
    with pytest.raises(
        InputError, match=r"is a sweep of 1 run\. .*such as 'one sweep/a b', .*: mlpx runs 'one sweep'\.$"
    ):
        reading.find("one sweep", runs)
    make_sweep(runs / "empty")
    with pytest.raises(InputError, match=r"is a sweep of 0 runs\. Give a run, or list them"):
        reading.find("empty", runs)
    # A run of that name elsewhere is found all the same.
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "sweep")
    assert reading.find("sweep", runs) == run


def test_what_is_near_to_a_name_in_a_sweep_are_its_runs(runs: Path) -> None:
    make_sweep(runs / "sweep", "degree03", "degree19")
    with pytest.raises(
        InputError, match=r"^sweep/degree3: no such run\. The nearest: sweep/degree03, sweep/degree19\.$"
    ):
        reading.find("sweep/degree3", runs)
    with pytest.raises(InputError, match=r"sweep holds 2 runs\.$"):
        reading.find("sweep/zzz", runs)
    long = make_sweep(runs / "20261126-152808-mlp-sweep-of-a-long-name", "a1").name
    with pytest.raises(InputError, match=rf"The nearest: {long}/a1\.$"):
        reading.find(f"{long}/a", runs)
    (runs / long).rename(runs / f".{long}")
    with pytest.raises(InputError, match=r"The nearest: sweep\.$"):
        reading.find("swep", runs)
    with pytest.raises(InputError, match=r"runs holds one run and one sweep\.$"):
        reading.find("zzz", runs)


def test_a_folder_holds_runs_and_sweeps(runs: Path) -> None:
    run, sweep = runs / "20261123-041530-poly-alpha", make_sweep(runs / "sweep", "a", "b")
    assert reading.inside(runs) == ([run], [sweep])
    assert reading.find_inside(str(runs), runs) == ([run], [sweep])
    assert reading.find_inside("sweep", runs) == ([sweep / "a", sweep / "b"], [])
    assert reading.find_inside("latest", runs) == ([run], [])
    assert reading.runs_in(runs) == reading.find_runs(str(runs), runs) == [run]
    assert reading.find_runs("sweep", runs) == [sweep / "a", sweep / "b"]
    make_run(runs.parent / "others" / "x").rename(runs.parent / "x")
    make_sweep(runs.parent / "others" / "s", "a")
    with pytest.raises(InputError, match=r"holds sweeps, and no run beside them\. Give one, such as .*others/s\.$"):
        reading.find_runs(str(runs.parent / "others"), runs)


@pytest.mark.parametrize("kind", ["folder", "fifo", "loop"])
def test_a_document_that_is_no_file_is_an_input_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    with pytest.raises(InputError, match=r"run\.json: cannot be read \("):
        reading.document_of(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_broken_document_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InputError, match=r"run\.json: is not"):
        reading.document_of(tmp_path)


LINES = ["seed = 0x{}", "experiment = 0x{}", "degree = [0x{}]", "seed = {}", "[seed.x]", "lr = 1e300", "degre = 3"]


@pytest.mark.parametrize("line", LINES)
def test_settings_that_are_broken_are_an_input_error(tmp_path: Path, line: str) -> None:
    first = "" if "experiment" in line else 'experiment = "poly"'
    (tmp_path / "config.toml").write_text(f"{first}\n{line.format('9' * 5000)}")
    with pytest.raises(InputError):
        reading.settings_of(tmp_path)


def test_only_a_finished_run_has_metrics() -> None:
    assert reading.metrics_of({}) == {}
    assert reading.metrics_of({"status": "running", "metrics": {"x": 1.0}}) == {}
    assert reading.metrics_of({"status": "finished", "metrics": {"x": 1.0}}) == {"x": 1.0}


@pytest.mark.parametrize("not_finite", [None, 3, [], ["x"], {"x": 3}, {"x": "1e3"}, {"y": "inf"}, {"x": ["inf"]}])
def test_odd_words_about_metrics_that_are_not_finite_change_nothing(not_finite: object) -> None:
    document = {"status": "finished", "metrics": {"x": None}, "not_finite": not_finite}
    assert reading.metrics_of(document) == {"x": None}
