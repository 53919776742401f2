"""Sweeps on a Ray cluster of several nodes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from helpers import ROOT, Result, assert_fails, document_of, environment, outcome, table
from ray_cluster import RayCluster, cluster, ended, wait_for

import mlpx
from mlpx.errors import InputError, UsageError
from mlpx.sweeps import on_ray
from mlpx.sweeps.on_ray import Node, Ray
from mlpx.sweeps.request import Options

NINE = ("sweep", "poly", "--degree", "1..3", "--seed", "0..2", "--epochs", "60", "--quiet")
LONG = ("--epochs", "20000", "--eval-every", "100", "--checkpoint-every", "0.2")
SERVER = "multiprocessing.forkserver"


@pytest.fixture(scope="module")
def three() -> Iterator[RayCluster]:
    with cluster(1, 1, 1) as running:
        yield running


def path_of(result: Result, code: int = 0) -> Path:
    """The folder of the sweep, which is all that was printed, below a note that names the cluster."""
    assert result.code == code, result
    assert result.out.count("\n") == 1, result
    if code == 0:
        assert result.err.startswith("note: Ray cluster 10.9.0.1:")
        assert result.err.count("\n") == 1, result
    return Path(result.out.strip())


def assert_equal_to_single_runs(runs: Sequence[Path], folder: Path) -> None:
    """Compare with single runs of the same settings, in one process with one thread."""
    commands = [["poly", "--config", f"{run}/config.toml", "--name", run.name, "--device", "cpu"] for run in runs]
    code = f"from mlpx.cli import app\nfor words in {commands}: assert app.run([*words, '--runs-dir', 'single']) == 0"
    env = environment(OMP_NUM_THREADS="1")
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, stdout=subprocess.DEVNULL, check=True)
    for run in runs:
        assert document_of(run)["status"] == "finished"
        assert outcome(run) == outcome(next((folder / "single").glob(f"*-{run.name}"))), run


def has_saved(runs: Path, count: int) -> bool:
    """Whether so many runs have a checkpoint."""
    return len({path.parent.parent.name for path in runs.glob("*/*/checkpoints/*") if path.suffix != ".tmp"}) >= count


def resumed(sweep: Path) -> list[Path]:
    """The runs that were begun more than once."""
    return [run for run in sorted(sweep.glob("seed*")) if document_of(run)["resumed_from_epoch"]]


def assert_nothing_runs(three: RayCluster) -> None:
    wait_for(lambda: not three.processes(SERVER), 20)


@pytest.mark.ray
def test_nine_runs_equal_single_runs_and_leave_nothing_but_their_folders(three: RayCluster, tmp_path: Path) -> None:
    sweep = path_of(three.mlpx(*NINE, "--on", "ray", cwd=tmp_path))
    runs = list(sweep.glob("degree*"))
    assert len(runs) == 9
    assert_equal_to_single_runs(runs, tmp_path)
    assert_nothing_runs(three)


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(three: RayCluster, tmp_path: Path) -> None:
    with three.live("sweep", "poly", *LONG, "--seed", "0..2", "--on", "ray", "--quiet", cwd=tmp_path) as driver:
        wait_for(lambda: has_saved(tmp_path / "runs", 3))
        os.kill(three.processes("ray::mlpx seed1")[0], signal.SIGKILL)
        sweep = path_of(ended(driver))
    assert resumed(sweep) == [sweep / "seed1"]
    assert [int(row["epoch"]) for row in table(sweep / "seed1" / "metrics.csv")] == [1, *range(100, 20001, 100)]
    assert_equal_to_single_runs(resumed(sweep), tmp_path)


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_makes_runs_on_all_nodes_save_and_end(three: RayCluster, tmp_path: Path, number: int) -> None:
    options = ("--epochs", "1000000", "--checkpoint-every", "0", "--seed", "0..4")
    with three.live("sweep", "poly", *options, "--on", "ray", "--quiet", cwd=tmp_path) as driver:
        wait_for(lambda: has_saved(tmp_path / "runs", 3))
        driver.send_signal(number)
        done = ended(driver)
    sweep = path_of(done, -number)
    # Nothing is waited for beyond the end of the runs themselves.
    documents = [document_of(sweep / f"seed{seed}") for seed in range(3)]
    assert {document["status"] for document in documents} == {"interrupted"}
    assert "3 interrupted, 2 waiting" in done.err
    assert_nothing_runs(three)


@pytest.mark.ray
def test_each_run_gets_a_gpu_of_its_own(three: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import planted\nfrom mlpx.sweeps import processes\nprocesses._become_the_run = planted.tell\n"
    )
    known = os.pathsep.join([str(tmp_path), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    node = three.add(cores=3, gpus=2, env={"PYTHONPATH": known})
    try:
        options = ("--epochs", "5", "--seed", "0..3", "--gpus", "1", "--device", "cpu")
        sweep = path_of(three.mlpx("sweep", "poly", *options, "--on", "ray", "--quiet", cwd=tmp_path))
    finally:
        three.remove(node)
    seen = [json.loads((run / "seen.json").read_text()) for run in sorted(sweep.glob("seed*"))]
    assert {each["visible"] for each in seen} == {"0", "1"}
    for one in seen:
        for other in seen:
            if one is not other and one["began"] < other["ended"] and other["began"] < one["ended"]:
                assert one["visible"] != other["visible"]


@pytest.mark.ray
@pytest.mark.parametrize("way", [pytest.param(way, marks=pytest.mark.slow) for way in ("hidden", "changed", "absent")])
def test_a_node_that_cannot_carry_out_runs_is_refused_by_name(three: RayCluster, tmp_path: Path, way: str) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    env = {}
    if way != "hidden":
        other = tmp_path / "other"
        if way == "changed":
            shutil.copytree(Path(mlpx.__file__).parent, other / "mlpx", ignore=shutil.ignore_patterns("__pycache__"))
            with open(other / "mlpx" / "errors.py", "a") as file:
                file.write("# another line\n")
        else:
            other.mkdir()
            code = "import os, sys\nsys.path[:] = [path for path in sys.path if not os.path.exists(f'{path}/mlpx')]\n"
            (other / "sitecustomize.py").write_text(code)
        env = {"PYTHONPATH": os.pathsep.join([str(other), os.environ.get("PYTHONPATH", "")])}
    node = three.add(hides=runs if way == "hidden" else None, env=env)
    try:
        result = three.mlpx(*NINE, "--on", "ray", cwd=tmp_path)
    finally:
        if way == "hidden":
            for number in three.processes(node.address):
                os.kill(number, signal.SIGKILL)
        else:
            three.remove(node)
    words = {
        "hidden": f"does not see {runs}",
        "changed": f"has mlpx {mlpx.__version__}, with other modules than here",
        "absent": f"has no mlpx, and here is mlpx {mlpx.__version__}",
    }
    note, _, error = result.err.partition("\n")
    assert note.startswith("note: Ray cluster")
    assert_fails(result._replace(err=error), 5, f"node {os.uname().nodename} ({node.address})", words[way])
    assert result.out == ""
    assert list(runs.iterdir()) == []


@pytest.mark.ray
@pytest.mark.slow
def test_a_lost_node_costs_nothing_but_time(three: RayCluster, tmp_path: Path) -> None:
    node = three.add()
    with three.live("sweep", "poly", *LONG, "--seed", "0..3", "--on", "ray", "--quiet", cwd=tmp_path) as driver:
        wait_for(lambda: has_saved(tmp_path / "runs", 4))
        three.remove(node)
        sweep = path_of(ended(driver))
    assert len(resumed(sweep)) == 1
    assert_equal_to_single_runs(resumed(sweep), tmp_path)


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_driver_leaves_no_process_and_another_goes_on(three: RayCluster, tmp_path: Path) -> None:
    with three.live("sweep", "poly", *LONG, "--seed", "0..5", "--on", "ray", "--quiet", cwd=tmp_path):
        wait_for(lambda: has_saved(tmp_path / "runs", 3))
    began = time.monotonic()
    assert_nothing_runs(three)
    print(f"\nno process {time.monotonic() - began:.1f} s after the driver was killed")
    sweep = path_of(three.mlpx("resume", "latest", "--on", "ray", "--quiet", cwd=tmp_path))
    assert len(resumed(sweep)) == 3
    assert_equal_to_single_runs(sorted(sweep.glob("seed*")), tmp_path)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("address", ["10.9.0.1:1", "10.77.77.77:6379", "nowhere.invalid:6379"])
def test_a_cluster_that_does_not_answer_is_given_up(three: RayCluster, tmp_path: Path, address: str) -> None:
    began = time.monotonic()
    result = three.mlpx(*NINE, "--on", "ray", cwd=tmp_path, RAY_ADDRESS=address)
    assert_fails(result, 5, address, "no answer within 20 s")
    assert time.monotonic() - began < 40
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("address", ["local", "ray://10.0.0.1:10001", "10.0.0.1"])
def test_an_address_of_no_cluster_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=address):
        Ray("poly", Options(), None)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'mlpx\[ray\]'"):
        Ray("poly", Options(), None)


def test_a_share_of_gpus_that_no_run_can_have_is_refused_before_ray_is_asked() -> None:
    with pytest.raises(UsageError, match="--gpus"):
        Ray("poly", Options(gpus=1.5), None)


@pytest.mark.parametrize(
    ("cores", "gpus", "each_cores", "each_gpus", "room"),
    [
        *[(8, 0, 1, 0, 8), (8, 0, 3, 0, 2), (2, 0, 3, 0, 0), (8, 0, 1, 1, 0), (8, 4, 1, 1, 4), (8, 4, 1, 3, 1)],
        *[(8, 4, 4, 1, 2), (64, 2, 1, 0.5, 4), (64, 2, 1, 0.4, 4), (8, 1, 1, 2, 0)],
    ],
)
def test_the_room_of_a_node(cores: float, gpus: float, each_cores: int, each_gpus: float, room: int) -> None:
    node = Node("id", "host", "address", cores, gpus)
    assert node.room(Options(cores=each_cores, gpus=each_gpus)) == room


def test_ray_is_imported_late() -> None:
    code = "import mlpx.sweeps.on_ray, sys; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout == "False\n"
    assert on_ray.ADDRESS == "RAY_ADDRESS"
