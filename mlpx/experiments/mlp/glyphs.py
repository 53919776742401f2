"""Glyphs, a data set that needs no download: the ten digits in many typefaces, randomly transformed, with noise."""

import math
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from mlpx.experiments.mlp.settings import SIDE

NUM_TRAIN, NUM_TEST = 20_000, 5_000
TYPEFACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "cmb10",
    "cmr10",
    "cmss10",
    "cmtt10",
)
"""Fonts that matplotlib brings along."""

MAX_ANGLE = math.radians(15)
SCALES = (0.9, 1.2)
MAX_SHIFT = 2.0
"""In pixels, along either axis."""
NOISE_STD = 25.5
"""Standard deviation of the noise; pixels go from 0 to 255."""

# Each digit is drawn once in each typeface, twice as large as needed, and then transformed and scaled down.
_MASTER_SIDE = 56
_FONT_SIZE = 44
_IMAGES_AT_ONCE = 1000


def make(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A training and a test set: images (N, 28, 28) and labels (N,), uint8. They depend on ``seed`` alone."""
    generator = torch.Generator().manual_seed(seed)
    masters = _masters()
    return _draw(masters, NUM_TRAIN, generator), _draw(masters, NUM_TEST, generator)


def _masters() -> Tensor:
    """Each digit in each typeface, white on black: (number of typefaces, 10, 1, 56, 56)."""
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    images = []
    for typeface in TYPEFACES:
        font = ImageFont.truetype(str(folder / f"{typeface}.ttf"), _FONT_SIZE)
        for digit in "0123456789":
            image = Image.new("L", (_MASTER_SIDE, _MASTER_SIDE))
            middle = (_MASTER_SIDE / 2, _MASTER_SIDE / 2)
            ImageDraw.Draw(image).text(middle, digit, fill=255, font=font, anchor="mm")
            images.append(np.array(image))
    return torch.from_numpy(np.stack(images)).view(len(TYPEFACES), 10, 1, _MASTER_SIDE, _MASTER_SIDE)


def _draw(masters: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``count`` random images (N, 28, 28) and their labels (N,)."""
    labels = torch.randint(10, (count,), generator=generator)
    typefaces = torch.randint(len(masters), (count,), generator=generator)
    turn, scale, *shift = torch.rand(4, count, generator=generator)
    turn = (2 * turn - 1) * MAX_ANGLE
    zoom = 1 / (SCALES[0] + (SCALES[1] - SCALES[0]) * scale)
    x, y = ((2 * s - 1) * MAX_SHIFT / (SIDE / 2) for s in shift)
    rows = [zoom * turn.cos(), -zoom * turn.sin(), x, zoom * turn.sin(), zoom * turn.cos(), y]
    # Affine maps from the position of a pixel in the image to one in the large drawing, both in [-1, 1].
    maps = torch.stack(rows, dim=1).view(count, 2, 3)
    images = torch.empty(count, SIDE, SIDE, dtype=torch.uint8)
    for block in torch.arange(count).split(_IMAGES_AT_ONCE):
        grid = functional.affine_grid(maps[block], [len(block), 1, SIDE, SIDE], align_corners=False)
        digits = masters[typefaces[block], labels[block]].float()
        drawn = functional.grid_sample(digits, grid, align_corners=False).squeeze(1)
        drawn += NOISE_STD * torch.randn(drawn.shape, generator=generator)
        images[block] = drawn.round_().clamp_(0, 255).to(torch.uint8)
    return images, labels.to(torch.uint8)
