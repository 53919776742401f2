"""Parallel text: two files of one sentence a line, where line n of the second translates line n of the first."""

import codecs
import gzip
import io
import zlib
from pathlib import Path
from typing import NamedTuple

from mlpx.errors import InputError, reason
from mlpx.files import read_regular

MAX_BYTES = 2 * 2**30  # of a file, packed or unpacked
MAX_CHARACTERS = 10_000  # of a sentence: a longer line is not taken for a sentence
CHUNK = 2**20  # bytes unpacked at a time
REMEDY = "Give a text file of one sentence a line, plain or packed by gzip (.gz)."


class ParallelText(NamedTuple):
    """Sentences and their translations: ``tgt[i]`` translates ``src[i]``; ``dropped`` pairs were left out."""

    src: list[str]
    tgt: list[str]
    dropped: int


def read_pairs(src: str, tgt: str) -> ParallelText:
    """The sentences of two files, in order, without the white space around them.

    A pair is left out where either side is blank or longer than ``MAX_CHARACTERS``.

    Raises:
        InputError: A file cannot be read as text, their line counts differ, or no pair is left.
    """
    sources, targets = read_lines(Path(src)), read_lines(Path(tgt))
    if len(sources) != len(targets):
        why = f"{len(targets)} lines for the {len(sources)} lines of {src}"
        raise InputError(tgt, why, "Line n of the one must be the translation of line n of the other.")
    stripped = ((source.strip(), target.strip()) for source, target in zip(sources, targets, strict=True))
    kept = [pair for pair in stripped if all(0 < len(side) <= MAX_CHARACTERS for side in pair)]
    if not kept:
        why = f"in each of the {len(sources)} pairs a side is blank or longer than {MAX_CHARACTERS} characters"
        raise InputError(f"{src} and {tgt}", why, "Give one sentence a line.")
    return ParallelText([source for source, _ in kept], [target for _, target in kept], len(sources) - len(kept))


def read_lines(path: Path) -> list[str]:
    r"""The lines of a UTF-8 file, without their ends; at least one. A file named ``.gz`` is unpacked first.

    A line ends in ``\n`` or ``\r\n`` and nothing else; the last line may lack its end. A byte order mark is dropped.

    Raises:
        InputError: The file cannot be read, is broken, empty, longer than ``MAX_BYTES``, or not UTF-8.
    """
    lines = _read(path).removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise InputError(path, "is empty", REMEDY)
    return [_decode(path, number, line) for number, line in enumerate(lines, 1)]


def _decode(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode().removesuffix("\r")
    except UnicodeDecodeError as error:
        why = f"line {number} is not UTF-8 ({error.reason}, byte {error.start + 1} of the line)"
        raise InputError(path, why, "Convert it, say by iconv.") from error


def _read(path: Path) -> bytes:
    """The content of a file, unpacked if its name ends in ``.gz``.

    Raises:
        InputError: As in :func:`read_lines`.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(path, f"is longer than {MAX_BYTES >> 20} MiB", "Give a part of it.")
        data = read_regular(path)
        return _unpack(path, data) if path.suffix == ".gz" else data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(path, f"is not whole, or not gzip ({error})", REMEDY) from error
    except (OSError, ValueError) as error:
        # A ValueError means that there is a NUL character in the path.
        raise InputError(path, reason(error), REMEDY) from error


def _unpack(path: Path, data: bytes) -> bytes:
    """Unpack ``data`` piece by piece, so that a small file that unpacks to a huge one cannot fill the memory.

    Raises:
        InputError: There are more than ``MAX_BYTES``.
        EOFError: The data is cut off; gzip.BadGzipFile or zlib.error where it is otherwise broken.
    """
    unpacked = io.BytesIO()
    with gzip.open(io.BytesIO(data)) as file:
        while piece := file.read(CHUNK):
            unpacked.write(piece)
            if unpacked.tell() > MAX_BYTES:
                raise InputError(path, f"unpacks to more than {MAX_BYTES >> 20} MiB", "Give a part of it.")
    return unpacked.getvalue()
