"""``mlpx export tensorboard`` and ``mlpx export mlflow``: runs, to where people look at the runs of other programs."""

from pathlib import Path
from typing import Annotated

import typer

from mlpx.cli import options
from mlpx.cli.options import examples
from mlpx.cli.reading_commands import Where

commands = typer.Typer(help="Export runs to TensorBoard or MLflow.")

Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN", help="Runs, sweeps, or folders of them: each a path, a name in the runs folder, or latest."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the place and nothing else.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@commands.command(
    "tensorboard",
    help="Write an event file of each run, for TensorBoard.",
    epilog=examples(
        "mlpx export tensorboard latest --to tb",
        "mlpx export tensorboard runs --to tb --where 'status == finished'",
        "tensorboard --logdir tb",
    ),
)
def tensorboard(
    runs: Runs,
    to: Annotated[
        Path, typer.Option(readable=False, help="Folder to write into: a folder a run. Of an earlier export, it adds.")
    ],
    where: Where = None,
    runs_dir: options.RunsDir = Path("runs"),
    quiet: Quiet = False,
    json: Json = False,
    debug: options.Debug = False,
) -> None:
    """``mlpx export tensorboard RUN… --to FOLDER``."""
    from mlpx.cli.export import to_tensorboard

    to_tensorboard(runs, where or [], to, options.shape("table", quiet=quiet, json=json), runs_dir)


@commands.command(
    "mlflow",
    help="Write runs to an MLflow server or an SQLite file.",
    epilog=examples(
        "mlpx export mlflow latest --to mlflow.db",
        "mlpx export mlflow runs --to http://localhost:5000",
        "mlflow server --backend-store-uri sqlite:///mlflow.db",
    ),
)
def mlflow(
    runs: Runs,
    to: Annotated[
        str,
        typer.Option(
            metavar="<file|uri>", help="SQLite file (mlflow.db, sqlite:///mlflow.db) or server (http://HOST:5000)."
        ),
    ],
    where: Where = None,
    runs_dir: options.RunsDir = Path("runs"),
    quiet: Quiet = False,
    json: Json = False,
    debug: options.Debug = False,
) -> None:
    """``mlpx export mlflow RUN… --to PLACE``."""
    from mlpx.cli.export import to_mlflow

    to_mlflow(runs, where or [], to, options.shape("table", quiet=quiet, json=json), runs_dir)
