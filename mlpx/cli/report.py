"""``mlpx report``: one HTML file about runs."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from mlpx.cli import streams
from mlpx.cli.options import Shape
from mlpx.errors import MachineError, UsageError, reason
from mlpx.files import write_file
from mlpx.reports.choosing import read_parts
from mlpx.reports.page import render
from mlpx.runs import reading
from mlpx.sweeps import folder

FILE = "report.html"


def report(references: Sequence[str], out: Path | None, where: Sequence[str], shape: Shape, runs_dir: Path) -> None:
    """Write the page, and print its path.

    Args:
        references: Each of a run, of a sweep, or of a folder of these.
        out: The file; without it, ``report.html`` in the one folder given.
        where: Conditions on the runs, as ``--where`` takes them.
        shape: What is printed: the path, or JSON.
        runs_dir: The runs folder.

    Raises:
        InputError: There is no such run, or none is left.
        MachineError: The file cannot be written.
        UsageError: A condition cannot be used, or ``out`` is missing.
    """
    parts, warnings = read_parts(references, where, runs_dir)
    place = (out or _default(references, runs_dir)).absolute()
    for warning in warnings:
        streams.warn(warning)
    page = render(parts, warnings)
    try:
        write_file(place, page.encode())
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise MachineError(place, f"cannot be written: {reason(error)}", "Choose another --out.") from error
    if shape == "json":
        print(json.dumps({"report": str(place), "runs": sum(len(part.records) for part in parts)}))
    else:
        print(place)


def _default(references: Sequence[str], runs_dir: Path) -> Path:
    """``report.html`` in the folder of the run or the sweep.

    Raises:
        UsageError: There are several, or it is a folder of several.
    """
    if len(references) == 1:
        sweep = folder.find(references[0], runs_dir)
        if sweep is not None:
            return sweep / FILE
        runs, sweeps = reading.find_inside(references[0], runs_dir)
        if (
            len(runs) == 1
            and not sweeps
            and os.path.realpath(runs[0])
            in (os.path.realpath(place) for place in reading.places(references[0], runs_dir))
        ):
            return runs[0] / FILE
    raise UsageError("report", "these are several folders", "Say where the page shall lie: --out FILE.")
