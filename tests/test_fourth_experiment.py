"""A fourth experiment, from a folder outside of the package: one line in the registry is all that it takes."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import Result, assert_fails, environment

pytestmark = pytest.mark.program

SETTINGS = """
from typing import Annotated, ClassVar

from pydantic import Field

from mlpx.settings.base import BatchSize, Epochs, EvalEvery, LearningRate, Seed, Settings, WeightDecay
from mlpx.settings.metrics import Metric

METRICS = [
    Metric("train_loss", "loss", better="lower", axis="loss", curve="training", is_main=True),
    Metric("test_loss", "loss", better="lower", axis="loss", curve="test", is_main=True),
    Metric("distance", better="lower"),
]


class DescentSettings(Settings):
    experiment: ClassVar[str] = "descent"
    summary: ClassVar[str] = "Descend a parabola."
    examples: ClassVar[tuple[str, ...]] = ("mlpx descent",)

    target: Annotated[float, Field(description="Where the parabola has its minimum")] = 3.0
    seed: Seed = 0
    epochs: Epochs = 20
    lr: LearningRate = 0.1
    batch_size: BatchSize = 1
    weight_decay: WeightDecay = 0.0
    eval_every: EvalEvery = 5

    @property
    def metrics(self):
        return METRICS

    @property
    def label(self) -> str:
        return "parabola"
"""

EXPERIMENT = """
import torch

from mlpx.training.experiment import Experiment, Outcome
from mlpx.training.randomness import generator
from mlpx.training.states import restore


class Descent(Experiment):
    num_steps = 1

    def __init__(self, settings, device):
        self.settings = settings
        self.x = torch.randn(1, generator=generator(settings.seed, "weights")).to(device)

    def train(self, epoch, step):
        self.x -= self.settings.lr * 2 * (self.x - self.settings.target)
        yield 1

    def evaluate(self):
        distance = float(self.x) - self.settings.target
        return {"train_loss": [distance**2], "test_loss": [distance**2], "distance": [abs(distance)]}

    def state(self):
        return {"x": self.x}

    def load_state(self, state):
        restore(self.state(), state, "checkpoint", "Start the run anew.")

    def outcome(self, last):
        return Outcome(weights=self.state(), summary=f"ended {last['distance']:.3g} from the minimum")

    @classmethod
    def final_metrics(cls, settings, device, learned):
        experiment = cls(settings, device)
        experiment.load_state(dict(learned.weights))
        return experiment.evaluate()
"""

# The one line in the registry is the third of these.
MAIN = """
import sys
from mlpx import registry
registry.EXPERIMENTS["descent"] = registry.Entry("descent", "DescentSettings", "Descent")
from mlpx.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fourth")
    package = folder / "descent"
    package.mkdir()
    for name, text in (("__init__", ""), ("settings", SETTINGS), ("experiment", EXPERIMENT)):
        (package / f"{name}.py").write_text(text)
    assert (SETTINGS + EXPERIMENT).count("\n") < 80
    (folder / "main.py").write_text(MAIN)
    return folder


def mlpx(folder: Path, *arguments: str) -> Result:
    line = [sys.executable, "main.py", *arguments]
    done = subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True)
    return Result(done.returncode, done.stdout, done.stderr)


def test_it_trains_streams_and_is_drawn_evaluated_and_checked(folder: Path) -> None:
    assert "descent      Descend a parabola." in mlpx(folder, "--help").out
    assert "Where the parabola has its" in mlpx(folder, "descent", "--help").out
    result = mlpx(folder, "descent", "--check", "distance < 0.1", "--name", "first")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].split() == ["epoch", "train", "loss", "test", "loss", "distance", "seconds"]
    assert [line.split()[0] for line in lines[2:7]] == ["1", "5", "10", "15", "20"]
    assert lines[-2].startswith("ended ")
    run = Path(lines[-1])
    left = {path.name for path in run.iterdir()}
    own = {"config.toml", "run.json", "metrics.csv", "loss.png", "weights.safetensors", "checkpoints", "claims", "lock"}
    assert left == own
    assert json.loads((run / "run.json").read_text())["summary"] == lines[-2]
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    evaluated = mlpx(folder, "evaluate", str(run))
    assert (evaluated.code, evaluated.out.splitlines()[-1]) == (0, "as recorded")
    assert_fails(mlpx(folder, "descent", "--check", "distance > 9"), 3, "distance > 9")
    assert_fails(mlpx(folder, "descent", "--check", "distanc > 9"), 2, "Did you mean 'distance'?")


def test_it_resumes_bit_for_bit(folder: Path) -> None:
    straight = Path(mlpx(folder, "descent", "--epochs", "40", "--quiet").out.strip())
    resumed = Path(mlpx(folder, "descent", "--quiet").out.strip())
    assert mlpx(folder, "resume", str(resumed), "--epochs", "40").code == 0
    assert json.loads((resumed / "run.json").read_text())["resumed_from_epoch"] == [20]
    with open(straight / "metrics.csv") as one, open(resumed / "metrics.csv") as other:
        rows = [[{**row, "seconds": ""} for row in csv.DictReader(file)] for file in (one, other)]
    assert rows[0] == rows[1]
    assert (straight / "weights.safetensors").read_bytes() == (resumed / "weights.safetensors").read_bytes()
