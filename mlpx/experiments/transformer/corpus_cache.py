"""A kept corpus: the folder of its arrays, its vocabulary and its facts, complete or not there, and verified.

Its files lie in a folder of their own. The facts are written last: without them, nothing else in the folder counts. Who
makes the folder holds its lock, which the kernel takes back from a process that was killed; the next one begins again.
"""

import fcntl
import json
import os
import re
import time
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlpx.errors import MlpxError
from mlpx.experiments.transformer.encoding import LENGTHS, MODEL, TICK_SECONDS, WORDS, Encoded
from mlpx.experiments.transformer.sentences import Pairs, Words, dtype_of_words
from mlpx.experiments.transformer.subwords import Subwords
from mlpx.files import open_regular, read_regular, remove_all, sync_folder, write_file
from mlpx.training.experiment import Preparing

FORMAT = 1
"""Another number makes all corpora that were kept before be made anew."""
FACTS, LOCK = "facts.json", "lock"
MAX_FACTS = 2**16  # bytes
KEY = re.compile("[0-9a-f]{64}")


class BrokenCorpus(Exception):
    """What is kept is not what was written."""


class TrainingSet(NamedTuple):
    """Training pairs, their vocabulary, and what is known of them."""

    pairs: Pairs
    vocabulary: Subwords
    model: bytes
    facts: Encoded


def read(folder: Path) -> TrainingSet | None:
    """The corpus that a folder holds, its words mapped into memory; ``None`` where none was completed.

    Raises:
        BrokenCorpus: One was, and something of it has changed since.
    """
    try:
        content = read_regular(folder / FACTS, MAX_FACTS)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BrokenCorpus(f"{FACTS}: {error.strerror}") from error
    facts = _facts_of(content)
    try:
        return verified(folder, facts)
    except OSError as error:
        raise BrokenCorpus(f"{error.strerror}") from error


def verified(folder: Path, facts: Encoded) -> TrainingSet:
    """What :func:`encoding.encode` wrote to a folder, its words mapped into memory.

    Raises:
        BrokenCorpus: It is not what the facts say.
        OSError: A file cannot be read.
    """
    model = _content(folder, MODEL, facts)
    vocabulary = _vocabulary(model)
    lengths = np.frombuffer(_content(folder, LENGTHS, facts), np.uint16)
    with open_regular(folder / WORDS) as file:
        expected = int(lengths.sum(dtype=np.int64)) * np.dtype(dtype_of_words(len(vocabulary))).itemsize
        if os.fstat(file.fileno()).st_size != expected:
            raise BrokenCorpus(f"{WORDS} has another size than was written")
        words: Words = np.memmap(file, dtype_of_words(len(vocabulary)), "r")
    _require_checksum(words.data, WORDS, facts)
    if len(lengths) != 2 * facts.num_pairs:
        raise BrokenCorpus(f"{LENGTHS} is of another number of pairs")
    return TrainingSet(Pairs.end_to_end(words, lengths), vocabulary, model, facts)


def _content(folder: Path, name: str, facts: Encoded) -> bytes:
    content = read_regular(folder / name)
    _require_checksum(memoryview(content), name, facts)
    return content


def _require_checksum(content: memoryview, name: str, facts: Encoded) -> None:
    if zlib.crc32(content) != facts.checksums[name]:
        raise BrokenCorpus(f"{name} has changed since it was written")


def _vocabulary(model: bytes) -> Subwords:
    try:
        return Subwords(model)
    except MlpxError as error:
        raise BrokenCorpus(f"{MODEL}: {error.why}") from error


def _facts_of(content: bytes) -> Encoded:
    """The facts in a file.

    Raises:
        BrokenCorpus: They are not what was written, or another version wrote them.
    """
    try:
        document = json.loads(content)
        version, checksum, facts = document["format"], document["crc32"], document["facts"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BrokenCorpus(f"{FACTS} cannot be read") from error
    if version != FORMAT:
        raise BrokenCorpus(f"{FACTS} has format {version}, and this is format {FORMAT}")
    if checksum != _checksum_of(facts):
        raise BrokenCorpus(f"{FACTS} has changed since it was written")
    return Encoded(**facts)


def _checksum_of(facts: object) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def complete(folder: Path, made: Path, facts: Encoded) -> None:
    """Move what was made in the folder ``made`` into ``folder``, durably, and write the facts last.

    Raises:
        OSError: That cannot be done.
    """
    for name in facts.checksums:
        with open_regular(made / name) as file:
            os.fsync(file.fileno())
        os.replace(made / name, folder / name)
    sync_folder(folder)
    document = {"format": FORMAT, "facts": facts._asdict(), "crc32": _checksum_of(facts._asdict())}
    write_file(folder / FACTS, json.dumps(document, indent=1).encode())


def clear(folder: Path) -> None:
    """Remove all that a folder holds but its lock, which the caller holds."""
    # The facts go first, so that nobody takes the rest for complete. Files that are mapped live on.
    remove_all([folder / FACTS])
    remove_all(path for path in folder.iterdir() if path.name != LOCK)


def hold(folder: Path) -> Generator[Preparing, None, int]:
    """Make a folder and take its lock, as soon as no other process has it; returns the descriptor to be closed.

    Where the file system has no locks, this one is taken for granted: whoever makes the same corpus makes equal files.

    Raises:
        OSError: It cannot be made.
    """
    while True:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            remove_all([folder])
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = _open_lock(folder, os.O_CREAT)
        except FileNotFoundError:  # another process has given up just now
            continue
        try:
            while not _try_lock(lock):
                yield Preparing("waiting for another run that reads the same corpus")
                time.sleep(TICK_SECONDS)
            # Whoever gives up removes the folder, and then this is no longer its lock.
            if _is_at(lock, folder / LOCK):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def remove_incomplete(parent: Path) -> None:
    """Remove the folders of corpora that killed processes have left incomplete; what cannot be removed stays."""
    for folder in parent.iterdir():
        if KEY.fullmatch(folder.name) and not folder.is_symlink() and not (folder / FACTS).exists():
            try:
                lock = _open_lock(folder, 0)
            except OSError:
                continue
            try:
                if _try_lock(lock, otherwise=False) and not (folder / FACTS).exists():
                    remove_all([folder])
            finally:
                os.close(lock)


def _open_lock(folder: Path, flags: int) -> int:
    return os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o666)


def _try_lock(descriptor: int, *, otherwise: bool = True) -> bool:
    """Whether the lock was granted; ``otherwise`` where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return otherwise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
