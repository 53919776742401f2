"""Ten digits in many typefaces, turned, scaled, shifted and noised at random: a data set that needs no download."""

import math
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

NUM_TRAIN, NUM_TEST = 20_000, 5_000
SIDE = 28
TYPEFACES = (  # of those that matplotlib ships
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
    *("cmb10", "cmr10", "cmss10", "cmtt10"),
)

TURN = math.radians(15)
SCALES = (0.9, 1.2)
SHIFT = 2.0  # pixels
NOISE = 25.5  # standard deviation, of 255

_MASTER_SIDE, _MASTER_HEIGHT = 56, 44  # pixels of a digit before it is turned: twice the size, and its font's
_BLOCK = 1000


def make(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A training and a test set, each images (N, 28, 28) and labels (N,), uint8: a pure function of ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    masters = _masters()
    return _draw(masters, NUM_TRAIN, generator), _draw(masters, NUM_TEST, generator)


def _masters() -> Tensor:
    """Each digit in each typeface, white on black: (typefaces, 10, 1, 56, 56)."""
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    images = []
    for typeface in TYPEFACES:
        font = ImageFont.truetype(str(folder / f"{typeface}.ttf"), _MASTER_HEIGHT)
        for digit in "0123456789":
            image = Image.new("L", (_MASTER_SIDE, _MASTER_SIDE))
            middle = (_MASTER_SIDE / 2, _MASTER_SIDE / 2)
            ImageDraw.Draw(image).text(middle, digit, fill=255, font=font, anchor="mm")
            images.append(np.array(image))
    return torch.from_numpy(np.stack(images)).view(len(TYPEFACES), 10, 1, _MASTER_SIDE, _MASTER_SIDE)


def _draw(masters: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``count`` images (N, 28, 28) and their labels (N,)."""
    labels = torch.randint(10, (count,), generator=generator)
    typefaces = torch.randint(len(masters), (count,), generator=generator)
    turn, scale, *shift = torch.rand(4, count, generator=generator)
    turn = (2 * turn - 1) * TURN
    zoom = 1 / (SCALES[0] + (SCALES[1] - SCALES[0]) * scale)
    x, y = ((2 * s - 1) * SHIFT / (SIDE / 2) for s in shift)
    rows = [zoom * turn.cos(), -zoom * turn.sin(), x, zoom * turn.sin(), zoom * turn.cos(), y]
    maps = torch.stack(rows, dim=1).view(count, 2, 3)  # from a pixel's place to that in the master, in [-1, 1]
    images = torch.empty(count, SIDE, SIDE, dtype=torch.uint8)
    for block in torch.arange(count).split(_BLOCK):
        grid = functional.affine_grid(maps[block], [len(block), 1, SIDE, SIDE], align_corners=False)
        digits = masters[typefaces[block], labels[block]].float()
        drawn = functional.grid_sample(digits, grid, align_corners=False).squeeze(1)
        drawn += NOISE * torch.randn(drawn.shape, generator=generator)
        images[block] = drawn.round_().clamp_(0, 255).to(torch.uint8)
    return images, labels.to(torch.uint8)
