"""Image files of any size, as the small grey images that a classifier knows."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from mlpx.errors import InputError
from mlpx.files import read_regular

SIDE = 28
MAX_BYTES = 64 * 2**20
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # all of which Pillow reads by itself


def read(path: Path) -> Tensor:
    """An image file as the data sets have them: light on a dark background, (28, 28), uint8.

    What is transparent is black. An image whose border is light is inverted; one that is not square is padded in the
    colour of its border; one of another size is scaled. A 28×28 grey image on black is taken as it is.

    Raises:
        InputError: the file cannot be read, or is not an image.
    """
    try:
        data = read_regular(path, MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"longer than {MAX_BYTES >> 20} MiB")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _as_in_data_sets(_grey(image))
    except MemoryError:
        raise
    except Exception as error:  # whatever a broken file makes a decoder raise
        known = "it is none that Pillow knows" if isinstance(error, UnidentifiedImageError) else None
        reason = known or getattr(error, "strerror", None) or error
        raise InputError(path, f"cannot be read as an image ({reason})", "Give a PNG, JPEG or the like.") from error


def _grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip at 255
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "black"), upright.convert("RGBA"))
    return upright.convert("L")


def _as_in_data_sets(image: Image.Image) -> Tensor:
    pixels = np.asarray(image)
    border = int(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))
    if border > 127:
        image, border = ImageOps.invert(image), 255 - border
    if image.size != (SIDE, SIDE):
        image = ImageOps.pad(image, (SIDE, SIDE), Image.Resampling.BOX, color=border)
    return torch.from_numpy(np.array(image))
