"""Time how a Transformer starts on corpora of different sizes, and measure the memory that this takes.

    python benchmarks/corpora.py [--pairs 29000 290000 4500000] [--vocab-size 32000] [--folder FOLDER] [--reading-only]

For each number of pairs, text is made up: two languages of 400,000 words each, made of syllables, in sentences of about
26 words. A word's frequency is inversely proportional to its rank (Zipf's law). The cache folder is one of the
benchmark's own and empty, and everything that is written is removed at the end.

The program then starts three times as a process, and each time is asked to stop at its first training step: on a corpus
that it has not seen, on the same one again, and to resume. Another process makes the experiment and times two
checkpoints and the batches of an epoch. The model is tiny, because what is measured depends on the corpus alone. Files
are in the system's cache, unless they do not fit into the memory.

Memory is the proportional set size (PSS) of the process and all its children without the pages of files, which the
system takes back when it needs them; the largest of samples taken ten times a second, less what a process has that
imports torch and nothing else. With ``--reading-only`` nothing is trained: the corpus is read, and found again.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

NUM_WORDS = 400_000
MEAN_WORDS = 26
SENTENCES_AT_ONCE = 50_000
NUM_SCORED = 500
SAMPLE_SECONDS = 0.1

IMPORT = "import torch, time; time.sleep(2)"
# The program, which stops itself at its first step and says when that was.
FIRST_STEP = """
import os, signal, sys, time
from mlpx.experiments.transformer.experiment import Translation
from mlpx.__main__ import main
train = Translation.train
def until_the_first_step(self, epoch, step):
    for done in train(self, epoch, step):
        print("first step", time.time(), file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        yield done
Translation.train = until_the_first_step
main()
"""
READ = """
import sys, time
from mlpx.experiments.transformer import training_set
src, tgt, vocab_size = sys.argv[1:]
for record in training_set.prepare(src, tgt, int(vocab_size)):
    pass
training_set.take(src, tgt, int(vocab_size))
print("first step", time.time(), file=sys.stderr, flush=True)
"""
# The arguments are a folder and a run's config.toml; prints the seconds of two checkpoints and of an epoch's batches.
PARTS = """
import sys, time
from pathlib import Path
import torch
from mlpx.experiments.transformer.experiment import Translation
from mlpx.runs import checkpoints, reading
from mlpx.runs.checkpoints import Checkpoint, ResumePoint
experiment = Translation(reading.settings_of(Path(sys.argv[2])), torch.device("cpu"))
def save():
    checkpoint = Checkpoint(settings=experiment.settings.model_dump(), point=ResumePoint(), state=experiment.state(),
                            torch_version=str(torch.__version__), data_digest=experiment.data_digest)
    checkpoints.save(Path(sys.argv[1]), checkpoint)
def seconds(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
print("parts", seconds(save), seconds(save), min(seconds(lambda: experiment.batches(epoch)) for epoch in (2, 3)))
"""


class Started(NamedTuple):
    """What was seen of a process: seconds until its first step, its largest memory in MiB, and its standard error."""

    seconds: float
    memory: float
    err: str


def make_pairs(folder: Path, count: int, seed: int = 0) -> None:
    """Write ``train.src`` and ``train.tgt`` of that many lines, and a few lines as ``val`` and ``test``."""
    folder.mkdir(parents=True)
    for part, (number, lines) in {"train": (0, count), "val": (1, NUM_SCORED), "test": (2, NUM_SCORED)}.items():
        for language, side in enumerate(("src", "tgt")):
            with (folder / f"{part}.{side}").open("w", encoding="utf-8") as file:
                for text in sentences(lines, language, 10 * seed + number):
                    file.write(text)


def sentences(count: int, language: int, seed: int) -> Iterator[str]:
    """Lines of text, many at a time; those of the same seed in two languages have similar lengths."""
    words = np.array(vocabulary(language), dtype=object)
    within, at_end = words + " ", words + ".\n"
    of_both, own = np.random.default_rng(seed), np.random.default_rng([seed, language])
    for first in range(0, count, SENTENCES_AT_ONCE):
        number = min(SENTENCES_AT_ONCE, count - first)
        lengths = of_both.gamma(4, MEAN_WORDS / 4, number) + own.normal(0, 2, number)
        ends = np.maximum(1, np.rint(lengths)).astype(np.int64).cumsum()
        # The rank is e to a uniform power, so that a rank's probability is in inverse proportion to it.
        ranks = (NUM_WORDS ** own.random(int(ends[-1]))).astype(np.int64) - 1
        text = within[ranks]
        text[ends - 1] = at_end[ranks[ends - 1]]
        yield "".join(text.tolist())


def vocabulary(language: int) -> list[str]:
    """The words of a language by their rank; frequent ones are shorter."""
    source = np.random.default_rng([26, language])
    onsets = ["", "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr", ("th", "sch")[language]]
    vowels = ["a", "e", "i", "o", "u", *(("ea", "oo"), ("ü", "ä"))[language]]
    syllables = np.array([f"{o}{v}{end}" for o in onsets for v in vowels for end in ("", "", "n", "r", "s", "t", "ng")])
    ranks = np.arange(NUM_WORDS)
    lengths = np.where(ranks < 100, 1, source.integers(1, 3, NUM_WORDS) + (ranks > 5000))
    drawn = syllables[source.integers(0, len(syllables), (NUM_WORDS, 3))].tolist()
    return ["".join(parts[:length]) for parts, length in zip(drawn, lengths.tolist(), strict=True)]


def started(code: str, arguments: Sequence[str], env: Mapping[str, str], *, succeeds: bool = False) -> Started:
    """Run Python code as a process, and watch it."""
    begun = time.time()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=dict(env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    samples = [0.0]

    def watch() -> None:
        while process.poll() is None:
            samples.append(memory_of(process.pid))
            time.sleep(SAMPLE_SECONDS)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, err = process.communicate()
    watcher.join()
    times = [float(line.split()[-1]) for line in err.splitlines() if line.startswith("first step")]
    if not times and not succeeds:
        sys.exit(err)
    return Started((times[0] if times else time.time()) - begun, max(samples), err)


def memory_of(pid: int) -> float:
    """The PSS of a process and its descendants without the pages of files, in MiB."""
    kib, rest = 0, [pid]
    while rest:
        folder = Path(f"/proc/{rest.pop()}")
        with contextlib.suppress(OSError):  # it has just ended
            for line in (folder / "smaps_rollup").read_text().splitlines():
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    kib += int(line.split()[1])
            for children in folder.glob("task/*/children"):
                rest += map(int, children.read_text().split())
    return kib / 1024


def measured(count: int, vocab_size: int, folder: Path, *, reading_only: bool) -> list[str]:
    """The cells of a row of the table."""
    text, runs = folder / "text", folder / "runs"
    make_pairs(text, count)
    env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder)}
    torch_alone = started(IMPORT, [], env, succeeds=True).memory
    if reading_only:
        arguments = [str(text / "train.src"), str(text / "train.tgt"), str(vocab_size)]
        seen = [started(READ, arguments, env) for _ in range(2)]
        return [f"{count:,}", *(f"{start.seconds:.1f}" for start in seen), "", f"{seen[0].memory - torch_alone:.0f}"]
    files = [f"--{part}-{side}={text / part}.{side}" for part in ("train", "val", "test") for side in ("src", "tgt")]
    model = ["--num-layers=1", "--d-model=16", "--num-heads=1", "--d-ff=16", f"--vocab-size={vocab_size}"]
    train = ["transformer", "--task=text", "--epochs=2", *files, *model, "--runs-dir", str(runs)]
    resume = ["resume", "latest", "--runs-dir", str(runs)]
    seen = [started(FIRST_STEP, arguments, env) for arguments in (train, train, resume)]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        parts = subprocess.run(
            [sys.executable, "-c", PARTS, place, str(runs / "latest")],
            env=env,
            check=True,
            capture_output=True,
            text=True,
        )
    (times,) = (line.split()[1:] for line in parts.stdout.splitlines() if line.startswith("parts"))
    memory = max(start.memory for start in seen) - torch_alone
    return [
        f"{count:,}",
        *(f"{start.seconds:.1f}" for start in seen),
        f"{memory:.0f}",
        *(f"{float(seconds):.2f}" for seconds in times),
    ]


def main() -> None:
    """Print a row for each number of pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[29_000, 290_000, 4_500_000])
    parser.add_argument("--vocab-size", type=int, default=32_000)
    parser.add_argument("--folder", help="where to make a temporary folder; by default that of temporary files")
    parser.add_argument("--reading-only", action="store_true")
    options = parser.parse_args()
    print("seconds to the first step on a new corpus, on the same one, and on resuming it; MiB above what torch takes;")
    print("seconds of a first checkpoint, of another one, and of the batches of an epoch")
    print("| pairs | first start | next start | resume | MiB | checkpoint | another | batches |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for count in options.pairs:
        with tempfile.TemporaryDirectory(prefix="mlpx-corpora-", dir=options.folder) as place:
            cells = measured(count, options.vocab_size, Path(place), reading_only=options.reading_only)
        print(f"| {' | '.join([*cells, *[''] * (8 - len(cells))])} |", flush=True)


if __name__ == "__main__":
    main()
