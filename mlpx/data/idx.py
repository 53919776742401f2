"""Images and labels in IDX files, plain or gzipped: http://yann.lecun.com/exdb/mnist, "File formats"."""

import gzip
import math
import os
import stat
import struct
import zlib
from pathlib import Path
from typing import IO, cast

import torch
from torch import Tensor

from mlpx.errors import InputError

UNSIGNED_BYTES = 0x08
KINDS = {1: "labels", 3: "images"}
MAX_COUNT = 300_000  # examples; more is absurd for these data sets
REMEDY = "Replace it, or remove it to have it downloaded."


def read(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The examples in an IDX file, each of ``shape``: (N, *shape), uint8.

    Nothing is allocated before the header is checked, and no more is unpacked than it announces.

    Raises:
        InputError: the file is missing, broken, or holds something else.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # never a wait for a fifo
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(path, "is not a regular file", REMEDY)
            if path.suffix != ".gz":
                return _parse(path, file, shape)
            with gzip.open(file) as unpacked:
                return _parse(path, cast(IO[bytes], unpacked), shape)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(path, f"is not whole, or not gzip ({error})", REMEDY) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(path, getattr(error, "strerror", None) or error, REMEDY) from error


def _parse(path: Path, file: IO[bytes], shape: tuple[int, ...]) -> Tensor:
    dimensions = 1 + len(shape)
    head = file.read(4 + 4 * dimensions)
    if len(head) < 4:
        raise InputError(path, "ends within its header" if head else "is empty", REMEDY)
    zeros, kind, found = struct.unpack_from(">HBB", head)
    if (zeros, kind) != (0, UNSIGNED_BYTES) or found not in KINDS:
        raise InputError(path, f"is not an IDX file of bytes: it begins with {head[:4].hex()}", REMEDY)
    if found != dimensions:
        raise InputError(path, f"holds {KINDS[found]} where {KINDS[dimensions]} are expected", REMEDY)
    if len(head) < 4 + 4 * dimensions:
        raise InputError(path, "ends within its header", REMEDY)
    count, *sizes = struct.unpack_from(f">{dimensions}I", head, 4)
    if tuple(sizes) != shape:
        expected, there = ("×".join(map(str, s)) for s in (shape, sizes))
        raise InputError(path, f"holds images of {there}, not of {expected}", REMEDY)
    if not 0 < count <= MAX_COUNT:
        raise InputError(path, f"announces {count} examples, not 1 to {MAX_COUNT}", REMEDY)
    size = count * math.prod(shape)
    data = bytearray(file.read(size))
    if len(data) < size:
        raise InputError(path, f"ends after {len(data)} of {size} bytes of data", REMEDY)
    if file.read(1):
        raise InputError(path, f"goes on after the {size} bytes of data that it announces", REMEDY)
    return torch.frombuffer(data, dtype=torch.uint8).view(count, *shape)
