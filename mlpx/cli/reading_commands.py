"""The commands that only read runs. They import neither torch nor matplotlib, and numpy only where they compute."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlpx.cli import options
from mlpx.cli.options import examples

commands = typer.Typer()

Where = Annotated[
    list[str] | None,
    typer.Option(help="Only runs of which this holds, such as 'degree == 19' or 'status == failed'. Repeatable."),
]
Columns = Annotated[str | None, typer.Option(metavar="<a,b>", help="Columns to show, separated by commas.")]
Format = Annotated[options.Format, typer.Option(help="How the table is written.", show_default=True)]


@commands.command(
    "runs",
    help="List runs and sweeps; select, sort and group them.",
    epilog=examples(
        "mlpx runs",
        "mlpx runs 20261124-103000-poly-sweep-degree --min generalization_loss --first 1 --quiet",
        "mlpx runs --where 'degree == 19' --min test_loss",
        "mlpx runs --over seed --format csv",
        "mlpx predict $(mlpx runs --where 'experiment == mlp' --max test_accuracy --first 1 --quiet) shirt.png",
    ),
)
def list_runs(
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FOLDER",
            help="Sweeps, runs, or folders of them; without any, the runs folder. A sweep named here has a row a run;"
            " a sweep in a folder is one row, unless --where, --min, --max or --over selects among its runs.",
        ),
    ] = None,
    where: Where = None,
    min: Annotated[str | None, typer.Option(metavar="<name>", help="Sort by this metric, the lowest first.")] = None,  # noqa: A002
    max: Annotated[str | None, typer.Option(metavar="<name>", help="Sort by this metric, the highest first.")] = None,  # noqa: A002
    first: Annotated[int | None, typer.Option(min=1, metavar="<int>", help="Show only this many.")] = None,
    over: Annotated[
        Literal["seed"] | None,
        typer.Option(help="Show a row for the runs that differ in the seed alone: mean ± standard deviation, number."),
    ] = None,
    columns: Columns = None,
    format: Format = "table",  # noqa: A002
    runs_dir: options.RunsDir = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the paths of the runs and nothing else.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """``mlpx runs [FOLDER…]``."""
    from mlpx.cli.listing import Selection, list_runs

    selection = Selection(where or [], min, max, first, over, columns)
    list_runs(folders or [], selection, options.shape(format, quiet=quiet, json=json), runs_dir)


@commands.command(
    help="Show a run or a sweep on one screen: settings, result.",
    epilog=examples(
        "mlpx show latest",
        "mlpx show latest --curve test_accuracy --curve train_accuracy",
        "watch mlpx show latest",
    ),
)
def show(
    run: options.RunOrSweepArgument,
    curve: Annotated[
        list[str] | None,
        typer.Option(metavar="<name>", help="Metric to draw in place of the losses (test_accuracy). Repeatable."),
    ] = None,
    runs_dir: options.RunsDir = Path("runs"),
    quiet: options.Quiet = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """``mlpx show RUN``."""
    from mlpx.cli.show import show

    show(run, curve or [], options.shape("table", quiet=quiet, json=json), runs_dir)


@commands.command(
    help="Compare runs seed by seed: what differs, and is it chance?",
    epilog=examples(
        "mlpx compare runs/adam runs/muon",
        "mlpx compare 20261124-103000-poly-sweep-degree",
        "mlpx compare baseline latest --check 'test_accuracy_diff > -0.005' --format markdown",
    ),
)
def compare(
    sides: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Each a run, or a folder of runs that differ in the seed alone; each is compared with the first. Of"
            " a single sweep, each group of runs that differ in the seed alone.",
        ),
    ],
    where: Where = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show also the settings that are equal.")] = False,
    columns: Annotated[
        str | None,
        typer.Option(metavar="<a,b>", help="Metrics to compare, separated by commas.  [default: the main ones]"),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            help="Condition such as 'test_accuracy_diff > -0.005' or 'test_loss_ratio < 1.05'; exit 3 if it fails."
            " Repeatable."
        ),
    ] = None,
    format: Format = "table",  # noqa: A002
    runs_dir: options.RunsDir = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing: the exit code tells.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """``mlpx compare A B [C…]`` and ``mlpx compare SWEEP``."""
    from mlpx.cli.compare import compare

    shape = options.shape(format, quiet=quiet, json=json)
    compare(sides, where or [], columns, check or [], shape, runs_dir, show_all=show_all)


@commands.command(
    help="Write a report: one HTML page about runs, to be sent.",
    epilog=examples(
        "mlpx report latest",
        "mlpx report 20261124-103000-poly-sweep-degree",
        "mlpx report runs/adam runs/muon --out adam-or-muon.html",
    ),
)
def report(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Runs, sweeps, or folders of them: their paths or names, or latest."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file to write.  [default: report.html in the one folder given]", show_default=False),
    ] = None,
    where: Where = None,
    runs_dir: options.RunsDir = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the path of the page and nothing else.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """``mlpx report RUN|SWEEP…``."""
    from mlpx.cli.report import report

    report(runs, out, where or [], options.shape("table", quiet=quiet, json=json), runs_dir)
