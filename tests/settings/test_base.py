"""The bounds of common settings, and paths."""

import os
from pathlib import Path

import pytest
import torch

from mlpx import registry
from mlpx.errors import UsageError
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.settings.base import MAX_LEARNING_RATE, MAX_WEIGHT_DECAY, allowed
from mlpx.settings.files import resolve

EXPERIMENTS = list(registry.EXPERIMENTS)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_numbers_beyond_float32_are_refused(experiment: str) -> None:
    model = registry.settings_class(experiment)
    for name in ("lr", "weight_decay"):
        with pytest.raises(UsageError, match=rf"^--{name.replace('_', '-')}: 1e\+300 cannot be used\. Give a number"):
            resolve(model, {name: 1e300})
    with pytest.raises(UsageError, match=r"Give a number above 0 and at most 1e\+30\.$"):
        resolve(model, {"lr": 1e31})


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_learning_rate_of_1e30_is_allowed(experiment: str) -> None:
    model = registry.settings_class(experiment)
    assert resolve(model, {"lr": 1e30, "weight_decay": MAX_WEIGHT_DECAY}).lr == MAX_LEARNING_RATE
    assert allowed(model.model_fields["weight_decay"]) == "a number from 0 to 1000000.0"


def test_no_product_of_the_largest_overflows_float32() -> None:
    # The factor 100 is for Muon, which takes 0.2 times the root of a matrix's longer side as a further factor.
    largest = torch.finfo(torch.float32).max
    assert largest > 100 * MAX_LEARNING_RATE * MAX_WEIGHT_DECAY


def test_paths_are_absolute_and_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for given, expected in (
        ("", ""),
        ("data", f"{tmp_path}/data"),
        ("~/data", "/home/me/data"),
        ("./~", f"{tmp_path}/~"),
    ):
        assert MlpSettings(data_dir=given).data_dir == expected


@pytest.mark.parametrize(
    ("model", "name"),
    [(MlpSettings, "data_dir"), (TransformerSettings, "data_dir"), (TransformerSettings, "train_src")],
)
def test_a_path_that_is_not_utf_8_is_refused_by_name(
    model: type[MlpSettings | TransformerSettings], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = "--" + name.replace("_", "-")
    given = {name: os.fsdecode(b"gr\xfcn")} | ({"task": "text"} if name == "train_src" else {})
    with pytest.raises(UsageError, match=rf"^{option}: .* Rename it: "):
        resolve(model, given)
    here = tmp_path / os.fsdecode(b"gr\xfcn")
    here.mkdir()
    monkeypatch.chdir(here)  # the relative path is UTF-8, the absolute one is not
    with pytest.raises(UsageError, match=rf"^{option}: .* Rename it: "):
        resolve(model, given | {name: "data"})
