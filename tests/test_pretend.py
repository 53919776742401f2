"""Training on a device that is not the CPU, without one: no tensor is left on the CPU, and no step waits."""

import json
import subprocess
import sys

import pytest
from helpers import ROOT, environment

# Put there by purpose.
LEFT_BEHIND = "labels on the CPU"


def test_each_experiment_takes_steps_on_a_device_without_a_tensor_left_on_the_cpu() -> None:
    paths = f"{ROOT}:{ROOT / 'tests'}"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "tests" / "pretend.py")],
        env=environment(PYTHONPATH=paths),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if "unavailable" in found:
        pytest.skip(f"this version of PyTorch makes no device in Python: {found['unavailable']}")
    (left,) = found.pop(LEFT_BEHIND)
    assert "pretend:0 and cpu" in left
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
