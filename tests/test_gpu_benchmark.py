"""The script for a GPU, tried on the CPU: its figures mean nothing here, but each of its sections works."""

import subprocess
import sys

import pytest
from helpers import ROOT, environment


@pytest.mark.parametrize(
    ("only", "sections"),
    [
        ("slices|cudnn", ("slices", "cudnn")),
        pytest.param(
            "",
            ("tests", "graphs", "ten epochs", "slices", "cudnn", "kernels", "same bits", "resumed", "speed"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_each_section_of_the_script_for_a_gpu_works(only: str, sections: tuple[str, ...]) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", "--quick", "--only", only]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert "failed:" not in done.stdout, done.stdout + done.stderr
    assert done.stderr == ""
    found = [line.split(":")[0].strip() for line in done.stdout.splitlines() if line.startswith(" ")]
    assert found == list(sections)
    assert done.returncode == ("DIFFERS" in done.stdout)
