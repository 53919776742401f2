"""Drawing attention weights: which tokens each attention head looks at."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.gridspec import GridSpec
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from mlpx.plots.figure import GRAY

MAX_HEADS = 8
MAX_TOKENS = 30  # on each axis
MAX_LETTERS = 10  # of a token
# Letters make most of a file's bytes; with so many in all, it stays below 400 kB.
MAX_INK = 2180
FEW_HEADS = 2
COLORS = "Blues"

# Lengths in points.
WIDTH, HEIGHT = 1152, 648
TOP = 43  # height of the title and the color bar
LINE = 15  # height of a line of text
ROLE = 33  # width of the words "query" and "key"
EDGE, GAP, PAD = 11, 9, 6
SIZES = (11, 10, 9, 8, 7)  # of the font in which tokens are written

FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")  # matplotlib ships it
MISSING = "□"


class AttentionPanel(NamedTuple):
    """One kind of attention: the ``weights`` (H, Q, K) of H heads for Q queries and K keys; each row sums to one."""

    name: str
    queries: Sequence[str]
    keys: Sequence[str]
    weights: NDArray[np.float32]


def attention_figure(title: str, panels: Sequence[AttentionPanel]) -> Figure:
    """A row of heads for each panel, or, where there are one or two heads, a column; all have one scale of colors."""
    panels = [_shown(each) for each in panels]
    in_rows = max(len(each.weights) for each in panels) > FEW_HEADS
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=120)
    figure.suptitle(_legible(title), fontsize=16, y=1 - EDGE / HEIGHT, va="top", parse_math=False)
    reach = _reach(panels)
    _draw_scale(figure, reach)
    grid, font = _grid(figure, panels, in_rows)
    every = _every(panels)
    for i, each in enumerate(panels):
        name, _, cuts = each.name.partition("\n")
        for head, weights in enumerate(each.weights):
            axes = figure.add_subplot(grid[i, head] if in_rows else grid[head, i])
            axes.imshow(weights, cmap=COLORS, vmin=0, vmax=reach, aspect="auto", interpolation="nearest")
            axes.spines[:].set(color="#aaaaaa", linewidth=0.6)
            axes.tick_params(length=0, pad=2)
            caption = f"head {head + 1}" if in_rows else f"{name}, head {head + 1}\n{cuts}".strip()
            axes.set_title(caption, fontsize=10, pad=3, parse_math=False)
            _name_keys(axes, each.keys, font, every)
            if in_rows and head > 0:
                axes.set_yticks([])
            else:
                _name_queries(axes, each.queries, font)
            if in_rows and head == 0:
                _beside(axes, EDGE, name, 11, "bold")
                _beside(axes, EDGE + LINE + 3, cuts, 9, "normal")
    return figure


def _shown(whole: AttentionPanel) -> AttentionPanel:
    """As much of a panel as there is room for; lines below its name say what was left out."""
    limits = {"heads": MAX_HEADS, "queries": MAX_TOKENS, "keys": MAX_TOKENS}
    sizes = zip(whole.weights.shape, limits.items(), strict=True)
    cuts = [f"\nfirst {limit} of {size} {what}" for size, (what, limit) in sizes if size > limit]
    queries, keys = ([_word(token) for token in tokens[:MAX_TOKENS]] for tokens in (whole.queries, whole.keys))
    weights = whole.weights[:MAX_HEADS, :MAX_TOKENS, :MAX_TOKENS]
    return AttentionPanel(_legible(whole.name) + "".join(cuts), queries, keys, weights)


def _word(token: str) -> str:
    """A token without the mark that begins a word, shortened if it is long."""
    word = _legible(token.removeprefix("▁") or token)
    return word if len(word) <= MAX_LETTERS else word[: MAX_LETTERS - 1] + "…"


def _legible(text: str) -> str:
    """The text with a box for each character that the font lacks; matplotlib would warn of these."""
    font = get_font(FONT)
    return "".join(c if c.isprintable() and font.get_char_index(ord(c)) else MISSING for c in text)


def _reach(panels: Sequence[AttentionPanel]) -> float:
    """The weight of the darkest color, a multiple of 0.2: for 19 of 20 queries, no key has a larger weight."""
    largest = np.concatenate([each.weights.max(axis=2).ravel() for each in panels])
    return min(math.ceil(5 * float(np.quantile(largest, 0.95))) / 5, 1.0)


def _draw_scale(figure: Figure, reach: float) -> None:
    width, height = 115, 7
    axes = figure.add_axes((1 - (EDGE + width) / WIDTH, 1 - 2 * EDGE / HEIGHT, width / WIDTH, height / HEIGHT))
    colors = ScalarMappable(Normalize(0, reach), COLORS)
    beyond = "neither" if reach == 1 else "max"
    figure.colorbar(colors, axes, orientation="horizontal", ticks=[0, reach], format="%g", extend=beyond)
    axes.tick_params(labelsize=8, length=2, pad=1)
    axes.text(-0.05, 0.5, "weight", ha="right", va="center", fontsize=9, transform=axes.transAxes)


def _grid(figure: Figure, panels: Sequence[AttentionPanel], in_rows: bool) -> tuple[GridSpec, FontProperties]:
    """The places of the heads, and the font: the largest in which every token can be written, else the smallest."""
    heads = max(len(each.weights) for each in panels)
    rows, columns = (len(panels), heads) if in_rows else (heads, len(panels))
    lines = LINE * max(each.name.count("\n") + 1 for each in panels)
    name, above = (lines + PAD, LINE) if in_rows else (0, lines)
    for size in SIZES:
        font = FontProperties(fname=FONT, size=size)
        left = PAD + max(ROLE, *(_length(token, font) for each in panels for token in each.queries))
        below = PAD + max(LINE, *(_length(token, font) for each in panels for token in each.keys))
        gap = GAP if in_rows else left + 2 * EDGE
        width = (WIDTH - 2 * EDGE - name - left - (columns - 1) * gap) / columns
        height = min((HEIGHT - TOP - EDGE) / rows - above - below, 1.25 * width)
        if all(1.1 * size <= min(height / len(each.queries), width / len(each.keys)) for each in panels):
            break
    spare = HEIGHT - TOP - EDGE - rows * (above + height + below)
    grid = figure.add_gridspec(
        rows,
        columns,
        left=(EDGE + name + left) / WIDTH,
        right=1 - EDGE / WIDTH,
        top=1 - (TOP + spare / 2 + above) / HEIGHT,
        bottom=(EDGE + spare / 2 + below) / HEIGHT,
        wspace=gap / width,
        hspace=(above + below) / height,
    )
    return grid, font


def _every(panels: Sequence[AttentionPanel]) -> int:
    """1 if every key can be named below every head within ``MAX_INK`` letters, 2 if every second can, and so on."""
    queries = sum(len("".join(each.queries)) for each in panels)
    keys = sum(len("".join(each.keys)) * len(each.weights) for each in panels)
    return math.ceil(keys / max(MAX_INK - queries, 1))


def _name_keys(axes: Axes, tokens: Sequence[str], font: FontProperties, every: int) -> None:
    """Write tokens below a head: wide ones are rotated, and where these are more than two, all are."""
    pitch = axes.get_position().width * WIDTH / len(tokens)
    step = max(_step(pitch, font), every)
    axes.set_xticks(range(0, len(tokens), step), tokens[::step], fontproperties=font, parse_math=False)
    wide = [_length(token, font) > 0.8 * pitch * step for token in tokens[::step]]
    for label, is_wide in zip(axes.get_xticklabels(), wide, strict=True):
        label.set_rotation(90 if is_wide or sum(wide) > 2 else 0)


def _name_queries(axes: Axes, tokens: Sequence[str], font: FontProperties) -> None:
    """Write tokens to the left of a head, and at its corners what the two axes stand for."""
    step = _step(axes.get_position().height * HEIGHT / len(tokens), font)
    axes.set_yticks(range(0, len(tokens), step), tokens[::step], fontproperties=font, parse_math=False)
    _role(axes, "query ↓", (0, 1), (-PAD, 3), "bottom")
    _role(axes, "key →", (0, 0), (-PAD, -PAD), "top")


def _step(pitch: float, font: FontProperties) -> int:
    """1 if there is room to name every token, 2 if there is room for every second, and so on."""
    return math.ceil(0.85 * font.get_size_in_points() / pitch)


def _length(text: str, font: FontProperties) -> float:
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def _role(axes: Axes, text: str, corner: tuple[float, float], offset: tuple[float, float], va: str) -> None:
    axes.annotate(
        text,
        corner,
        offset,
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va=va,
        fontsize=9,
        color=GRAY,
        style="italic",
    )


def _beside(axes: Axes, x: float, text: str, size: float, weight: str) -> None:
    """Write one or more lines of text upwards along the left edge of the figure."""
    place = ("figure points", "axes fraction")
    axes.annotate(
        text,
        (x, 0.5),
        xycoords=place,
        rotation=90,
        va="center",
        ma="center",
        fontsize=size,
        fontweight=weight,
        parse_math=False,
    )
