"""Time `mlpx report` and `mlpx export` on a sweep of 200 runs, and say how large the pages are.

    python benchmarks/reports.py [--seeds 10]

It trains a sweep of `poly`, twenty degrees with so many seeds, and one `mlp` on generated digits, in a temporary
folder. Each command is a process of its own; an export whose package is not installed is left out. The yardstick is a
Python process that imports matplotlib and saves an empty figure as SVG.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

MLPX = (sys.executable, "-m", "mlpx")
YARDSTICK = (
    *(sys.executable, "-c"),
    "import io; from matplotlib.figure import Figure; Figure().savefig(io.BytesIO(), format='svg')",
)


def seconds(command: Sequence[str], folder: Path) -> float:
    """How long the command takes."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweep = f"sweep poly --degree 0..19 --seed 0..{options.seeds - 1} --epochs 300 --into sweep --quiet"
        for command in (sweep, "mlp --dataset glyphs --epochs 2 --into run --quiet"):
            seconds([*MLPX, *command.split()], folder)
        print("| command | seconds | size |\n| --- | ---: | ---: |")
        print(f"| an empty figure of matplotlib | {seconds(YARDSTICK, folder):.1f} | |")
        for what, path in ((f"report of {20 * options.seeds} runs", "sweep"), ("report of one run of mlp", "run")):
            took = seconds([*MLPX, "report", path], folder)
            print(f"| {what} | {took:.1f} | {(folder / path / 'report.html').stat().st_size / 1e6:.2f} MB |")
        for package, place in (("tensorboard", "tb"), ("mlflow", "mlflow.db")):
            if importlib.util.find_spec(package) is None:
                continue
            for what in ("export to", "the same again, to"):
                took = seconds([*MLPX, "export", package, "sweep", "--to", place], folder)
                print(f"| {what} {package}, {20 * options.seeds} runs | {took:.1f} | |")


if __name__ == "__main__":
    main()
