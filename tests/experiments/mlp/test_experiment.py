"""The experiment against a plain PyTorch loop, published figures, and itself when it was stopped."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import real_data
from torch import nn

from mlpx.errors import InputError
from mlpx.experiments.mlp import experiment as mlp
from mlpx.experiments.mlp import graphs, images, report
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.training.loop import EpochRecord, fit
from mlpx.training.randomness import orders

CPU = torch.device("cpu")

# Epoch 10 of the textbook's run, as bands.
BANDS = {"train_loss": (0.376, 0.392), "train_accuracy": (0.860, 0.868)}
TEST_BAND = (0.83, 0.87)


def trained(**changes: Any) -> tuple[mlp.Classification, dict[str, float]]:
    settings = MlpSettings(**changes)
    task = mlp.Classification(settings, CPU)
    records = [r for r in fit(task) if isinstance(r, EpochRecord)]
    return task, records[-1].row


def copied(task: mlp.Classification) -> dict[str, torch.Tensor]:
    """The tensors of the state as they are now."""
    return {name: part.clone() for name, part in task.state().items() if isinstance(part, torch.Tensor)}


def plain_epoch(task: mlp.Classification, train: images.Examples, test: images.Examples) -> dict[str, float]:
    """An epoch of the plain way, from the task's weights and in its order of batches."""
    settings = task.settings
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    net.load_state_dict({name: p for name, p in copied(task).items() if "." in name})
    optimizer = torch.optim.SGD(net.parameters(), lr=settings.lr)
    x, y = train.images.float() / 255, train.labels.long()
    loss_sum = right = 0.0
    for rows in orders(len(y), settings.seeds, 1)[0].split(settings.batch_size):
        losses = nn.functional.cross_entropy(net(x[rows]), y[rows], reduction="none")
        with torch.no_grad():
            loss_sum += float(losses.sum())
            right += float((net(x[rows]).argmax(1) == y[rows]).sum())
        optimizer.zero_grad()
        torch.autograd.backward(losses.mean())
        optimizer.step()
    with torch.no_grad():
        logits, labels = net(test.images.float() / 255), test.labels.long()
        test_loss = float(nn.functional.cross_entropy(logits, labels))
        test_accuracy = float((logits.argmax(1) == labels).float().mean())
    return {
        "train_loss": loss_sum / len(y),
        "train_accuracy": right / len(y),
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
    }


def assert_equals_plain_loop(settings: MlpSettings) -> None:
    task = mlp.Classification(settings, CPU)
    train, test = images.load(settings.dataset, settings.data_dir)
    expected = plain_epoch(task, train, test)
    for _ in task.train(1, 0):
        pass
    found = task.evaluate()
    print(f"\nplain loop: {expected}\nmlpx:       {found}")
    for name, value in expected.items():
        a_few_examples = 1e-3  # on the edge between two classes
        assert found[name] == [pytest.approx(value, abs=1e-4 if "loss" in name else a_few_examples)], name


def test_an_epoch_equals_a_plain_loop() -> None:
    assert_equals_plain_loop(MlpSettings(dataset="glyphs", seed=3))


@pytest.mark.real_data
def test_an_epoch_equals_a_plain_loop_on_fashion_mnist() -> None:
    assert_equals_plain_loop(MlpSettings(data_dir=real_data("FashionMNIST"), seed=3))


def assert_in_bands(seeds: range, precision: str) -> None:
    data_dir = real_data("FashionMNIST")
    runs = [trained(seed=s, data_dir=data_dir, precision=precision, eval_every=10)[1] for s in seeds]
    for seed, values in zip(seeds, runs, strict=True):
        print(f"{precision} seed {seed}: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
        for name, (low, high) in BANDS.items():
            assert low <= values[name] <= high, name
    mean = sum(values["test_accuracy"] for values in runs) / len(runs)
    print(f"{precision}: mean test accuracy {mean:.4f} of {len(runs)} seeds")
    assert TEST_BAND[0] <= mean <= TEST_BAND[1]


@pytest.mark.real_data
def test_a_run_agrees_with_the_textbook() -> None:
    print()
    assert_in_bands(range(1), "fp32")


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_ten_seeds_agree_with_the_textbook(precision: str) -> None:
    print()
    assert_in_bands(range(10), precision)


SMALL: dict[str, Any] = {"dataset": "glyphs", "num_train": 1000, "batch_size": 96, "hidden": [32, 16], "lr": 0.05}
RICH = {**SMALL, "momentum": 0.9, "dropout": 0.3, "weight_decay": 1e-3}


FULL = {
    **RICH,
    "batch_norm": True,
    "jitter": 2,
    "flip": True,
    "label_smoothing": 0.1,
    "schedule": "linear",
    "epochs": 2,
}


@pytest.mark.parametrize("changes", [SMALL, RICH, {**SMALL, "hidden": []}, FULL, {**FULL, "replicas": 3}])
@pytest.mark.parametrize("steps", [0, 4, 11])
def test_a_task_that_was_stopped_goes_on_to_the_same_bits(changes: dict[str, Any], steps: int) -> None:
    settings = MlpSettings(**changes)
    whole, first, second = (mlp.Classification(settings, CPU) for _ in range(3))
    for epoch in (1, 2):
        for _ in whole.train(epoch, 0):
            pass
    for _ in first.train(1, 0):
        pass
    for done in first.train(2, 0):
        if done >= steps:
            break
    second.load_state({**copied(first)})
    for _ in second.train(2, done):
        pass
    assert whole.evaluate() == second.evaluate()
    for name, tensor in copied(whole).items():
        assert torch.equal(tensor, copied(second)[name]), name


def final_scores(task: mlp.Classification) -> dict[str, list[float]]:
    """Loss and accuracy of the weights as they are."""
    metrics = task.outcome({}).metrics
    names = ("final_train_loss", "final_train_accuracy", "test_loss", "test_accuracy")
    return {name: metrics[name] for name in names}


@pytest.mark.parametrize("changes", [{"dataset": "glyphs", "num_train": 5000}, {**FULL, "num_train": 2000}])
def test_a_replica_equals_the_single_run_of_its_seed(changes: dict[str, Any]) -> None:
    changes = {**changes, "epochs": 1}
    together, _ = trained(**changes, seed=3, replicas=4)
    figures = {**together.evaluate(), **final_scores(together)}
    worst = 0.0
    for replica in range(4):
        alone, _ = trained(**changes, seed=3 + replica)
        for name, value in {**alone.evaluate(), **final_scores(alone)}.items():
            difference = abs(figures[name][replica] - value[0])
            worst = max(worst, difference)
            a_few_examples = 1e-3  # on the edge between two classes
            assert difference <= (1e-4 if "loss" in name else a_few_examples), name
    print(f"\nlargest difference to the single runs: {worst:.1e}")


def test_dropout_differs_by_seed_and_step_and_learns() -> None:
    _, values = trained(**{**RICH, "hidden": [64]}, epochs=30, eval_every=30)
    print(f"\ntest accuracy with dropout: {values['test_accuracy']:.4f}")
    assert values["test_accuracy"] > 0.6
    task = mlp.Classification(MlpSettings(**RICH), CPU)
    noises = []
    for epoch in (1, 2):
        for _ in task.train(epoch, 0):
            assert task._dropout_bits is not None
            noises.append(tuple(task._dropout_bits.flatten().tolist()))
    assert len(set(noises)) == len(noises) == 22


def test_fewer_examples_and_larger_batches_are_all_there_are() -> None:
    task = mlp.Classification(MlpSettings(dataset="glyphs", num_train=10**9, batch_size=10**9), CPU)
    assert list(task.train(1, 0)) == [1]
    few = mlp.Classification(MlpSettings(dataset="glyphs", num_train=100), CPU)
    train, _ = images.load("glyphs", "")
    assert torch.equal(few._train.pixels, train.images[:100].flatten(1))


def test_state_of_another_shape_is_refused_naming_both() -> None:
    task = mlp.Classification(MlpSettings(**SMALL), CPU)
    state = task.state() | {"1.weight": torch.zeros(3, 784)}
    with pytest.raises(InputError, match=r"its 1.weight is .*\(3, 784\), not float32 of shape \(32, 784\)"):
        task.load_state(state)
    with pytest.raises(InputError, match=r"its velocity\.0 is .*not missing"):
        task.load_state(task.state() | {"velocity.0": torch.zeros(32, 784)})


def test_wilson_interval_against_its_equation() -> None:
    """The bounds are the p at which the observed share lies 1.96 standard deviations away."""
    for share, count in ((0.85, 10_000), (0.0, 50), (1.0, 50), (0.5, 10)):
        low, high = report.wilson_interval(share, count)
        assert 0 <= low + 1e-15 <= share <= high <= 1 + 1e-15 or share in (0, 1)
        for p in (low, high):
            assert (share - p) ** 2 == pytest.approx(1.959964**2 * p * (1 - p) / count, abs=1e-15)


def test_scores_do_not_depend_on_how_the_set_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    task = mlp.Classification(MlpSettings(**SMALL), CPU)
    scores = final_scores(task)
    monkeypatch.setattr(mlp, "SCORED_AT_ONCE", 333)  # the last block is smaller
    for name, value in final_scores(task).items():
        assert value == pytest.approx(scores[name], rel=1e-6)


def test_all_that_a_step_changes_is_put_back_after_it_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording as on CUDA, but the graph is the step itself: the steps taken meanwhile must leave nothing behind."""

    def capture(step: graphs.Step, argument: torch.Tensor) -> Callable[[], None]:
        for _ in range(graphs.WARM_UPS):
            step(argument)
        return lambda: step(argument)

    monkeypatch.setattr(graphs, "capture", capture)
    recorded, plain = (mlp.Classification(MlpSettings(**RICH), CPU) for _ in range(2))
    recorded._uses_graphs = True  # as it does on CUDA
    for task in (recorded, plain):
        for _ in task.train(1, 0):
            pass
    assert len(recorded._graphs) == 2
    assert recorded.evaluate() == plain.evaluate()
    for name, tensor in copied(plain).items():
        assert torch.equal(copied(recorded)[name], tensor), name


@pytest.mark.cuda
def test_cuda_equals_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for changes in (SMALL, {**RICH, "dropout": 0.0}):
        settings = MlpSettings(**changes)
        tasks = [mlp.Classification(settings, device) for device in (CPU, torch.device("cuda"))]
        for task in tasks:
            for _ in task.train(1, 0):
                pass
        cpu, cuda = (task.evaluate() for task in tasks)
        for name, value in cpu.items():
            assert cuda[name] == pytest.approx(value, abs=1e-3), name


@pytest.mark.cuda
def test_the_recorded_step_equals_the_plain_one() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    settings = MlpSettings(**RICH)
    recorded, plain = (mlp.Classification(settings, torch.device("cuda")) for _ in range(2))
    plain._uses_graphs = False
    for task in (recorded, plain):
        for _ in task.train(1, 0):
            pass
    for name, tensor in copied(plain).items():
        torch.testing.assert_close(copied(recorded)[name], tensor)
