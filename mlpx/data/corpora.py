"""Parallel text: two files, one sentence a line, line n of the one being the translation of line n of the other."""

import codecs
import gzip
import io
import zlib
from pathlib import Path
from typing import NamedTuple

from mlpx.errors import InputError
from mlpx.files import read_regular

MAX_BYTES = 2 * 2**30  # of a file, and of what it unpacks to
MAX_CHARACTERS = 10_000  # of a sentence; what is longer is no sentence
CHUNK = 2**20
REMEDY = "Give a text file of one sentence a line, plain or packed by gzip (.gz)."


class Pairs(NamedTuple):
    """``src[i]`` and ``tgt[i]`` say the same; ``dropped`` counts the pairs that were left out."""

    src: list[str]
    tgt: list[str]
    dropped: int


def read_pairs(src: str, tgt: str) -> Pairs:
    """The sentences of two files, without surrounding white space, in order.

    A pair is left out where either side is blank or longer than ``MAX_CHARACTERS``.

    Raises:
        InputError: a file cannot be read as text, their line counts differ, or no pair is left.
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
    return Pairs([source for source, _ in kept], [target for _, target in kept], len(sources) - len(kept))


def read_lines(path: Path) -> list[str]:
    r"""The lines of a UTF-8 file, unpacked if its name ends in ``.gz``; at least one, none with its end of line.

    Lines end in ``\n`` or ``\r\n`` and nothing else; the last may lack it. A byte order mark is dropped.

    Raises:
        InputError: the file cannot be read, is broken, empty, longer than ``MAX_BYTES``, or not UTF-8.
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
    """The content of a file, unpacked if need be; raises InputError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(path, f"is longer than {MAX_BYTES >> 20} MiB", "Give a part of it.")
        data = read_regular(path)
        return _unpack(path, data) if path.suffix == ".gz" else data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(path, f"is not whole, or not gzip ({error})", REMEDY) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(path, getattr(error, "strerror", None) or error, REMEDY) from error


def _unpack(path: Path, data: bytes) -> bytes:
    """What gzip packed, taken piece by piece so that no bomb fills the memory; raises what gzip does, InputError."""
    unpacked = io.BytesIO()
    with gzip.open(io.BytesIO(data)) as file:
        while piece := file.read(CHUNK):
            unpacked.write(piece)
            if unpacked.tell() > MAX_BYTES:
                raise InputError(path, f"unpacks to more than {MAX_BYTES >> 20} MiB", "Give a part of it.")
    return unpacked.getvalue()
