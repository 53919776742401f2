"""From the text of the training pairs to a vocabulary and arrays of words, in pieces that fit into little memory."""

import hashlib
import itertools
import threading
import zlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from mlpx.errors import InputError
from mlpx.experiments.transformer.corpora import PairsOfFiles
from mlpx.experiments.transformer.subwords import Subwords, learn
from mlpx.training.experiment import Preparing

MAX_WORDS = 1024  # of a sentence, counted in words of the vocabulary
LEARNED_PAIRS = 500_000
TICK_SECONDS = 0.1
COPIED_AT_ONCE = 2**20  # bytes
WORDS, LENGTHS, MODEL = "words.bin", "lengths.bin", "sentencepiece.model"

T = TypeVar("T")


class Encoded(NamedTuple):
    """What there is to know of training pairs that were encoded.

    Args:
        num_lines: The lines of each file.
        num_unfit: The pairs that were left out since a side is blank or has too many characters.
        num_long: The pairs that were left out since a side has more than ``MAX_WORDS`` words.
        digest: Of the sentences that are left, and of the vocabulary.
        checksums: The CRC-32 of each file.
    """

    num_lines: int
    num_unfit: int
    num_long: int
    digest: str
    checksums: dict[str, int]

    @property
    def num_pairs(self) -> int:
        """The pairs that are left."""
        return self.num_lines - self.num_unfit - self.num_long


class EvenSample:
    """All pairs, or where there are more than ``most``, at least half as many, evenly spaced."""

    def __init__(self, most: int) -> None:
        self.src: list[str] = []
        self.tgt: list[str] = []
        self._most = most
        self._stride = 1
        self._seen = 0

    def add(self, src: Sequence[str], tgt: Sequence[str]) -> None:
        """Choose among the next pairs."""
        first = -self._seen % self._stride
        self._seen += len(src)
        for sample, sentences in ((self.src, src), (self.tgt, tgt)):
            sample += sentences[first :: self._stride]
        while len(self.src) > self._most:
            self._stride *= 2
            del self.src[1::2], self.tgt[1::2]


def learned(src: str, tgt: str, vocab_size: int) -> Generator[Preparing, None, bytes]:
    """The vocabulary of two files, as :func:`learn` learns it from at most ``LEARNED_PAIRS`` of their pairs.

    Raises:
        InputError: The files cannot be read as pairs of sentences.
        UsageError: They yield no vocabulary of that size.
    """
    files, sample = PairsOfFiles(src, tgt), EvenSample(LEARNED_PAIRS)
    for chunk in files.chunks():
        sample.add(chunk.src, chunk.tgt)
        yield Preparing(f"reading {Path(src).name}", files.done)
    model = yield from in_background(
        lambda: learn(itertools.chain(sample.src, sample.tgt), vocab_size), "learning subwords"
    )
    return model


def in_background(work: Callable[[], T], doing: str) -> Generator[Preparing, None, T]:
    """What ``work`` returns or raises; a thread does it, so that this one hears signals meanwhile."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        try:
            return result.result(TICK_SECONDS)
        except TimeoutError:
            if result.done():  # an error of the work's own
                raise
        yield Preparing(doing)


class ArrayFile:
    """A new file of numbers, written piece by piece, with the CRC-32 of its content so far."""

    def __init__(self, path: Path) -> None:
        """Make the file.

        Raises:
            OSError: It is there, or cannot be made.
        """
        self.path = path
        self.checksum = 0
        self._file = path.open("xb")

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes | NDArray[np.generic]) -> None:
        """Add to it."""
        content = memoryview(data if isinstance(data, bytes) else np.ascontiguousarray(data).data).cast("B")
        self.checksum = zlib.crc32(content, self.checksum)
        self._file.write(content)

    def append(self, other: "ArrayFile") -> None:
        """Add what another one holds."""
        other._file.flush()
        with other.path.open("rb") as file:
            while piece := file.read(COPIED_AT_ONCE):
                self.write(piece)


def encode(src: str, tgt: str, model: bytes, folder: Path) -> Generator[Preparing, None, Encoded]:
    """Cut the pairs of two files into words, and write them to a folder.

    Args:
        src: The file of sources.
        tgt: The file of their translations.
        model: The vocabulary.
        folder: Where to write: ``WORDS``, the words of all sources and then those of all targets; ``LENGTHS``, how many
            each source has and then how many each target has; ``MODEL``, the vocabulary.

    Raises:
        InputError: The files cannot be read as pairs of sentences, or all of these are too long.
        OSError: The folder cannot be written.
    """
    vocabulary, files = Subwords(model), PairsOfFiles(src, tgt)
    num_lines = num_unfit = num_long = 0
    digests = hashlib.sha256(), hashlib.sha256()
    lengths: tuple[list[NDArray[np.uint16]], ...] = ([], [])
    with ArrayFile(folder / WORDS) as words, ArrayFile(folder / f"{WORDS}.tgt") as of_targets:
        for chunk in files.chunks():
            cut = [vocabulary.arrays(side, torch.get_num_threads()) for side in (chunk.src, chunk.tgt)]
            fits = np.maximum(*(side.lengths for side in cut)) <= MAX_WORDS
            num_lines += len(fits) + chunk.dropped
            num_unfit += chunk.dropped
            num_long += int((~fits).sum())
            for file, side, text, digest, counts in zip(
                (words, of_targets), cut, (chunk.src, chunk.tgt), digests, lengths, strict=True
            ):
                file.write(side.words[np.repeat(fits, side.lengths)])
                counts.append(side.lengths[fits].astype(np.uint16))
                # No sentence contains the end of a line, so different sentences give different text.
                digest.update("".join(f"{sentence}\n" for sentence in itertools.compress(text, fits)).encode())
            yield Preparing("encoding", files.done)
        if num_lines == num_unfit + num_long:
            raise InputError("the sentences", f"all are longer than {MAX_WORDS} subwords", "Give one sentence a line.")
        words.append(of_targets)
        of_targets.path.unlink()
        checksums = {WORDS: words.checksum}
    for name, content in ((LENGTHS, np.concatenate([*lengths[0], *lengths[1]])), (MODEL, model)):
        with ArrayFile(folder / name) as file:
            file.write(content)
            checksums[name] = file.checksum
    of_all = hashlib.sha256(b"".join([*(digest.digest() for digest in digests), model])).hexdigest()
    return Encoded(num_lines, num_unfit, num_long, of_all, checksums)
