"""Loss curves."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from mlpx.plots.figure import BLUE, GREEN, GREY, ORANGE, new_figure


def _plain_number(value: float, _position: object) -> str:
    return f"{value:g}" if 1e-3 <= value < 1e6 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def loss_curves(
    title: str, epochs: Sequence[float], curves: Mapping[str, Sequence[float]], floor: tuple[str, float] | None = None
) -> Figure:
    """Up to three losses by epoch on a log scale, with a dashed ``floor`` (label, loss) that none can stay below."""
    figure, axes = new_figure(title, "epoch", "mean squared error")
    for (label, losses), colour in zip(curves.items(), (BLUE, ORANGE, GREEN), strict=False):
        marker = "o" if len(losses) < 3 else None
        axes.plot(epochs, losses, label=label, color=colour, linewidth=2, marker=marker)
    if floor is not None and floor[1] > 0:
        axes.axhline(floor[1], label=floor[0], color=GREY, linewidth=1.2, linestyle="--")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(_plain_number))  # 0.01, not the slower 10^-2
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=11)
    return figure
