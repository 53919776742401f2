"""Reading images and labels from IDX files, plain or gzipped.

The format is described at http://yann.lecun.com/exdb/mnist, "File formats".
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO, cast

import torch
from torch import Tensor

from mlpx.errors import InputError, reason
from mlpx.files import open_regular

UNSIGNED_BYTES = 0x08
KINDS = {1: "labels", 3: "images"}
"""What a file holds, by its number of dimensions."""
MAX_COUNT = 300_000
"""A header that announces more examples is broken: these data sets have at most 60,000."""
REMEDY = "Replace it, or remove it to have it downloaded."


def read(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The examples in an IDX file: (N, *shape), uint8.

    The header is checked before memory is allocated, and no more is unpacked than the header announces.

    Args:
        path: The file; it is unpacked if its name ends in ``.gz``.
        shape: The shape of each example, () for labels.

    Raises:
        InputError: The file is missing, broken, or holds something else.
    """
    try:
        with open_regular(path) as file:
            if path.suffix != ".gz":
                return _parse(path, file, shape)
            with gzip.open(file) as unpacked:
                return _parse(path, cast(IO[bytes], unpacked), shape)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(path, f"is not whole, or not gzip ({error})", REMEDY) from error
    except (OSError, ValueError) as error:
        raise InputError(path, reason(error), REMEDY) from error


def _parse(path: Path, file: IO[bytes], shape: tuple[int, ...]) -> Tensor:
    dimensions = 1 + len(shape)
    head = file.read(4 + 4 * dimensions)
    if len(head) < 4:
        raise InputError(path, "ends within its header" if head else "is empty", REMEDY)
    zeros, kind, rank = struct.unpack_from(">HBB", head)
    if (zeros, kind) != (0, UNSIGNED_BYTES) or rank not in KINDS:
        raise InputError(path, f"is not an IDX file of bytes: it begins with {head[:4].hex()}", REMEDY)
    if rank != dimensions:
        raise InputError(path, f"holds {KINDS[rank]} where {KINDS[dimensions]} are expected", REMEDY)
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
