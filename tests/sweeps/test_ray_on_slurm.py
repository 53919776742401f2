"""The page's script that makes a Ray cluster of a job of Slurm, on real ones, in a network of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROGRAM, ROOT, document_of, environment, outcome
from ray_cluster import require_ray
from slurm import cluster

pytestmark = [pytest.mark.slurm, pytest.mark.ray, pytest.mark.slow]

INSIDE = "MLPX_TESTS_INSIDE"
# Slurm looks up addresses only where there is another one than that of loopback.
NETWORK = 'ip link set lo up && ip address add 10.9.9.1/32 dev lo && exec "$@"'


def test_the_script_carries_out_a_sweep_on_both_nodes_and_leaves_no_process(tmp_path: Path) -> None:
    require_ray()
    if INSIDE not in os.environ:
        again = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "slow", __file__]
        network = ["unshare", "--net", "sh", "-c", NETWORK, "sh"]
        done = subprocess.run([*network, *again], env={**os.environ, INSIDE: "1"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        assert "1 passed" in done.stdout
        return
    page = (ROOT / "docs" / "clusters.md").read_text()
    (script,) = (
        text for text in re.findall(r"^```sh\n(#!.*?)^```", page, re.DOTALL | re.MULTILINE) if "ray start" in text
    )
    assert "--degree 0..9 --seed 0..9 --epochs 1500" in script
    (tmp_path / "sweep.sh").write_text(script.replace("--degree 0..9 --seed 0..9", "--degree 1,3 --seed 0..2"))
    path = f"{Path(PROGRAM[0]).parent}:{os.environ['PATH']}"
    with cluster() as slurm:
        done = slurm.run("sbatch", "sweep.sh", env={**slurm.env, "PATH": path}, cwd=tmp_path)
        assert done.returncode == 0, done
        slurm.wait_until_empty(150)
        assert not [number for number in slurm.processes() if b"ray" in Path(f"/proc/{number}/cmdline").read_bytes()]
    log = next(tmp_path.glob("sweep-*.log")).read_text()
    assert "Ray cluster" in log
    assert "6 finished in" in log, log
    assert "Traceback" not in log
    for run in (tmp_path / "runs" / "degrees").glob("degree*"):
        assert document_of(run)["status"] == "finished"
        single = ["poly", "--config", str(run / "config.toml"), "--into", str(tmp_path / run.name), "--quiet"]
        subprocess.run([*PROGRAM, *single], env=environment(OMP_NUM_THREADS="1"), check=True, capture_output=True)
        assert outcome(tmp_path / run.name) == outcome(run)
    assert list(Path("/tmp").glob("ray-[0-9]*")) == []
