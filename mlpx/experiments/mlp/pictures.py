"""Reading image files of any size as the small gray images that the classifier was trained on."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from mlpx.errors import InputError, reason
from mlpx.experiments.mlp.settings import SIDE
from mlpx.files import read_regular

MAX_BYTES = 64 * 2**20
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""The formats that Pillow reads without calling other programs."""


def read(path: Path) -> Tensor:
    """The image in a file, in the form of the data sets: light on a dark background, (28, 28), uint8.

    Transparent pixels become black. An image with a light border is inverted, one that is not square is padded in the
    color of its border, and one of another size is scaled. A gray image of 28×28 pixels on black does not change.

    Raises:
        InputError: The file cannot be read, or is not an image.
    """
    try:
        data = read_regular(path, MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"longer than {MAX_BYTES >> 20} MiB")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _as_in_data_sets(_gray(image))
    except MemoryError:
        raise
    except Exception as error:  # a broken file can make a decoder raise anything
        why = "Pillow does not know its format" if isinstance(error, UnidentifiedImageError) else reason(error)
        raise InputError(path, f"cannot be read as an image ({why})", "Give a PNG, JPEG or the like.") from error


def _gray(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow would make everything above 255 white.
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
