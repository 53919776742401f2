"""What ``mlpx compare`` says of the groups of a page."""

from collections.abc import Sequence
from pathlib import Path

from mlpx.reports.elements import Block, Cell, Table
from mlpx.runs import comparing, wording
from mlpx.runs.comparing import Comparison
from mlpx.runs.sides import read_groups
from mlpx.settings.metrics import Metric
from mlpx.sweeps.folder import Sweep

MOST_ROWS = 60
"""So many groups are compared with the first; more comparisons could tell nothing from chance, and take long."""


def block(sweep: Sweep, runs: Sequence[Path], metric: Metric) -> Block:
    """How the groups of a sweep compare with the first one in a metric, paired by seed.

    Raises:
        InputError: The first one has no finished run.
        UsageError: They cannot be compared.
    """
    base = sweep.design.cells[0] if sweep.request.options.one_at_a_time else None
    sides = read_groups(sweep.path, runs, sweep.design.varying, base, []).sides[: MOST_ROWS + 1]
    values = [side.group.values(metric.name) for side in sides]
    compared = comparing.compare([side.name for side in sides], {metric.name: values})
    first = sides[0].name
    if not compared:
        return Block("Comparison", words=[f"No seed has a finite {metric.title} in all groups."])
    if len(compared) <= 2:
        words = [f"{metric.title.capitalize()}: {wording.in_words(metric, each, each.other)}" for each in compared]
        return Block(f"Compared with {first}", words=[*words, wording.method(compared, first)])
    rows = [[Cell(each.other), *_cells(metric, each)] for each in compared]
    heads = ["runs", metric.title, f"{comparing.CONFIDENCE * 100:.0f} % interval", "p"]
    if not any(each.verdict in wording.TESTED for each in compared):
        heads, rows = heads[:2], [row[:2] for row in rows]
    said = [wording.method(compared, first)]
    if any(each.verdict == "more than chance" for each in compared):
        said.append("* is more than chance.")
    if few := [each for each in compared if each.verdict == "too few"]:
        n = len(few[0].seeds)
        said.append(f"{'1 seed is' if n == 1 else f'{n} seeds are'} too few to tell; {few[0].fewest} are the fewest.")
    table = Table(f"{metric.title.capitalize()} against {first}", heads, rows, is_sortable=True)
    return Block(f"Compared with {first}", words=said, tables=[table])


def _cells(metric: Metric, compared: Comparison) -> list[Cell]:
    size, interval, p = wording.difference(metric, compared)
    return [Cell(size, compared.difference), Cell(interval), Cell(p.strip(), compared.p_holm if p else None)]
