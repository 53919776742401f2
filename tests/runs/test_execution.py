"""A run in this process, with faults that a whole program cannot be made to have."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from helpers import document_of

from mlpx.errors import InputError, MachineError, as_mlpx_error
from mlpx.experiments.poly import experiment as poly
from mlpx.experiments.poly.settings import PolySettings
from mlpx.runs import checkpoints, execution, folder
from mlpx.runs.events import End, Event, Notice
from mlpx.runs.execution import Execution
from mlpx.runs.folder import Run
from mlpx.runs.metrics import read_rows
from mlpx.runs.resuming import read_checkpoint, restore
from mlpx.training.experiment import Outcome, Rows, Values
from mlpx.training.loop import EpochRecord
from mlpx.training.signals import StopFlag

CPU = torch.device("cpu")
SETTINGS = PolySettings(epochs=60)
Prepared = tuple[Run, poly.Polynomials, Execution]


@pytest.fixture
def prepare(tmp_path: Path) -> Iterator[Callable[..., Prepared]]:
    runs = []

    def make(checkpoint_every: float = 0.0) -> Prepared:
        experiment = poly.Polynomials(SETTINGS, CPU)
        run = folder.create(tmp_path, SETTINGS, "x")
        runs.append(run)
        return (
            run,
            experiment,
            Execution(run, experiment, device=CPU, stop=StopFlag(), checkpoint_every=checkpoint_every),
        )

    yield make
    for run in runs:
        run.__exit__()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB."),
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with `TORCH_USE_CUDA_DSA`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failing_machine_leaves_the_last_checkpoint_and_no_further_call(
    prepare: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    run, experiment, execute = prepare()
    calls: list[str] = []

    evaluate = experiment.evaluate

    def evaluate_or_fail() -> dict[str, Values]:
        calls.append("evaluate")
        if len(calls) == 2:  # at epoch 20
            for name in ("state", "weights", "train"):
                monkeypatch.setattr(experiment, name, lambda *_: calls.append("touched"))
            raise error
        return evaluate()

    monkeypatch.setattr(experiment, "evaluate", evaluate_or_fail)
    with pytest.raises(type(error)):
        list(execute.events())
    known = as_mlpx_error(error)
    assert isinstance(known, MachineError)
    assert str(known).count("\n") == 0
    assert calls == ["evaluate", "evaluate"]
    assert (document_of(run.path)["status"], document_of(run.path)["exit_code"]) == ("failed", 6)
    assert document_of(run.path)["error"] == str(run.failure(error))
    assert str(known) == str(run.failure(error))
    assert not (run.path / "error.log").exists()
    checkpoint, broken = checkpoints.load_newest(run.checkpoints)
    assert checkpoint is not None
    assert checkpoint.point.position == (19, 10)
    assert broken == []


def test_a_picture_that_fails_costs_a_warning(
    prepare: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("no ink")

    run, experiment, execute = prepare()
    monkeypatch.setattr(experiment, "draw_losses", fail)
    events = list(execute.events())
    assert [event.text for event in events if isinstance(event, Notice)] == ["loss.png could not be drawn: no ink"]
    assert isinstance(events[-1], End)
    assert document_of(run.path)["status"] == "finished"
    assert document_of(run.path)["warnings"] == ["loss.png could not be drawn: no ink"]
    assert not (run.path / "loss.png").exists()
    assert (run.path / "fit.png").exists()


def test_a_long_run_draws_its_losses_again_at_checkpoints(
    prepare: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "REDRAW_SECONDS", 0.0)
    run, experiment, execute = prepare()
    drawn: list[Sequence[float]] = []

    def draw(rows: Rows) -> bytes:
        drawn.append(rows["epoch"])
        return b"png"

    monkeypatch.setattr(experiment, "draw_losses", draw)
    list(execute.events())
    assert drawn[-1] == [1, 20, 40, 60]
    assert [1, 20] in drawn
    assert (run.path / "loss.png").read_bytes() == b"png"


def test_a_run_killed_while_it_was_extended_goes_on(tmp_path: Path) -> None:
    """45 epochs, then to 90 but killed before any further checkpoint, then again: the rows of 90 epochs at once."""
    ended, extended = SETTINGS.model_copy(update={"epochs": 45}), SETTINGS.model_copy(update={"epochs": 90})
    with folder.create(tmp_path, ended, "x") as run:
        list(execute(run, ended))
        assert read_rows(run.path / "metrics.csv")["epoch"] == [1, 20, 40, 45]
        assert "verdict" in document_of(run.path)
        for _ in range(2):
            next(execute(run, extended))  # one step further, and no more
        assert "verdict" not in document_of(run.path)
        assert read_rows(run.path / "metrics.csv")["epoch"] == [1, 20, 40]
        list(execute(run, extended))
    with folder.create(tmp_path, extended, "y") as straight:
        list(execute(straight, extended))
    resumed, expected = (read_rows(path / "metrics.csv") for path in (run.path, straight.path))
    assert {**resumed, "seconds": []} == {**expected, "seconds": []}
    assert (run.path / "weights.csv").read_bytes() == (straight.path / "weights.csv").read_bytes()


def execute(run: Run, settings: PolySettings) -> Iterator[Event]:
    """The events of a run, started or resumed, that saves only at its end."""
    experiment = poly.Polynomials(settings, CPU)
    checkpoint, _ = read_checkpoint(run, settings)
    if checkpoint is not None:
        restore(experiment, checkpoint)
    execution = Execution(run, experiment, device=CPU, stop=StopFlag(), checkpoint_every=1e9, resume_from=checkpoint)
    yield from execution.events()


def test_when_a_row_arrives_the_model_is_as_it_stood_and_the_row_is_on_disk(
    prepare: Callable[..., Prepared],
) -> None:
    run, experiment, execute = prepare(checkpoint_every=1e9)
    seen = 0
    for event in execute.events():
        if isinstance(event, EpochRecord):
            seen += 1
            assert {name: [event.row[name]] for name in experiment.evaluate()} == experiment.evaluate()
            lines = (run.path / "metrics.csv").read_text().splitlines()
            assert len(lines) == 1 + seen
            assert lines[-1] == ",".join(map(str, event.row.values()))
            assert not torch.is_inference_mode_enabled()
            assert torch.is_grad_enabled()
    assert seen == 4


def test_a_state_that_does_not_fit_is_blamed_on_the_version_that_made_it(prepare: Callable[..., Prepared]) -> None:
    run, experiment, execute = prepare()
    list(execute.events())
    checkpoint, _ = read_checkpoint(run, SETTINGS)
    assert checkpoint is not None
    other = checkpoint._replace(state={"weights": torch.zeros(3)}, mlpx_version="0.1.0")
    with pytest.raises(InputError, match=r"mlpx 0\.1\.0 made it, and this is .*: its weight is missing.*that version"):
        restore(experiment, other)


def test_a_metric_that_has_a_row_alone_has_its_extremes_and_its_column_of_replicas_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"replicas": 3})
    outcome = poly.Polynomials.outcome

    def without_losses(experiment: poly.Polynomials, last: dict[str, float]) -> Outcome:
        whole = outcome(experiment, last)
        return dataclasses.replace(whole, metrics={"noise_floor": whole.metrics["noise_floor"]})

    monkeypatch.setattr(poly.Polynomials, "outcome", without_losses)
    with folder.create(tmp_path, settings, "x") as run:
        *_, end = execute(run, settings)
    assert isinstance(end, End)
    assert end.metrics["min_test_loss"] < end.metrics["test_loss"] < end.metrics["max_test_loss"]
    header = (run.path / "replicas.csv").read_text().splitlines()[0]
    assert header == "replica,seed,train_loss,test_loss,generalization_loss"


def test_why_a_run_failed_and_its_warnings_are_recorded_until_it_goes_on(
    prepare: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails while pictures fail too, each at every checkpoint; then the same run without faults."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("no ink")

    monkeypatch.setattr(execution, "REDRAW_SECONDS", 0.0)
    run, experiment, execute_ = prepare()
    with monkeypatch.context() as faults:
        faults.setattr(experiment, "draw_losses", fail)
        faults.setattr(experiment, "outcome", lambda _: (_ for _ in ()).throw(OSError(28, "No space left", "x.bin")))
        with pytest.raises(OSError, match="No space left"):
            list(execute_.events())
    document = document_of(run.path)
    remedy = f"Fix it, then go on with 'mlpx resume {run.path}'."
    assert document["error"] == f"x.bin: No space left. {remedy}"
    assert document["warnings"] == ["loss.png could not be drawn: no ink"]
    list(execute(run, SETTINGS))
    assert document_of(run.path)["status"] == "finished"
    assert not {"error", "warnings"} & document_of(run.path).keys()


def test_a_bug_is_recorded_in_the_words_that_are_printed(
    prepare: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("of\nmany lines " + "x" * 2000)

    run, experiment, execute_ = prepare()
    monkeypatch.setattr(experiment, "evaluate", fail)
    with pytest.raises(ValueError, match="many lines"):
        list(execute_.events())
    error = document_of(run.path)["error"]
    assert error.startswith("a bug in mlpx: ValueError: of\\nmany lines xxx")
    assert error.endswith(f"The traceback is in {run.path / 'error.log'}.")
    assert len(error) < 1000
    assert "many lines" in (run.path / "error.log").read_text()
