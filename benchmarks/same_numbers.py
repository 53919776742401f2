"""Train the same runs with two versions of mlpx, and compare their numbers bit for bit.

    python benchmarks/same_numbers.py OLD NEW [--only PATTERN] [--threads 1] [--jobs 1]

OLD and NEW are each the folder of a checkout, or a commit or branch of the repository that this script lies in, which
is then checked out into a temporary clone. For example, ``python benchmarks/same_numbers.py main .`` compares the
working tree in the current folder with the branch ``main``.

Each version runs as the real program, ``python -m mlpx``, with the interpreter that runs this script, on the CPU, with
``--threads`` threads (OMP_NUM_THREADS), a runs folder of its own and a cache folder of its own. Some runs of NEW are
stopped by a signal and resumed, or trained for fewer epochs and extended. They are compared with a run of OLD that was
never stopped. All that is read is made here, so nothing is downloaded. All runs together take a few minutes.

Two runs are equal if all of these are the same:

* ``metrics.csv`` as text, apart from the columns that a clock measures;
* ``weights.safetensors``: names, types, shapes, and each number bit for bit;
* in ``run.json``, the final metrics apart from those that a clock measures, the verdict, which weights were kept, and
  the signature of BLEU;
* ``weights.csv``, ``replicas.csv`` and ``translations.txt`` as text, where OLD or NEW has them.

Prints a line for each run: ``equal``, or what differs first and where. Exits 1 if a run differs.
"""

import argparse
import contextlib
import csv
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import deserialize

REPOSITORY = Path(__file__).resolve().parent.parent
LIMIT = 900  # seconds that a process may take
TEXTS = ("weights.csv", "replicas.csv", "translations.txt")
FACTS = ("verdict", "verdicts", "weights", "bleu_signature")  # of run.json, beside the metrics
TYPES = {"F32": np.float32, "F64": np.float64}

_MLP = "mlp --dataset glyphs --num-train 1000 --batch-size 96 --hidden 64"
_MLP_ALL = (
    f"{_MLP} --hidden 32 --epochs 4 --batch-norm --jitter 2 --flip --label-smoothing 0.1 --schedule linear "
    "--precision bf16 --momentum 0.9 --dropout 0.1"
)
_MODEL = "transformer --num-layers 2 --d-model 32 --d-ff 64 --batch-tokens 400 --warmup-steps 10 --lr 0.01"
_REVERSE = f"{_MODEL} --num-train 400"
_TEXT = f"{_MODEL} --task text --vocab-size 60 " + " ".join(
    f"--{part}-{side} {{corpus}}/{part}.{side}" for part in ("train", "val", "test") for side in ("src", "tgt")
)
RUNS = {
    "poly": "poly --degree 3",
    "poly, degree 19, weight decay": "poly --degree 19 --weight-decay 0.01 --epochs 300 --seed 7",
    "poly, 5 replicas, odd batches": "poly --degree 5 --replicas 5 --batch-size 7 --num-train 93 --epochs 250",
    "mlp": f"{_MLP} --epochs 3",
    "mlp, dropout, momentum": f"{_MLP} --hidden 32 --epochs 4 --dropout 0.3 --momentum 0.9 --lr 0.02",
    "mlp, weight decay, a row every 3 epochs": f"{_MLP} --epochs 5 --weight-decay 0.001 --eval-every 3 --seed 3",
    "mlp, all options": _MLP_ALL,
    "mlp, all options, 3 replicas": f"{_MLP_ALL} --replicas 3",
    "mlp, no hidden layer": "mlp --dataset glyphs --num-train 1000 --batch-size 96 --hidden none --epochs 3",
    "transformer": f"{_REVERSE} --epochs 3",
    "transformer, muon, both ways, average of 2": (
        f"{_REVERSE} --epochs 4 --optimizer muon --both-ways 2 --average-last 2 --dropout 0.1 --label-smoothing 0.1 "
        "--clip-norm 0.5 --weight-decay 0.01"
    ),
    "transformer, post-norm, bf16, beam 3": (
        f"{_REVERSE} --epochs 4 --norm post --schedule inverse-sqrt --precision bf16 --beam 3"
    ),
    "transformer, text": f"{_TEXT} --epochs 8 --beam 2 --tune-length-penalty",
    "transformer, text, muon, both ways": f"{_TEXT} --epochs 4 --optimizer muon --both-ways 2 --dropout 0.1",
}


class Case(NamedTuple):
    """How NEW makes one of ``RUNS``, which OLD makes undisturbed.

    Args:
        run: The name of the run.
        signum: The signal that stops it; it is then resumed. ``None`` lets it train on.
        epoch: It is stopped after this many epochs. Without a signal, it is trained for this many and then extended;
            0 leaves it undisturbed.
    """

    run: str
    signum: signal.Signals | None = None
    epoch: int = 0

    @property
    def title(self) -> str:
        """The run, and what is done to it."""
        if self.signum is not None:
            return f"{self.run}; {self.signum.name} after epoch {self.epoch}, resumed"
        return f"{self.run}; extended from epoch {self.epoch}" if self.epoch else self.run

    def train(self, version: "Version", corpus: Path) -> Path:
        """The finished run.

        Raises:
            RunFailed: A process did not end as it should.
        """
        words = command(self.run, corpus)
        if self.signum is None and self.epoch == 0:
            return version.train(words)
        if self.signum is not None:
            path = version.stopped(words, self.signum, self.epoch)
        else:
            path = version.train([*words, "--epochs", str(self.epoch)])
        version.call("resume", str(path), "--epochs", words[words.index("--epochs") + 1], "--quiet")
        return path


CASES = [
    *map(Case, RUNS),
    Case("poly, 5 replicas, odd batches", signal.SIGKILL, 100),
    Case("poly, degree 19, weight decay", signal.SIGTERM, 50),
    Case("poly, degree 19, weight decay", None, 110),
    Case("mlp, all options, 3 replicas", signal.SIGKILL, 1),
    Case("mlp, weight decay, a row every 3 epochs", signal.SIGTERM, 2),
    Case("mlp, weight decay, a row every 3 epochs", None, 4),
    Case("transformer, muon, both ways, average of 2", signal.SIGKILL, 2),
    Case("transformer, text", signal.SIGTERM, 3),
    Case("transformer, post-norm, bf16, beam 3", None, 2),
]


class RunFailed(Exception):
    """A process did not end as it should; the message says which, and how it ended."""


# A file that is missing or broken is a failure of the run that should have written it.
FAILURES = (RunFailed, subprocess.TimeoutExpired, OSError, ValueError, KeyError)


@dataclass(frozen=True)
class Version:
    """A version of mlpx that can be run.

    Args:
        name: What messages call it.
        source: The folder of its checkout.
        folder: Where it keeps its runs and its cache.
        threads: How many threads it computes with.
    """

    name: str
    source: Path
    folder: Path
    threads: int

    @property
    def environment(self) -> dict[str, str]:
        """The variables that its processes have."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLPX_", "OMP_", "PYTHON"))}
        own = {"PYTHONPATH": str(self.source), "XDG_CACHE_HOME": str(self.folder / "cache")}
        return {**kept, **own, "OMP_NUM_THREADS": str(self.threads), "CUDA_VISIBLE_DEVICES": ""}

    def require_source(self) -> None:
        """Exit unless its processes import mlpx from its checkout."""
        self.folder.mkdir(parents=True)
        code = "import mlpx; print(mlpx.__file__)"
        done = subprocess.run(
            [sys.executable, "-c", code], env=self.environment, cwd=self.folder, capture_output=True, text=True
        )
        imported = Path(done.stdout.strip())
        if done.returncode or not imported.is_relative_to(self.source):
            sys.exit(f"{self.name}: mlpx is imported from {imported}, not from {self.source}")

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, however it ends."""
        return subprocess.run(
            [sys.executable, "-m", "mlpx", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )

    def call(self, *arguments: str) -> str:
        """What a command prints.

        Raises:
            RunFailed: It did not exit with 0.
        """
        done = self.run(*arguments)
        if done.returncode:
            raise RunFailed(f"{self.name}: mlpx {arguments[0]} {ending(done.returncode, done.stderr)}")
        return done.stdout

    def train(self, words: Sequence[str]) -> Path:
        """The folder of a new run, which has finished.

        Raises:
            RunFailed: It has not finished.
        """
        runs = self._new_runs_folder()
        self.call(*words, "--runs-dir", str(runs), "--quiet")
        return run_in(runs)

    def stopped(self, words: Sequence[str], signum: signal.Signals, epoch: int) -> Path:
        """The folder of a new run that ``signum`` stopped when a checkpoint of ``epoch``, or of a later one, was there.

        Raises:
            RunFailed: It ended before it could be stopped.
        """
        runs = self._new_runs_folder()
        arguments = [*words, "--runs-dir", str(runs), "--quiet", "--checkpoint-every", "0"]
        process = subprocess.Popen(
            [sys.executable, "-m", "mlpx", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            deadline = time.monotonic() + LIMIT
            while process.poll() is None and last_epoch_saved(runs) < epoch and time.monotonic() < deadline:
                time.sleep(0.002)
            process.send_signal(signum)
            _, messages = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
        if process.returncode != -signum:
            how = ending(process.returncode, messages)
            raise RunFailed(f"{self.name}: mlpx {words[0]}, to be stopped by {signum.name}, {how}")
        return run_in(runs)

    def _new_runs_folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="runs-", dir=self.folder))


def ending(code: int, messages: str) -> str:
    """How a process ended, in words."""
    last = (messages.strip().splitlines() or ["nothing on standard error"])[-1]
    return f"was killed by signal {-code}" if code < 0 else f"exited with {code} ({last})"


def run_in(runs: Path) -> Path:
    """The one run in a runs folder."""
    (path,) = runs.glob("[0-9]*")
    return path


def last_epoch_saved(runs: Path) -> int:
    """The last epoch whose end a checkpoint in ``runs`` has; -1 where there is no checkpoint."""
    names = [path.name for path in runs.glob("[0-9]*/checkpoints/epoch*.pt")]
    return max((int(re.split(r"\D+", name)[1]) for name in names), default=-1)


def command(run: str, corpus: Path) -> list[str]:
    """The words of one of ``RUNS`` after ``mlpx``; ``corpus`` is the folder of the sentences."""
    return [word.format(corpus=corpus) for word in RUNS[run].split()]


def write_corpus(folder: Path) -> None:
    """Write a small parallel corpus, the same each time: the words of a sentence translated, in reversed order."""
    folder.mkdir()
    source = random.Random(0)  # noqa: S311
    syllables = [first + second for first in "bdgkmn" for second in "aio"]
    for part, count in {"train": 300, "val": 40, "test": 40}.items():
        sentences = [source.choices(syllables, k=source.randint(2, 7)) for _ in range(count)]
        translations = [[word[::-1].upper() for word in reversed(sentence)] for sentence in sentences]
        for side, lines in {"src": sentences, "tgt": translations}.items():
            (folder / f"{part}.{side}").write_text("".join(" ".join(line) + "\n" for line in lines))


def is_clocked(name: str) -> bool:
    """Whether a clock measures the metric."""
    return name == "seconds" or "per_second" in name


def first_difference(old: Path, new: Path) -> str | None:
    """What differs first between two runs, and where; ``None`` if they are equal."""
    return next(_differences(old, new), None)


def _differences(old: Path, new: Path) -> Iterator[str]:
    yield from _table_differences(*(run / "metrics.csv" for run in (old, new)))
    yield from _weight_differences(*(run / "weights.safetensors" for run in (old, new)))
    yield from _fact_differences(*(json.loads((run / "run.json").read_text()) for run in (old, new)))
    for name in TEXTS:
        yield from _text_differences(*(run / name for run in (old, new)))


def _text_differences(old: Path, new: Path) -> Iterator[str]:
    one, other = (path.read_text().splitlines() if path.exists() else ["no such file"] for path in (old, new))
    for number, pair in enumerate(itertools.zip_longest(one, other, fillvalue="no such line"), 1):
        if pair[0] != pair[1]:
            yield f"{old.name}, line {number}: {_pair(pair)}"


def _table_differences(old: Path, new: Path) -> Iterator[str]:
    tables = [list(csv.DictReader(path.read_text().splitlines())) for path in (old, new)]
    for number, rows in enumerate(zip(*tables, strict=False), 1):
        if list(rows[0]) != list(rows[1]):
            yield f"metrics.csv, columns: {_pair([','.join(row) for row in rows])}"
            return
        for name in rows[0]:
            if not is_clocked(name) and rows[0][name] != rows[1][name]:
                yield f"metrics.csv, row {number}, {name}: {_pair([row[name] for row in rows])}"
    if len(tables[0]) != len(tables[1]):
        yield f"metrics.csv, number of rows: {_pair([len(table) for table in tables])}"


def _weight_differences(old: Path, new: Path) -> Iterator[str]:
    tensors: list[dict[str, dict[str, Any]]] = [_tensors(path) for path in (old, new)]
    if sorted(tensors[0]) != sorted(tensors[1]):
        yield f"weights.safetensors, names: {_pair([sorted(names) for names in tensors])}"
        return
    for name in sorted(tensors[0]):
        one, other = tensors[0][name], tensors[1][name]
        kinds = [f"{each['dtype']} {each['shape']}" for each in (one, other)]
        if kinds[0] != kinds[1]:
            yield f"weights.safetensors, {name}: {_pair(kinds)}"
        elif one["data"] != other["data"]:
            # What is neither float32 nor float64 is shown byte by byte.
            values = [np.frombuffer(each["data"], TYPES.get(one["dtype"], np.uint8)) for each in (one, other)]
            bits = [np.frombuffer(each["data"], np.uint8).reshape(len(values[0]), -1) for each in (one, other)]
            places = np.flatnonzero((bits[0] != bits[1]).any(axis=1))
            where = f"{len(places)} of {len(values[0])} numbers, first number {places[0]}"
            yield f"weights.safetensors, {name}, {where}: {_pair([each[places[0]] for each in values])}"


def _tensors(path: Path) -> dict[str, dict[str, Any]]:
    """The ``dtype``, the ``shape`` and the bytes (``data``) of each tensor in a safetensors file, by name."""
    return dict(deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]


def _fact_differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    documents = [
        {name: value for name, value in document["metrics"].items() if not is_clocked(name)}
        | {name: document[name] for name in FACTS if name in document}
        for document in (old, new)
    ]
    for name in dict.fromkeys([*documents[0], *documents[1]]):
        values = [repr(document.get(name, "missing")) for document in documents]
        if values[0] != values[1]:
            yield f"run.json, {name}: {_pair(values)}"


def _pair(values: Iterable[object]) -> str:
    return " and ".join(text if len(text) <= 60 else f"{text[:57]}..." for text in map(str, values))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a script that runs two versions needs to know."""
    parser.add_argument("old", metavar="OLD", help="a checkout's folder, or a commit or branch")
    parser.add_argument("new", metavar="NEW", help="likewise")
    parser.add_argument(
        "--only",
        type=re.compile,
        default=re.compile(""),
        metavar="PATTERN",
        help="a regular expression that a line's title must match",
    )
    parser.add_argument("--threads", type=int, default=1, help="OMP_NUM_THREADS of each process")


@contextlib.contextmanager
def two_versions(options: argparse.Namespace) -> Iterator[tuple[Version, Version, Path]]:
    """The two versions that the options name, and the folder of a corpus; all are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="mlpx-versions-") as temporary:
        folder = Path(temporary)
        write_corpus(folder / "corpus")
        versions = []
        for name in ("old", "new"):
            given = getattr(options, name)
            source = _source(given, folder / f"{name}-source")
            versions.append(Version(name.upper(), source, folder / name, options.threads))
            versions[-1].require_source()
            print(f"{name.upper()}: {given}")
        print(f"OMP_NUM_THREADS={options.threads}, {sys.executable}\n", flush=True)
        yield versions[0], versions[1], folder / "corpus"


def _source(given: str, clone: Path) -> Path:
    """The checkout that ``given`` names: a folder, or else a commit, which is checked out at ``clone``."""
    if Path(given, "mlpx", "__init__.py").exists():
        return Path(given).resolve()
    parse = ["git", "-C", str(REPOSITORY), "rev-parse", "--verify", f"{given}^{{commit}}"]
    commit = subprocess.run(parse, capture_output=True, text=True)
    if commit.returncode:
        sys.exit(f"{given} is neither the folder of a checkout nor a commit of {REPOSITORY}")
    subprocess.run(["git", "clone", "--quiet", "--shared", "--no-checkout", str(REPOSITORY), str(clone)], check=True)
    subprocess.run(["git", "-C", str(clone), "checkout", "--quiet", "--detach", commit.stdout.strip()], check=True)
    return clone.resolve()


def _compared(case: Case, expected: Path, new: Version, corpus: Path) -> str | None:
    """What differs between OLD's run ``expected`` and the one that NEW makes; ``None`` if they are equal."""
    try:
        return first_difference(expected, case.train(new, corpus))
    except FAILURES as error:
        return str(error)


def main() -> None:
    """Train the runs, and print a line for each of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    options = parser.parse_args()
    if not any(options.only.search(case.title) for case in CASES):
        parser.error("no run matches --only")
    cases = {run: [case for case in CASES if case.run == run and options.only.search(case.title)] for run in RUNS}
    with two_versions(options) as (old, new, corpus):

        def compare(run: str) -> list[tuple[str, str | None]]:
            """The title of each case of the run, and what differs from OLD's run, which they share."""
            try:
                expected = old.train(command(run, corpus))
            except FAILURES as error:
                return [(case.title, str(error)) for case in cases[run]]
            return [(case.title, _compared(case, expected, new, corpus)) for case in cases[run]]

        total = equal = 0
        with ThreadPoolExecutor(options.jobs) as pool:
            for results in pool.map(compare, [run for run in RUNS if cases[run]]):
                for title, difference in results:
                    total += 1
                    equal += difference is None
                    print(
                        f"equal      {title}" if difference is None else f"DIFFERENT  {title}: {difference}", flush=True
                    )
    print(f"{equal} of {total} equal")
    sys.exit(equal != total)


if __name__ == "__main__":
    main()
