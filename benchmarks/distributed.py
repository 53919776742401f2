r"""Time two processes that train one Transformer together against two that train one each, and against one alone.

    unshare --net sh -c 'ip link set lo up && exec "$@"' sh \
        python benchmarks/distributed.py --src train.en.gz --tgt train.de.gz [--rounds 5] [--steps 8]

Each process has one thread. Transformer-Tiny trains on the two files, which may be any parallel text: in fp32 with
Adam, and as the preset for Multi30k does, in bfloat16 with Muon. The pair that trains together, the pair that trains
apart, side by side, and one alone take turns, so that a machine that slows down slows them all. So does a pair that
trains apart, whole steps, and waits for one another after each: what that loses, it loses to the machine, whose
processors are not equally fast at every moment. A row gives the median of target words a second of all its processes,
and its median ratio to the pair apart, round by round; then the share of time that the pair spends in adding up, its
waiting for one another included.

The paper's base model takes one step of fewer words (``--base-tokens``), to time the addition of its gradient. What
follows for 8 and for 64 GPUs is worked out on paper, from the bytes that a ring moves and from the rates below.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import IO, Any, cast

import gpu
import torch
import transformer

from mlpx.experiments.transformer.experiment import Translation
from mlpx.training import distributed
from mlpx.training.distributed import Group

CPU = torch.device("cpu")
TINY: dict[str, dict[str, Any]] = {
    "tiny": {"batch_tokens": 4096},
    "preset": {"batch_tokens": 4096, "optimizer": "muon", "precision": "bf16"},
}
# For the projection: bytes a second that a GPU sends, within a machine of 8 by NVLink 4, and between machines by one
# network card of 400 Gbit/s for each GPU; and the arithmetic of a step on a GPU.
NVLINK, NETWORK = 450e9, 50e9
FLOP = (100e12, 400e12)
BASE_STEP_WORDS = 25_000


class Timed:
    """The seconds that a group spends in adding up and agreeing."""

    def __init__(self, group: Group) -> None:
        self.seconds = 0.0
        for name in ("sum_", "agree"):
            setattr(group, name, self._timed(getattr(group, name)))

    def _timed(self, work: Any) -> Any:
        def timed(*arguments: Any) -> None:
            began = time.perf_counter()
            work(*arguments)
            self.seconds += time.perf_counter() - began

        return timed


def work(files: Sequence[str], base_tokens: int) -> None:
    """Take steps as standard input asks for them, in a process of a pair or in one of its own."""
    with distributed.joined() as group:
        timed = Timed(group)
        built: dict[tuple[str, bool], tuple[Translation, Iterator[int]]] = {}
        for line in sys.stdin:
            request = json.loads(line)
            which = request["model"], request["shared"]
            if which not in built:
                built[which] = _built(which[0], files, base_tokens, group if which[1] else Group())
            experiment, words = built[which]
            timed.seconds, began = 0.0, time.perf_counter()
            count = 0
            for _ in range(request["steps"]):
                count += next(words)
                group.agree()
            seconds = time.perf_counter() - began
            size = sum(parameter.numel() for parameter in experiment.model.parameters())
            answer = {"words": count, "seconds": seconds, "adding": timed.seconds, "weights": size}
            print(json.dumps(answer), flush=True)


def _built(name: str, files: Sequence[str], base_tokens: int, group: Group) -> tuple[Translation, Iterator[int]]:
    if name in TINY:
        experiment = transformer.translation(files, CPU, **TINY[name])
    else:
        experiment = gpu.translation(
            gpu.Place(CPU, quick=True), gpu.BASE_WORDS, **{**gpu.BASE, "batch_tokens": base_tokens}
        )
    experiment.group = group
    steps = transformer.mlpx(experiment)

    def each() -> Iterator[int]:
        while True:
            yield steps(1)

    return experiment, each()


class Worker:
    """A process that takes steps."""

    def __init__(self, arguments: Sequence[str], **variables: str) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
        command = [sys.executable, os.path.abspath(__file__), "--work", *arguments]
        self._process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, model: str, steps: int, shared: bool) -> None:
        """Let it take steps, ``shared`` with the other process of its pair, or whole ones of its own."""
        print(json.dumps({"model": model, "steps": steps, "shared": shared}), file=self._process.stdin, flush=True)

    def answer(self) -> dict[str, float]:
        """What it measured."""
        found: dict[str, float] = json.loads(cast(IO[str], self._process.stdout).readline())
        return found

    def end(self) -> None:
        """Let it end."""
        self._process.communicate()

    def kill(self) -> None:
        """Kill it, if it still runs."""
        self._process.kill()


def measure(workers: Sequence[Worker], model: str, steps: int, shared: bool = True) -> list[dict[str, float]]:
    """What each of them measured, at the same time."""
    for worker in workers:
        worker.ask(model, steps, shared)
    return [worker.answer() for worker in workers]


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def compare(model: str, together: Sequence[Worker], apart: Sequence[Worker], rounds: int, steps: int) -> None:
    """Print the table of a Transformer-Tiny."""
    speeds: dict[str, list[float]] = {
        "two processes, one training": [],
        "two trainings, side by side": [],
        "the same, waiting for one another": [],
        "one process": [],
    }
    shares = []
    for counted in range(-1, rounds):
        pair = measure(together, model, steps)
        each = measure(apart, model, steps)
        waiting = measure(together, model, steps, shared=False)
        alone = measure(apart[:1], model, steps)
        if counted >= 0:
            # Each of the pair counts the words of whole steps.
            found = (
                pair[0]["words"] / max(part["seconds"] for part in pair),
                sum(part["words"] / part["seconds"] for part in each),
                sum(part["words"] / part["seconds"] for part in waiting),
                alone[0]["words"] / alone[0]["seconds"],
            )
            for values, value in zip(speeds.values(), found, strict=True):
                values.append(value)
            shares.append(statistics.mean(part["adding"] / part["seconds"] for part in pair))
    sides = speeds["two trainings, side by side"]
    how = ", ".join(f"{name} {value}" for name, value in TINY[model].items())
    print(f"\nTransformer-Tiny, {how}: medians of {rounds} rounds of {steps} steps, a thread a process\n")
    print("| | target words/s | of two side by side |\n| --- | ---: | ---: |")
    for name, values in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(values, sides, strict=True))
        print(f"| {name} | {statistics.median(values):,.0f} | {ratio:.2f} |")
    gain = statistics.median(
        a / b for a, b in zip(speeds["two processes, one training"], speeds["one process"], strict=True)
    )
    print(f"\ngain over one process: {gain:.2f}; of its time, {statistics.median(shares):.1%} goes into adding up")


def project(pair: Sequence[dict[str, float]]) -> None:
    """Print what the base model's steps say, and what they would say of GPUs."""
    step = pair[0]
    size = step["weights"] * 4
    print(
        f"\nbase model, {step['weights'] / 1e6:.1f} M weights, {size / 2**20:.0f} MiB of gradient: a step of "
        f"{step['words']:,.0f} target words takes {step['seconds']:.1f} s, {step['adding']:.2f} s of them adding up "
        f"({step['adding'] / step['seconds']:.1%})"
    )
    compute = (step["seconds"] - step["adding"]) * BASE_STEP_WORDS / step["words"]
    share = step["adding"] / (compute + step["adding"])
    print(f"at {BASE_STEP_WORDS:,} words a step, as in its config, that would be {share:.1%}")
    print(
        "\non paper, never measured: a ring sends 2 (G - 1) / G of the gradient, and nothing else goes on meanwhile\n"
    )
    print("| GPUs | bytes sent by each | seconds of adding | of a step at 100 TFLOP/s | at 400 |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    # A pair of words costs six operations a weight, of which the embedding's count once.
    arithmetic = 6 * step["weights"] * BASE_STEP_WORDS
    for number, rate in ((8, NVLINK), (64, NETWORK)):
        sent = 2 * (number - 1) / number * size
        adding = sent / rate
        shares = " | ".join(f"{adding / (adding + arithmetic / number / flop):.0%}" for flop in FLOP)
        print(f"| {number} | {sent / 2**20:.0f} MiB | {adding * 1e3:.1f} ms | {shares} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--src", required=True)
    parser.add_argument("--tgt", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--base-tokens", type=int, default=2048)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work((options.src, options.tgt), options.base_tokens)
        return
    words = ["--src", options.src, "--tgt", options.tgt, "--base-tokens", str(options.base_tokens)]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    with ExitStack() as stack:
        together = [Worker(words, RANK=str(rank), LOCAL_RANK=str(rank), **meeting) for rank in range(2)]
        apart = [Worker(words) for _ in range(2)]
        for worker in (*together, *apart):
            stack.callback(worker.kill)
        for model in TINY:
            compare(model, together, apart, options.rounds, options.steps)
        measure(together, "base", 1)
        project(measure(together, "base", 1))
        for worker in (*together, *apart):
            worker.end()


if __name__ == "__main__":
    main()
