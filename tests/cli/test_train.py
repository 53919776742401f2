"""Carrying out a run, in this process."""

import signal

import pytest
import torch
from helpers import Program

from mlpx.cli import app
from mlpx.experiments.poly.experiment import Polynomials
from mlpx.settings.base import Settings


def test_a_signal_while_data_is_made_ends_a_resume_at_once(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    run = program("poly", "--epochs", "2", "--quiet").out.strip()
    handlers: list[object] = []
    make = Polynomials.__init__

    def spy(experiment: Polynomials, settings: Settings, device: torch.device) -> None:
        handlers.append(signal.getsignal(signal.SIGTERM))
        make(experiment, settings, device)  # type: ignore[arg-type]

    monkeypatch.setattr(Polynomials, "__init__", spy)
    assert app.run(["resume", run, "--epochs", "4", "--quiet"]) == 0
    assert handlers == [signal.SIG_DFL]


def test_a_run_leaves_the_number_of_threads_as_it_was(program: Program) -> None:
    run = program("poly", "--epochs", "2", "--quiet").out.strip()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert app.run(["resume", run, "--epochs", "4", "--quiet"]) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
