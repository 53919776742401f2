"""Several processes against one: what is trained together is what one process trains."""

import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import launching
import pytest
import together
import torch
from helpers import ROOT

from mlpx.errors import InputError, MachineError, UsageError
from mlpx.experiments.poly.experiment import Polynomials
from mlpx.experiments.poly.settings import PolySettings
from mlpx.experiments.transformer import decoding, tasks
from mlpx.experiments.transformer.experiment import Translation
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.runs.execution import hosts_of
from mlpx.training import torchrun
from mlpx.training.distributed import Group
from mlpx.training.signals import StopFlag, Stopping
from mlpx.training.torchrun import Place

EXACT = 1e-10


def assert_close(found: dict[str, float], expected: dict[str, float], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=tolerance, abs=tolerance), name


@pytest.mark.parametrize("num_processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_train_what_one_trains(
    num_processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launching.require_network()
    results = tmp_path / "results"
    text = together.write_text(tmp_path)
    script = [str(ROOT / "tests" / "together.py"), str(results), json.dumps(text)]
    done = launching.run(launching.torchrun(num_processes, *script), tmp_path, {"PYTHONPATH": str(ROOT)})
    assert done.code == 0, done.err
    for module, name in ((tasks, "NUM_VAL"), (tasks, "NUM_TEST"), (decoding, "MORE_WORDS")):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    alone = together.train_all(Group(), text)
    ranks = [torch.load(f"{results}.{rank}", weights_only=True) for rank in range(num_processes)]
    for name, expected in alone.items():
        tolerance = EXACT if name != "fp32" else 1e-4
        rows, metrics, weights = ranks[0][name]
        for row, expected_row in zip(rows, expected.rows, strict=True):
            assert_close(row, expected_row, tolerance)
        assert_close(metrics, expected.metrics, tolerance)
        for part, tensor in weights.items():
            # Attention does not depend on the bias of the keys: its gradient is nothing but rounding, which Adam
            # scales up to steps of full length.
            decisive = slice(len(tensor) // 2, None) if part.endswith("key_value.bias") else slice(None)
            torch.testing.assert_close(tensor[decisive], expected.weights[part][decisive], rtol=0, atol=tolerance)
        for other in ranks[1:]:
            assert other[name][:2] == (rows, metrics)
            assert all(torch.equal(other[name][2][part], weights[part]) for part in weights)
    # Translations that are all wrong would be equally wrong.
    assert 5 < alone["text"].metrics["test_bleu"] < 95


def test_a_signal_to_one_stops_all_at_the_same_place(tmp_path: Path) -> None:
    """An epoch has seven steps, after which it is evaluated."""
    launching.require_network()
    results = tmp_path / "results"
    command = launching.torchrun(2, str(ROOT / "tests" / "together.py"), str(results))
    done = launching.run(command, tmp_path, {"PYTHONPATH": str(ROOT)})
    assert done.code == 0, done.err
    expected = {doing: (count, signal.SIGTERM) for doing, count in {"training": 3, "scoring": 7, "decoding": 7}.items()}
    for rank in range(2):
        assert torch.load(f"{results}.{rank}", weights_only=True) == expected


class Pair(Group):
    """A process beside which there is another one, where ``other`` is made of what this one has."""

    def __init__(self, other: Callable[[Any], Any]) -> None:
        super().__init__()
        self._other = other

    def together(self, work: Callable[[], Any]) -> list[Any]:
        own = work()
        return [own, self._other(own)]


def test_processes_with_other_data_do_not_train() -> None:
    experiment = Polynomials(PolySettings(), torch.device("cpu"))
    experiment.group = Pair(lambda own: own)
    assert len(hosts_of(experiment)) == 2
    experiment.group = Pair(lambda own: ("elsewhere", own[1] + "0"))
    with pytest.raises(InputError, match=r"the data: is not the same on .* and on elsewhere"):
        hosts_of(experiment)


def test_weights_that_drift_apart_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "NUM_VAL", 5)
    monkeypatch.setattr(tasks, "NUM_TEST", 5)
    small = {**together.SMALL, "num_train": 5, "batch_size": 5}
    experiment = Translation(TransformerSettings.model_validate(small), torch.device("cpu"))
    list(experiment.train(1, 0))
    experiment.group = Pair(lambda own: own + "0")
    with pytest.raises(MachineError, match="have drifted apart"):
        experiment.evaluate()


def test_shares_are_all_there_is_and_are_put_together_in_order() -> None:
    groups = [Group(Place(rank, 3)) for rank in range(3)]
    for count in range(8):
        items = list(range(count))
        shares = [group.share(items) for group in groups]
        assert groups[1].merged(shares) == items


def test_what_is_dealt_on_from_part_to_part_differs_by_one_item_at_most() -> None:
    parts = [list(range(10 * number, 10 * number + count)) for number, count in enumerate((5, 1, 0, 7, 4))]
    dealt = [Group(Place(rank, 3)).dealt(parts) for rank in range(3)]
    for part, *shares in zip(parts, *dealt, strict=True):
        assert sorted(itertools.chain(*shares)) == part
    counts = [sum(map(len, shares)) for shares in dealt]
    assert max(counts) - min(counts) <= 1
    assert Group().dealt(parts) == parts


def test_one_process_gives_way_to_its_own_signal() -> None:
    group = Group()
    group.agree()
    group.pause()
    with StopFlag() as stop:
        group.stop = stop
        group.agree()
        os.kill(os.getpid(), signal.SIGTERM)
        for look in (group.agree, group.pause):
            with pytest.raises(Stopping) as raised:
                look()
            assert raised.value.signum == signal.SIGTERM


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, Place(0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Place(3, 4, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, Place(0, 1, 0)),
        ({"WORLD_SIZE": "8"}, Place(0, 1, 0)),
    ],
)
def test_the_place_is_that_of_the_environment(
    variables: dict[str, str], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in torchrun.NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert torchrun.place() == place


@pytest.mark.parametrize("values", ["x 2 0", "2 2 0", "-1 2 0", "0 2 1", "1 2 x"])
def test_a_place_that_cannot_be_is_refused(values: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(torchrun.NAMES, values.split(), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="no place among several processes"):
        torchrun.place()
