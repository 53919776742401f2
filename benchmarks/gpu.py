"""Check on a GPU what was built without one, and time it: one command, less than ten minutes.

    pip install -e . --no-deps
    pip install pydantic typer rich tomli-w safetensors plotille sacrebleu sentencepiece pytest pillow matplotlib
    python benchmarks/gpu.py [--device cuda] [--quick] [--only PATTERN]

It needs no data and, once installed, no network. Each section prints its figures, and beside each what was expected;
a section that fails says so, and the next one goes on. Exits 1 if a section failed, or a figure is not as expected.
``--quick`` takes small sizes; with ``--device cpu --quick`` the script itself is tried in a minute where no GPU is.

What is expected of a time is a ratio to another one of the same section, so it holds for any GPU that is otherwise
idle. The first step of a section, which sets libraries up, is never timed.
"""

import argparse
import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
import unittest.mock
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

ROOT = Path(__file__).resolve().parent.parent
# Without it, cuBLAS may choose other ways to compute the same product.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import operations  # noqa: E402

from mlpx.experiments.mlp.experiment import Classification  # noqa: E402
from mlpx.experiments.mlp.settings import MlpSettings  # noqa: E402
from mlpx.experiments.transformer import model, smoothing, tasks  # noqa: E402
from mlpx.experiments.transformer.experiment import Translation  # noqa: E402
from mlpx.experiments.transformer.settings import TransformerSettings  # noqa: E402
from mlpx.training import devices  # noqa: E402
from mlpx.training.experiment import AnyExperiment  # noqa: E402

BEST = tomllib.loads((ROOT / "configs" / "mlp-best.toml").read_text())
TINY = {"num_layers": 4, "d_model": 128, "num_heads": 4, "d_ff": 256, "batch_tokens": 4096, "optimizer": "muon"}
BASE = {"num_layers": 6, "d_model": 512, "num_heads": 8, "d_ff": 2048, "batch_tokens": 25_000, "optimizer": "adam"}
COMMON = {"norm": "post", "dropout": 0.1, "label_smoothing": 0.1, "batch_size": 10**6, "precision": "bf16"}
TINY_WORDS, BASE_WORDS = 10_000, 37_000
LENGTHS = (10, 42)  # of synthetic sentences, which thus have 26 words on average, as those of WMT have
SLICES = (2_500_000, 30_000_000, 300_000_000)  # logits
TESTS_SECONDS, RUN_SECONDS = 240, 90  # that a process may take


class Place(NamedTuple):
    """Where and how large."""

    device: torch.device
    quick: bool

    @property
    def is_cuda(self) -> bool:
        """Whether there is a GPU to be measured; a CPU only shows that the script works."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Wait until all that was launched is done."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object], times: int) -> float:
        """Seconds that ``work`` takes, by ``times`` calls after one that is not counted."""
        work()
        self.wait()
        began = time.perf_counter()
        for _ in range(times):
            work()
        self.wait()
        return (time.perf_counter() - began) / times

    def peak(self) -> float:
        """MiB that tensors took at most since the last call; 0 on a CPU."""
        if not self.is_cuda:
            return 0.0
        peak = torch.cuda.max_memory_allocated(self.device) / 2**20
        torch.cuda.reset_peak_memory_stats(self.device)
        return peak


class Row(NamedTuple):
    """A figure: what it is, the figure itself, what was expected, and whether it is so."""

    name: str
    figure: str
    expected: str = ""
    is_so: bool = True


Rows = Iterator[Row]


def classification(place: Place, **changes: Any) -> Classification:
    """The perceptron on glyphs, which need no download."""
    settings = {"dataset": "glyphs", "num_train": 2000 if place.quick else 60_000, **changes}
    return Classification(MlpSettings.model_validate(settings), place.device)


def best(place: Place, **changes: Any) -> Classification:
    """That of ``configs/mlp-best.toml``."""
    return classification(place, **{name: value for name, value in BEST.items() if name != "experiment"}, **changes)


def translation(place: Place, words: int, **changes: Any) -> Translation:
    """A Transformer with a vocabulary of ``words``, on synthetic sentences of which it is to learn nothing."""

    class Synthetic(Translation):
        @classmethod
        def new_model(cls, settings: TransformerSettings, vocab_size: int, device: torch.device) -> model.Transformer:
            return model.untrained(settings, words, device)

    num_train = 2000 if place.quick else 100_000
    with unittest.mock.patch.object(tasks, "LENGTHS", LENGTHS):
        settings = TransformerSettings.model_validate({"task": "reverse", "num_train": num_train, **COMMON, **changes})
        return Synthetic(settings, place.device)


def tiny(place: Place, **changes: Any) -> Translation:
    """Transformer-Tiny; where all is to be quick, one that is smaller still."""
    small = {"num_layers": 1, "batch_tokens": 1000} if place.quick else {}
    return translation(place, 1000 if place.quick else TINY_WORDS, **{**TINY, **small, **changes})


def base(place: Place) -> Translation:
    """The base model of the paper, with its vocabulary."""
    small = {"num_layers": 1, "d_model": 64, "num_heads": 4, "d_ff": 128, "batch_tokens": 1000} if place.quick else {}
    return translation(place, 2000 if place.quick else BASE_WORDS, **{**BASE, **small})


def endless(experiment: AnyExperiment) -> Iterator[int]:
    """Steps of one epoch after the other."""
    for epoch in range(1, 10**6):
        yield from experiment.train(epoch, 0)


def step_seconds(place: Place, experiment: AnyExperiment, steps: int) -> float:
    """Seconds of a step, after as many that are not counted."""
    training = endless(experiment)
    for _ in range(steps):
        next(training)
    return place.seconds(lambda: next(training), steps)


def digest(experiment: AnyExperiment) -> str:
    """What the state is, to the last bit."""
    parts = (part for part in experiment.state().values() if isinstance(part, Tensor))
    return hashlib.sha256(b"".join(part.cpu().contiguous().numpy().tobytes() for part in parts)).hexdigest()


def tests(place: Place) -> Rows:
    """The tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "cuda", str(ROOT / "tests")]
    if not place.is_cuda:
        yield Row("tests", "not run", "only on a GPU")
        return
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TESTS_SECONDS)
    print(done.stdout[-3000:] if done.returncode else "", end="")
    last = (done.stdout.strip().splitlines() or ["nothing was printed"])[-1]
    yield Row("tests marked cuda", last, "none fails or skips", done.returncode == 0 and "skipped" not in last)


def graphs(place: Place) -> Rows:
    """A step that is recorded, against the plain one: what it computes, and how long it takes."""
    steps = 5 if place.quick else 200
    for name, build in (("mlp", classification), ("mlp-best", best)):
        recorded, plain = build(place), build(place)
        plain._uses_graphs = False
        for experiment in (recorded, plain):
            for _ in experiment.train(1, 0):
                pass
        losses = [float(experiment.evaluate()["train_loss"][0]) for experiment in (recorded, plain)]
        difference = abs(losses[0] / losses[1] - 1)
        yield Row(
            f"{name}: train loss, recorded and plain", f"{losses[0]:.5f}, {losses[1]:.5f}", "to 1 %", difference < 0.01
        )
        fast, slow = (step_seconds(place, experiment, steps) for experiment in (recorded, plain))
        figure = f"{fast * 1e6:.0f} us, {slow * 1e6:.0f} us, {slow / fast:.1f} times as fast"
        yield Row(f"{name}: a step, recorded and plain", figure, "faster", fast < slow or not place.is_cuda)


def ten_epochs(place: Place) -> Rows:
    """Ten epochs of the textbook's perceptron, each with its figures."""
    for precision in ("fp32", "bf16"):
        experiment = classification(place, precision=precision)

        def epoch(experiment: Classification = experiment) -> object:
            for _ in experiment.train(1, 0):
                pass
            return experiment.evaluate()

        seconds = 10 * place.seconds(epoch, 2 if place.quick else 10)
        yield Row(f"mlp, 10 epochs, {precision}", f"{seconds:.3f} s", "under 1 s", seconds < 1 or not place.is_cuda)


def slices(place: Place) -> Rows:
    """The Transformer's loss in slices of three sizes."""
    rows, width, words = (200, 32, 2000) if place.quick else (25_000, 512, BASE_WORDS)
    hidden = torch.randn(rows, width, device=place.device, requires_grad=True)
    weight = torch.randn(words, width, device=place.device, requires_grad=True)
    targets = torch.randint(words, (rows,), device=place.device)

    def work() -> None:
        smoothed, _ = smoothing.smoothed_loss(hidden, weight, targets, 0.1, torch.bfloat16)
        smoothed.backward()

    times = {}
    for size in SLICES:
        with slices_of(size // (100 if place.quick else 1)):
            place.peak()
            times[size] = place.seconds(work, 2 if place.quick else 10)
            figure = f"{times[size] * 1e3:.1f} ms, {place.peak():,.0f} MiB at most"
        yield Row(f"loss of {rows:,} words, slices of {size:,} logits", figure)
    is_so = min(times, key=lambda size: times[size]) == SLICES[-1]
    yield Row(
        "the fastest slices", f"{min(times, key=lambda size: times[size]):,}", "the largest", is_so or not place.is_cuda
    )


@contextlib.contextmanager
def slices_of(size: int) -> Iterator[None]:
    """Compute ``size`` logits at once."""
    if hasattr(smoothing, "slice_of"):
        with unittest.mock.patch.object(smoothing, "slice_of", return_value=size):
            yield
    else:
        with unittest.mock.patch.object(smoothing, "SLICE", size):
            yield


def cudnn(place: Place) -> Rows:
    """Attention on ever new shapes, with cuDNN's kernel and without it."""
    counts = {}
    is_chosen_out = not torch.backends.cuda.cudnn_sdp_enabled()
    yield Row(
        "cuDNN's attention where a device is chosen",
        "out" if is_chosen_out else "in",
        "out",
        is_chosen_out or not place.is_cuda,
    )
    for name, enabled, first in (("in", True, 8), ("out", False, 40)):
        torch.backends.cuda.enable_cudnn_sdp(enabled)
        shapes = iter(range(first, first + 30))

        def work(shapes: Iterator[int] = shapes) -> None:
            length = next(shapes)
            q, k, v = torch.randn(3, 16, 4, length, 32, device=place.device, dtype=torch.bfloat16, requires_grad=True)
            bias = torch.zeros(16, 1, 1, length, device=place.device, dtype=torch.bfloat16)
            functional.scaled_dot_product_attention(q, k, v, attn_mask=bias).sum().backward()

        counts[name] = place.seconds(work, 3 if place.quick else 20)
    torch.backends.cuda.enable_cudnn_sdp(not place.is_cuda)
    figure = f"{counts['in'] * 1e3:.1f} ms, {counts['out'] * 1e3:.1f} ms"
    yield Row(
        "a new shape, cuDNN in and out",
        figure,
        "out is no slower",
        counts["out"] < 1.5 * counts["in"] or not place.is_cuda,
    )


def kernels(place: Place) -> Rows:
    """The kernels of a step as the profiler sees them, against the operations that are counted without a GPU."""
    for name, build in (("mlp", classification), ("mlp-best", best), ("tiny", tiny), ("base", base)):
        experiment: Any = build(place)
        experiment._uses_graphs = False
        counted = operations.of_steps(experiment, device=place.device.type)
        yield Row(
            f"{name}: what waits in a step",
            ", ".join(sorted(set(counted.waits))) or "nothing",
            "nothing",
            not counted.waits,
        )
        if not place.is_cuda:
            yield Row(f"{name}: operations of a step", f"{counted.total:,}")
            continue
        training, steps = endless(experiment), 3
        next(training)
        place.wait()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            for _ in range(steps):
                next(training)
            place.wait()
        launched = sum(event.device_type.name == "CUDA" for event in profile.events() or ()) / steps
        is_near = launched < 1.6 * counted.total + 10
        yield Row(
            f"{name}: kernels, operations of a step",
            f"{launched:,.0f}, {counted.total:,}",
            "1.6 times at most",
            is_near,
        )


def same_bits(place: Place) -> Rows:
    """Whether a training gives the same bits twice, as it is and with deterministic algorithms."""
    steps = 3 if place.quick else 20
    for name, build in (("mlp", classification), ("mlp-best", best), ("tiny", tiny)):
        for deterministic in (False, True):
            torch.use_deterministic_algorithms(deterministic)
            try:
                digests = set()
                for _ in range(2):
                    experiment = build(place)
                    training = endless(experiment)
                    for _ in range(steps):
                        next(training)
                    digests.add(digest(experiment))
            except RuntimeError as error:
                # PyTorch says which operation has no deterministic algorithm.
                digests |= {"", str(error)}
                print(error)
            finally:
                torch.use_deterministic_algorithms(False)
            how = "deterministic algorithms" if deterministic else "as it is"
            figure = "the same bits" if len(digests) == 1 else "differs"
            yield Row(f"{name}, {how}, {steps} steps twice", figure, "the same bits", len(digests) == 1)


def resumed(place: Place) -> Rows:
    """Whether a run that was killed and resumed ends with the bits of one that was not."""
    small = "--task reverse --num-layers 1 --d-model 32 --d-ff 64 --num-train 2000 --batch-tokens 500 --epochs 2"
    for words in (
        "mlp --dataset glyphs --num-train 5000 --epochs 4 --momentum 0.9 --dropout 0.1 --schedule linear",
        f"transformer {small} --dropout 0.1 --precision bf16",
    ):
        with tempfile.TemporaryDirectory() as folder:
            contents = []
            for is_killed in (False, True):
                runs = Path(folder) / str(is_killed)
                command = [*words.split(), "--runs-dir", str(runs), "--quiet", "--device", str(place.device)]
                process = subprocess.Popen(
                    [sys.executable, "-m", "mlpx", *command, "--checkpoint-every", "0"],
                    cwd=ROOT,
                    stdout=subprocess.DEVNULL,
                )
                deadline = time.monotonic() + RUN_SECONDS
                if is_killed:
                    while not list(runs.glob("[0-9]*/checkpoints/epoch0000000001*.pt")) and time.monotonic() < deadline:
                        time.sleep(0.01)
                    process.kill()
                process.wait(timeout=RUN_SECONDS)
                (run,) = runs.glob("[0-9]*")
                if is_killed:
                    resume = [
                        sys.executable,
                        "-m",
                        "mlpx",
                        "resume",
                        str(run),
                        "--quiet",
                        "--device",
                        str(place.device),
                    ]
                    subprocess.run(resume, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=RUN_SECONDS)
                contents.append((run / "weights.safetensors").read_bytes())
        is_same = contents[0] == contents[1]
        yield Row(
            f"{words.split()[0]}, killed and resumed",
            "the same bits" if is_same else "differs",
            "the same bits",
            is_same,
        )


def speed(place: Place) -> Rows:
    """Target words a second, memory, and the share of what a large product reaches."""
    side = 512 if place.quick else 8192
    left, right = torch.randn(2, side, side, device=place.device, dtype=torch.bfloat16)
    product = 2 * side**3 / place.seconds(lambda: left @ right, 10) / 1e12
    yield Row(f"a product of {side}³, bf16", f"{product:.1f} TFLOP/s")
    for name, build in (("Transformer-Tiny", tiny), ("base, 37,000 words", base)):
        place.peak()
        experiment = build(place)
        seconds = step_seconds(place, experiment, 2 if place.quick else 20)
        words = experiment.settings.num_train * (sum(LENGTHS) / 2 + 1) / experiment.num_steps
        peak = place.peak()
        reached = words * operations_of_a_word(experiment) / seconds / 1e12
        figure = f"{words / seconds:,.0f} target words/s, {seconds * 1e3:.1f} ms a step, {peak:,.0f} MiB at most"
        yield Row(name, figure, "under 40 GiB", peak < 40 * 1024)
        yield Row(f"{name}, arithmetic", f"{reached:.1f} TFLOP/s, {reached / product:.1%} of the large product's")


def operations_of_a_word(experiment: Translation) -> float:
    """FLOP of a step for a pair of a source and a target word, attention's own products left out."""
    settings = experiment.settings
    d, f, layers = settings.d_model, settings.d_ff, settings.num_layers
    encoder, decoder = layers * (4 * d * d + 2 * d * f), layers * (6 * d * d + 2 * d * f)
    keys_and_values = layers * 2 * d * d
    # Two operations for each weight, forwards once, and backwards by the input and by the weight.
    return 6.0 * (encoder + decoder + keys_and_values + experiment.model.output_weight.numel())


SECTIONS: dict[str, Callable[[Place], Rows]] = {
    "tests": tests,
    "graphs": graphs,
    "ten epochs": ten_epochs,
    "slices": slices,
    "cudnn": cudnn,
    "kernels": kernels,
    "same bits": same_bits,
    "resumed": resumed,
    "speed": speed,
}
BUDGET = 540.0  # seconds after which no section begins


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="as of mlpx")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script itself")
    parser.add_argument("--only", type=re.compile, default=re.compile(""), metavar="PATTERN", help="sections")
    options = parser.parse_args()
    place = Place(devices.choose(options.device), options.quick)
    print(f"{torch.cuda.get_device_name(place.device) if place.is_cuda else 'CPU'}, torch {torch.__version__}\n")
    began, wrong = time.monotonic(), 0
    for name, section in SECTIONS.items():
        if not options.only.search(name):
            continue
        if time.monotonic() - began > BUDGET:
            print(f"DIFFERS  {name}: not run, since {BUDGET:.0f} s are over")
            wrong += 1
            continue
        start = time.monotonic()
        try:
            for row in section(place):
                wrong += not row.is_so
                expected = f" (expected: {row.expected})" if row.expected else ""
                print(f"{'ok     ' if row.is_so else 'DIFFERS'}  {row.name}: {row.figure}{expected}", flush=True)
        # A section that fails must not hide what the others find.
        except Exception as error:
            wrong += 1
            print(f"DIFFERS  {name}: failed: {type(error).__name__}: {str(error)[:500]}")
            traceback.print_exc(limit=-3)
        if place.is_cuda:
            torch.cuda.empty_cache()
        print(f"         {name}: {time.monotonic() - start:.1f} s\n", flush=True)
    print(f"{wrong} differ from what was expected" if wrong else "all as expected")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
