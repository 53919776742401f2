"""Time `mlpx mlp` against the textbook's way, scikit-learn, a plain PyTorch loop, and its matrix products alone.

    python benchmarks/mlp.py [--data-dir DIR] [--rounds 5] [--process-rounds 2]

All contestants train 784-256-10 on Fashion-MNIST (SGD, learning rate 0.1, batches of 256) and score the test set after
each epoch. They take turns, so a machine that slows down slows all of them down. The table shows the median of the
seconds over the rounds, and the medians of the ratios to mlpx and to the floor, each taken within a round. The floor is
a loop of nothing but the epoch's matrix products, on random numbers. The textbook's way is torchvision's data set,
ToTensor, and a DataLoader with four workers. A second table has steps of a large perceptron, with three hidden layers
of 1,024, beside the products of such steps, and the page faults of one. A third has whole processes of ten epochs, with
their peak memory.
scikit-learn is left out if it is not installed (`pip install mlpx[bench]`).
"""

import argparse
import gzip
import importlib
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from mlpx.experiments.mlp import images
from mlpx.experiments.mlp.experiment import Classification
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.training import devices

EPOCHS = 10
BATCH = 256
WORKERS = 4
LARGE, LARGE_STEPS = 1024, 10
Epoch = Callable[[], object]

# The peak memory of a process includes that of the process which forked it, so a small process starts it.
LAUNCHER = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def textbook(folder: Path) -> Epoch:
    """The training loop of the textbook's text; ``folder`` holds the unpacked files."""
    torchvision = images.import_torchvision()

    def loader(train: bool) -> "torch.utils.data.DataLoader[tuple[Tensor, Tensor]]":
        data = torchvision.datasets.FashionMNIST(folder, train=train, transform=torchvision.transforms.ToTensor())
        return torch.utils.data.DataLoader(data, BATCH, shuffle=train, num_workers=WORKERS)

    train, test = loader(True), loader(False)
    net = plain_net()
    criterion = nn.CrossEntropyLoss(reduction="none")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def epoch() -> float:
        loss_sum = right = 0.0
        for x, y in train:
            logits = net(x)
            losses = criterion(logits, y)
            optimizer.zero_grad()
            torch.autograd.backward(losses.mean())
            optimizer.step()
            loss_sum += float(losses.detach().sum())
            right += float((logits.argmax(1) == y).sum())
        with torch.no_grad():
            return sum(float((net(x).argmax(1) == y).sum()) for x, y in test)

    return epoch


def plain_net() -> nn.Sequential:
    """The textbook's network."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    for layer in (net[1], net[3]):
        nn.init.normal_(layer.get_parameter("weight"), std=0.01)
    return net


def plain_loop(train: images.Examples, test: images.Examples) -> Epoch:
    """Autograd and torch.optim over float tensors in memory."""
    x, y = train.images.float().div(255), train.labels.long()
    test_x, test_y = test.images.float().div(255), test.labels.long()
    net = plain_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def epoch() -> float:
        loss_sum = right = 0.0
        for rows in torch.randperm(len(y)).split(BATCH):
            logits = net(x[rows])
            loss = nn.functional.cross_entropy(logits, y[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            loss_sum += loss.item() * len(rows)
            right += float((logits.argmax(1) == y[rows]).sum())
        with torch.no_grad():
            return float((net(test_x).argmax(1) == test_y).sum())

    return epoch


def scikit_learn(train: images.Examples, test: images.Examples) -> Epoch:
    """MLPClassifier, an epoch at a time.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    # It has no types, so it is imported by its name.
    MLPClassifier = importlib.import_module("sklearn.neural_network").MLPClassifier  # noqa: N806
    x, y = (train.images.flatten(1).float() / 255).numpy(), train.labels.numpy()
    test_x, test_y = (test.images.flatten(1).float() / 255).numpy(), test.labels.numpy()
    model = MLPClassifier(
        (256,), solver="sgd", alpha=0, batch_size=BATCH, learning_rate_init=0.1, momentum=0, max_iter=1, warm_start=True
    )

    def epoch() -> float:
        with warnings.catch_warnings():
            # It warns that it has not converged after one epoch.
            warnings.simplefilter("ignore")
            model.fit(x, y)
        return float(model.score(test_x, test_y))

    return epoch


def mlpx(data_dir: str, precision: str, device: str = "cpu") -> Epoch:
    """An epoch of mlpx, with the metrics of its row."""
    settings = MlpSettings.model_validate({"data_dir": data_dir, "precision": precision})
    experiment = Classification(settings, torch.device(device))

    def epoch() -> object:
        for _ in experiment.train(1, 0):
            pass
        return experiment.evaluate()

    return epoch


def floor(count: int, test_count: int, dtype: torch.dtype) -> Epoch:
    """The matrix products of an epoch alone: forward and backward passes, then forward passes over the test set."""
    random = {shape: torch.rand(*shape, dtype=dtype) for shape in [(256, 784), (10, 256), (BATCH, 784), (BATCH, 256)]}
    first, second = random[256, 784], random[10, 256]
    x, hidden = random[BATCH, 784], random[BATCH, 256]
    upper = torch.rand(BATCH, 10, dtype=dtype)
    room = {(m, n): torch.empty(m, n, dtype=dtype) for m, n in [(BATCH, 256), (BATCH, 10), (10, 256), (256, 784)]}

    def epoch() -> None:
        for start in range(0, count, BATCH):
            n = min(BATCH, count - start)
            torch.mm(x[:n], first.t(), out=room[BATCH, 256][:n])
            torch.mm(hidden[:n], second.t(), out=room[BATCH, 10][:n])
            torch.mm(upper[:n].t(), hidden[:n], out=room[10, 256])
            torch.mm(upper[:n], second, out=room[BATCH, 256][:n])
            torch.mm(hidden[:n].t(), x[:n], out=room[256, 784])
        for start in range(0, test_count, BATCH):
            n = min(BATCH, test_count - start)
            torch.mm(x[:n], first.t(), out=room[BATCH, 256][:n])
            torch.mm(hidden[:n], second.t(), out=room[BATCH, 10][:n])

    return epoch


def large_step(data_dir: str) -> Epoch:
    """``LARGE_STEPS`` steps of mlpx with three hidden layers of 1,024."""
    settings = MlpSettings.model_validate({"data_dir": data_dir, "hidden": [LARGE] * 3})
    experiment = Classification(settings, torch.device("cpu"))

    def endless() -> Iterator[int]:
        for epoch in itertools.count(1):
            yield from experiment.train(epoch, 0)

    training = endless()
    return lambda: [next(training) for _ in range(LARGE_STEPS)]


def large_floor() -> Epoch:
    """The matrix products of as many such steps."""
    widths = (784, LARGE, LARGE, LARGE, 10)
    made = [
        (torch.rand(BATCH, inputs), torch.rand(outputs, inputs), torch.rand(BATCH, outputs))
        for inputs, outputs in itertools.pairwise(widths)
    ]
    room = [tuple(torch.empty_like(tensor) for tensor in tensors) for tensors in made]

    def steps() -> None:
        for _ in range(LARGE_STEPS):
            for layer, ((x, weight, gradient), (by_x, by_weight, out)) in enumerate(zip(made, room, strict=True)):
                torch.mm(x, weight.t(), out=out)
                torch.mm(gradient.t(), x, out=by_weight)
                if layer:
                    torch.mm(gradient, weight, out=by_x)

    return steps


def page_faults(steps: Epoch) -> float:
    """The page faults of one of ``LARGE_STEPS`` steps."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    steps()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / LARGE_STEPS


def compare_large(data_dir: str, rounds: int) -> None:
    """Print the table of a step of a large perceptron."""
    steps = {"mlpx, 3 × 1,024": large_step(data_dir), "its products alone": large_floor()}
    seconds = timed(steps, rounds)
    print(f"\n{LARGE_STEPS} steps, medians of {rounds} rounds\n")
    compare(seconds, {"against its products": "its products alone"})
    print(f"\npage faults of a step: {page_faults(steps['mlpx, 3 × 1,024']):.0f}")


def timed(work: dict[str, Epoch], rounds: int) -> dict[str, list[float]]:
    """The seconds of each, by round; the first round, which fills caches and starts threads, is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for counted in range(-1, rounds):
        for name, epoch in work.items():
            taken = seconds_of(epoch)
            if counted >= 0:
                seconds[name].append(taken)
    return seconds


def on_cuda(data_dir: str) -> None:
    """Print the seconds of ten epochs of mlpx on the GPU, after a first epoch that is not counted."""
    for precision in ("fp32", "bf16"):
        epoch = mlpx(data_dir, precision, "cuda")
        epoch()
        # An epoch ends by reading its metrics, so it waits for the GPU.
        seconds = sum(seconds_of(epoch) for _ in range(EPOCHS))
        name = torch.cuda.get_device_name()
        print(f"{name}: {EPOCHS} epochs, {precision}, in {seconds:.3f} s after start-up\n")


def seconds_of(epoch: Epoch) -> float:
    """Seconds of one epoch."""
    began = time.perf_counter()
    epoch()
    return time.perf_counter() - began


def process(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (MiB) of a whole process."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", LAUNCHER, sys.executable, *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    seconds, kib = map(float, done.stdout.split())
    return seconds, kib / 1024


def unpack(raw: Path, folder: Path) -> None:
    """Put the data set's files where torchvision looks for them, unpacked."""
    target = folder / "FashionMNIST" / "raw"
    target.mkdir(parents=True)
    for part in images.PARTS:
        plain = raw / part
        content = plain.read_bytes() if plain.exists() else gzip.decompress((raw / f"{part}.gz").read_bytes())
        (target / part).write_bytes(content)


def compare(rows: dict[str, list[float]], against: dict[str, str]) -> None:
    """Print a table with the median of each row, and with its median ratios to other rows.

    Args:
        rows: The seconds of each round, by the row's name.
        against: The name of the row that a column of ratios compares with, by the column's heading.
    """
    print(f"| {'':<28} | seconds | " + " | ".join(against) + " |")
    print(f"| {'-' * 28} | ------: | " + " | ".join("-" * (len(head) - 1) + ":" for head in against) + " |")
    for name, times in rows.items():
        ratios = {
            head: statistics.median(a / b for a, b in zip(times, rows[other], strict=True))
            for head, other in against.items()
        }
        cells = " | ".join(f"{ratio:{len(head)}.2f}" for head, ratio in ratios.items())
        print(f"| {name:<28} | {statistics.median(times):7.3f} | {cells} |")


def compare_processes(unpacked: str, data_dir: str, rounds: int) -> None:
    """Print the table of whole processes; ``unpacked`` is the folder of the textbook's files."""
    own = ["-m", "mlpx", "mlp", *(["--data-dir", data_dir] if data_dir else [])]
    processes = {
        "textbook (no pictures)": [os.path.abspath(__file__), "--textbook", unpacked],
        "mlpx (four pictures)": own,
        "mlpx --precision bf16": [*own, "--precision", "bf16"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    memory: dict[str, float] = {}
    for _ in range(rounds):
        for name, arguments in processes.items():
            taken, memory[name] = process(arguments)
            seconds[name].append(taken)
    print(f"\nwhole processes of {EPOCHS} epochs, medians of {rounds} rounds\n")
    compare(seconds, {"against mlpx": "mlpx (four pictures)"})
    print("\npeak memory: " + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in memory.items()))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="", help="as of mlpx mlp")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--process-rounds", type=int, default=2)
    parser.add_argument("--textbook", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.textbook:
        epoch = textbook(Path(options.textbook))
        for _ in range(EPOCHS):
            epoch()
        return

    data_dir = os.path.abspath(options.data_dir) if options.data_dir else ""
    raw = images.fetch("fashion-mnist", data_dir)
    train, test = images.load("fashion-mnist", data_dir)
    counts = len(train.labels), len(test.labels)
    # As the program does before it trains.
    devices.choose("cpu")
    if torch.cuda.is_available():
        on_cuda(data_dir)
    with tempfile.TemporaryDirectory() as unpacked:
        unpack(raw, Path(unpacked))
        epochs = {
            "textbook": textbook(Path(unpacked)),
            "plain loop, in memory": plain_loop(train, test),
            "mlpx": mlpx(data_dir, "fp32"),
            "mlpx --precision bf16": mlpx(data_dir, "bf16"),
            "floor: products alone, fp32": floor(*counts, torch.float32),
            "floor: products alone, bf16": floor(*counts, torch.bfloat16),
        }
        try:
            epochs["scikit-learn"] = scikit_learn(train, test)
        except ImportError:
            print("scikit-learn is not installed: left out")
        seconds = timed(epochs, options.rounds)
        print(f"an epoch, medians of {options.rounds} rounds, {torch.get_num_threads()} threads\n")
        compare(seconds, {"against mlpx": "mlpx", "against the floor": "floor: products alone, fp32"})
        compare_large(data_dir, options.rounds)
        compare_processes(unpacked, data_dir, options.process_rounds)


if __name__ == "__main__":
    main()
