"""The training pairs of two files of text: encoded once, then kept in the user's cache folder and read from there.

The folder ``corpora/KEY`` of the cache folder holds a corpus. The key is a digest of all that decides the result, the
content of both files among it, so what is kept is never out of date, whatever its files are called and wherever they
lie. It is verified at each start, and what is broken is made anew.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sentencepiece

from mlpx.data.folders import cache_folder
from mlpx.errors import InputError, MachineError, MlpxError, reason
from mlpx.experiments.transformer import corpora, corpus_cache, encoding
from mlpx.experiments.transformer.corpora import TextFile
from mlpx.experiments.transformer.corpus_cache import BrokenCorpus, TrainingSet
from mlpx.experiments.transformer.encoding import Encoded, in_background
from mlpx.files import NO_FILE, temporary_for
from mlpx.training.experiment import Preparing

FOLDER = "corpora"
OTHER_PLACE = "Free some room, or name another cache folder by XDG_CACHE_HOME."
NOT_WRITABLE = (*NO_FILE, errno.EEXIST, errno.EPERM, errno.EROFS)
"""What fails where a folder cannot be written to, however much room there is."""

_prepared: dict[tuple[str, str, int], TrainingSet] = {}
"""What :func:`prepare` has read and :func:`take` has not yet taken."""


def prepare(src: str, tgt: str, vocab_size: int) -> Iterator[Preparing]:
    """Make the training set of two files, or find it in the cache, and tell how far that is.

    Raises:
        InputError: The files cannot be read as pairs of sentences, or change meanwhile.
        MachineError: There is no room for the arrays.
        UsageError: The files yield no vocabulary of that size.
    """
    _prepared[src, tgt, vocab_size] = yield from _found_or_made(Source(src, tgt, vocab_size))


def take(src: str, tgt: str, vocab_size: int) -> TrainingSet:
    """The training set that :func:`prepare` prepares, or has prepared.

    Raises:
        MlpxError: As there.
    """
    if (src, tgt, vocab_size) not in _prepared:
        for _ in prepare(src, tgt, vocab_size):
            pass
    return _prepared.pop((src, tgt, vocab_size))


class Source:
    """Two files of text and the size of their vocabulary: all that a training set is made from."""

    def __init__(self, src: str, tgt: str, vocab_size: int) -> None:
        """Take note of how the files are now.

        Raises:
            InputError: One is not there.
        """
        self.src, self.tgt, self.vocab_size = src, tgt, vocab_size
        self._files = TextFile(Path(src)), TextFile(Path(tgt))
        self._states = [file.state() for file in self._files]

    def key(self) -> str:
        """A digest of all that decides what is made of the files.

        Raises:
            InputError: One cannot be read.
        """
        # Hashing lets other threads run.
        with ThreadPoolExecutor(len(self._files)) as pool:
            digests = list(pool.map(TextFile.digest, self._files))
        decisive = {
            "format": corpus_cache.FORMAT,
            "files": digests,
            "packed": [file.path.suffix == ".gz" for file in self._files],
            "vocab_size": self.vocab_size,
            "limits": [corpora.MAX_CHARACTERS, encoding.MAX_WORDS, encoding.LEARNED_PAIRS],
            "sentencepiece": sentencepiece.__version__,
            "byteorder": sys.byteorder,
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def encode(self, folder: Path) -> Generator[Preparing, None, Encoded]:
        """Make the arrays and the vocabulary in a folder, and return the facts.

        Raises:
            InputError: The files cannot be read as pairs of sentences, or have changed.
            OSError: The folder cannot be written.
            UsageError: The files yield no vocabulary of that size.
        """
        model = yield from encoding.learned(self.src, self.tgt, self.vocab_size)
        facts = yield from encoding.encode(self.src, self.tgt, model, folder)
        for file, before in zip(self._files, self._states, strict=True):
            if file.state() != before:
                raise InputError(file.path, "was changed while it was read", "Try again once it is complete.")
        return facts


def _found_or_made(source: Source) -> Generator[Preparing, None, TrainingSet]:
    key = yield from in_background(source.key, f"looking for {Path(source.src).name} in the cache")
    try:
        folder = cache_folder() / FOLDER / key
        found = yield from in_background(lambda: _read(folder), "verifying the corpus in the cache")
        if found is None:
            found = yield from _made(source, folder)
    except MlpxError as error:
        # The only one that is about the cache says that there is no home folder for it.
        if not isinstance(error, MachineError):
            raise
        found = yield from _made_for_once(source, f"the corpus cannot be kept: {error.why}")
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise MachineError(folder, f"the corpus cannot be kept there: {reason(error)}", OTHER_PLACE) from error
        why = f"the corpus cannot be kept in {folder.parent}: {reason(error)}"
        found = yield from _made_for_once(source, why)
    return found


def _read(folder: Path, *, warn: bool = False) -> TrainingSet | None:
    """The corpus that is kept in a folder; ``None`` where there is none, or a broken one."""
    try:
        return None if folder.is_symlink() else corpus_cache.read(folder)
    except BrokenCorpus as error:
        if warn:
            warnings.warn(f"the corpus kept in {folder} is broken and made anew: {error}", stacklevel=2)
        return None


def _made(source: Source, folder: Path) -> Generator[Preparing, None, TrainingSet]:
    """The corpus, made and kept in a folder, unless another process has done so meanwhile.

    Raises:
        MlpxError: As in :func:`prepare`.
        OSError: The folder cannot be written.
    """
    lock = yield from corpus_cache.hold(folder)
    try:
        found = _read(folder, warn=True)
        if found is not None:
            return found
        corpus_cache.remove_incomplete(folder.parent)
        corpus_cache.clear(folder)
        made = temporary_for(folder / "made")
        made.mkdir()
        facts = yield from source.encode(made)
        corpus_cache.complete(folder, made, facts)
        shutil.rmtree(made, ignore_errors=True)
        return corpus_cache.verified(folder, facts)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def _made_for_once(source: Source, why: str) -> Generator[Preparing, None, TrainingSet]:
    """The corpus, made in files that go with this process.

    Raises:
        MlpxError: As in :func:`prepare`.
    """
    warnings.warn(f"{why}; it will be read and encoded again at each start", stacklevel=2)
    try:
        folder = Path(tempfile.mkdtemp(prefix="mlpx-corpus-"))
        try:
            facts = yield from source.encode(folder)
            return corpus_cache.verified(folder, facts)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        remedy = "Free some room, or name another folder for temporary files by TMPDIR."
        raise MachineError(
            tempfile.gettempdir(), f"the corpus cannot be written there: {reason(error)}", remedy
        ) from error
