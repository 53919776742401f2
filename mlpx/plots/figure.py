"""The style that all pictures share, and their PNG files."""

import io

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The palette of Okabe and Ito (2008), whose colors people with any color vision can tell apart.
BLUE, ORANGE, GREEN, GRAY = "#0072b2", "#d55e00", "#009e73", "#666666"

LEFT = 0.11


def new_figure(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """A figure of 1,280 × 720 pixels with one pair of axes."""
    figure = Figure(figsize=(8, 4.5), dpi=160)
    # The margins are fixed, since finding fitting ones would take a second drawing.
    figure.subplots_adjust(left=LEFT, right=0.97, top=0.91, bottom=0.12)
    axes = figure.subplots()
    axes.set_title(title, fontsize=13)
    plain(axes, xlabel, ylabel)
    return figure, axes


def plain(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Give axes their labels, a light grid and no box."""
    axes.set_xlabel(xlabel, fontsize=11)
    axes.set_ylabel(ylabel, fontsize=11)
    # The label's place does not depend on the width of the numbers.
    axes.yaxis.set_label_coords(-0.09, 0.5)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plain_number(value: float, _position: object) -> str:
    """A tick of a logarithmic axis: 0.01, and not 10^-2, which takes longer to draw."""
    return f"{value:g}" if 1e-3 <= value < 1e6 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def svg(figure: Figure) -> str:
    """The figure as an SVG file, in which text stays text; the same figure gives the same file."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mlpx"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
