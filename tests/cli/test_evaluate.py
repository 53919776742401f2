"""What ``mlpx evaluate`` calls the same, and what it refuses."""

import json
import math
from pathlib import Path

import pytest
from helpers import Program, assert_fails

from mlpx.cli import app
from mlpx.cli.evaluate import _is_same
from mlpx.experiments.poly.experiment import Polynomials
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.settings.files import resolve, to_toml


@pytest.mark.parametrize(
    ("value", "recorded", "kind", "same"),
    [
        (0.5, 0.5, "loss", True),
        (0.5, 0.500004, "loss", True),
        (0.5, 0.5001, "loss", False),
        (0.8501, 0.85, "share", True),  # rounding turned one prediction of ten thousand
        (0.8503, 0.85, "share", False),
        (math.inf, math.inf, "loss", True),
        (math.inf, None, "loss", True),  # what older versions recorded
        (math.nan, None, "loss", True),
        (0.5, None, "loss", False),
        (math.inf, 0.5, "loss", False),
        (0.5, math.inf, "loss", False),
    ],
)
def test_values_are_the_same_but_for_rounding(value: float, recorded: float | None, kind: str, same: bool) -> None:
    assert _is_same(value, recorded, kind) is same


@pytest.mark.smoke
def test_json_has_null_for_what_is_not_finite(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Path(program("poly", "--epochs", "2", "--quiet").out.strip())
    document = json.loads((run / "run.json").read_text())
    document["metrics"]["train_loss"] = None
    (run / "run.json").write_text(json.dumps(document))
    result = program("evaluate", "latest", "--json")
    assert_fails(result, 3, "train_loss is ", "and was None")
    event = json.loads(result.out, parse_constant=lambda text: pytest.fail(text))
    assert event["recorded"]["train_loss"] is None


def test_json_never_has_infinity(
    program: Program, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = program("poly", "--epochs", "2", "--quiet").out.strip()
    monkeypatch.setattr(Polynomials, "final_metrics", lambda *_: {"train_loss": [math.inf]})
    assert app.run(["evaluate", run, "--json"]) == 3
    event = json.loads(capfd.readouterr().out, parse_constant=lambda text: pytest.fail(text))
    assert event["metrics"] == {"train_loss": None}


def test_half_a_pair_of_test_files_is_refused(program: Program) -> None:
    run = Path(program("poly", "--epochs", "2", "--quiet").out.strip())
    files = {f"{part}_{side}": "x" for part in ("train", "val", "test") for side in ("src", "tgt")}
    settings = resolve(TransformerSettings, {"task": "text", **files})
    (run / "config.toml").write_text(to_toml(settings))
    for option in ("--test-src", "--test-tgt"):
        assert_fails(program("evaluate", str(run), option, "y"), 2, "--test-src and --test-tgt", "only one of them")
