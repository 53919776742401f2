"""Parallel text: two files of one sentence a line, where line n of the second translates line n of the first.

Files are read as streams, so that their size is not that of the memory.
"""

import codecs
import contextlib
import gzip
import hashlib
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mlpx.errors import InputError, reason
from mlpx.files import open_regular

MAX_BYTES = 64 * 2**30  # of a file, packed or unpacked
MAX_LINE = 64 * 2**20  # bytes: what goes on for longer without the end of a line is no text, and would fill the memory
MAX_CHARACTERS = 10_000  # of a sentence: a longer line is not taken for a sentence
CHUNK = 2**20  # bytes read at a time
PAIRS_AT_ONCE = 10_000
REMEDY = "Give a text file of one sentence a line, plain or packed by gzip (.gz)."


class ParallelText(NamedTuple):
    """Sentences and their translations: ``tgt[i]`` translates ``src[i]``; ``dropped`` pairs were left out."""

    src: list[str]
    tgt: list[str]
    dropped: int


class TextFile:
    """A UTF-8 file of lines, unpacked where its name ends in ``.gz``, read from its beginning to its end.

    ``done`` of its ``size`` bytes, as it lies on the disk, have been read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.done = 0

    def blocks(self) -> Iterator[list[str]]:
        r"""The lines without their ends, at least one in all, in lists of about ``CHUNK`` bytes.

        A line ends in ``\n`` or ``\r\n`` and nothing else; the last one may lack its end. A byte order mark is dropped.

        Raises:
            InputError: The file cannot be read, is broken, empty, longer than ``MAX_BYTES``, or not UTF-8.
        """
        number = 1
        for block in self._blocks_of_bytes():
            lines = self._decode(block, number)
            number += len(lines)
            yield lines
        if number == 1:
            raise InputError(self.path, "is empty", REMEDY)

    def _decode(self, block: bytes, first: int) -> list[str]:
        """The lines of ``block``, whose first is line ``first`` of the file.

        Raises:
            InputError: It is not UTF-8.
        """
        try:
            lines = block.decode().split("\n")
        except UnicodeDecodeError:
            lines = [self._decode_line(line, number) for number, line in enumerate(block.split(b"\n"), first)]
        return [line.removesuffix("\r") for line in lines]

    def _decode_line(self, line: bytes, number: int) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            why = f"line {number} is not UTF-8 ({error.reason}, byte {error.start + 1} of the line)"
            raise InputError(self.path, why, "Convert it, say by iconv.") from error

    def _blocks_of_bytes(self) -> Iterator[bytes]:
        """The content in blocks of whole lines, without the end of the last line of each.

        Raises:
            InputError: As in :meth:`blocks`.
        """
        mark, begun = codecs.BOM_UTF8, bytearray()
        for piece in self._pieces():
            lines, end, rest = piece.rpartition(b"\n")
            if end:
                yield (bytes(begun) + lines).removeprefix(mark)
                mark = b""
                begun.clear()
            begun += rest
            if len(begun) > MAX_LINE:
                raise InputError(self.path, f"a line is longer than {MAX_LINE >> 20} MiB", REMEDY)
        if last := bytes(begun).removeprefix(mark):
            yield last

    def _pieces(self) -> Iterator[bytes]:
        """The content, unpacked, about ``CHUNK`` bytes at a time.

        Raises:
            InputError: As in :meth:`blocks`.
        """
        unpacked = 0
        with self._input_errors(), self._opened() as packed, contextlib.ExitStack() as stack:
            is_packed = self.path.suffix == ".gz"
            file = stack.enter_context(gzip.open(packed)) if is_packed else packed
            while piece := file.read(CHUNK):
                unpacked += len(piece)
                if unpacked > MAX_BYTES:
                    does = "unpacks to more" if is_packed else "is longer"
                    raise InputError(self.path, f"{does} than {MAX_BYTES >> 20} MiB", "Give a part of it.")
                self.done = packed.tell()
                yield piece

    def digest(self) -> str:
        """The SHA-256 of the file as it lies on the disk.

        Raises:
            InputError: It cannot be read, or is longer than ``MAX_BYTES``.
        """
        with self._input_errors(), self._opened() as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]

    def state(self) -> tuple[int, ...]:
        """What tells the file from any other that has been at its path: a change moves its time of change.

        Raises:
            InputError: There is no such file.
        """
        with self._input_errors():
            status = self.path.stat()
            return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino

    def _opened(self) -> BinaryIO:
        """The file, opened; its size is noted.

        Raises:
            InputError: It is longer than ``MAX_BYTES``.
            OSError: It cannot be opened.
            ValueError: There is a NUL character in the path.
        """
        self.size = self.path.stat().st_size
        if self.size > MAX_BYTES:
            raise InputError(self.path, f"is longer than {MAX_BYTES >> 20} MiB", "Give a part of it.")
        return open_regular(self.path)

    @contextlib.contextmanager
    def _input_errors(self) -> Iterator[None]:
        """What goes wrong with the file, as an InputError."""
        try:
            yield
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(self.path, f"is not whole, or not gzip ({error})", REMEDY) from error
        except (OSError, ValueError) as error:
            # A ValueError means that there is a NUL character in the path.
            raise InputError(self.path, reason(error), REMEDY) from error


class PairsOfFiles:
    """The sentences of two files, in order, without the white space around them.

    A pair is left out where either side is blank or longer than ``MAX_CHARACTERS``.
    """

    def __init__(self, src: str, tgt: str) -> None:
        self._files = TextFile(Path(src)), TextFile(Path(tgt))

    @property
    def done(self) -> float:
        """The share of the files' bytes that have been read, from 0 to 1."""
        return sum(file.done for file in self._files) / max(1, sum(file.size for file in self._files))

    def chunks(self) -> Iterator[ParallelText]:
        """The pairs, at least one in all, at most ``PAIRS_AT_ONCE`` of them at a time.

        Raises:
            InputError: A file cannot be read as text, their line counts differ, or no pair is left.
        """
        sides = [_sentences(file) for file in self._files]
        num_lines = num_kept = 0
        while True:
            src, tgt = (list(itertools.islice(side, PAIRS_AT_ONCE)) for side in sides)
            if len(src) != len(tgt):
                counts = [num_lines + len(chunk) + _count(side) for chunk, side in zip((src, tgt), sides, strict=True)]
                raise self._uneven(*counts)
            if not src:
                break
            kept = [pair for pair in zip(src, tgt, strict=True) if pair[0] and pair[1]]
            num_lines += len(src)
            num_kept += len(kept)
            yield ParallelText([source for source, _ in kept], [target for _, target in kept], len(src) - len(kept))
        if not num_kept:
            why = f"in each of the {num_lines} pairs a side is blank or longer than {MAX_CHARACTERS} characters"
            raise InputError(" and ".join(str(file.path) for file in self._files), why, "Give one sentence a line.")

    def _uneven(self, num_src: int, num_tgt: int) -> InputError:
        src, tgt = (file.path for file in self._files)
        why = f"{num_tgt} lines for the {num_src} lines of {src}"
        return InputError(tgt, why, "Line n of the one must be the translation of line n of the other.")


def _sentences(file: TextFile) -> Iterator[str]:
    """The lines without the white space around them; one that is too long is as good as a blank one."""
    for block in file.blocks():
        yield from [line if len(line) <= MAX_CHARACTERS else "" for line in map(str.strip, block)]


def _count(lines: Iterator[str]) -> int:
    return sum(1 for _ in lines)


def read_pairs(src: str, tgt: str) -> ParallelText:
    """The sentences of two files together, for sets that are small; see :class:`PairsOfFiles`.

    Raises:
        InputError: As in :meth:`PairsOfFiles.chunks`.
    """
    whole = ParallelText([], [], 0)
    for chunk in PairsOfFiles(src, tgt).chunks():
        whole = whole._replace(dropped=whole.dropped + chunk.dropped)
        whole.src.extend(chunk.src)
        whole.tgt.extend(chunk.tgt)
    return whole


def read_lines(path: Path) -> list[str]:
    """All lines of a file; see :meth:`TextFile.blocks`.

    Raises:
        InputError: As there.
    """
    return list(itertools.chain.from_iterable(TextFile(path).blocks()))
