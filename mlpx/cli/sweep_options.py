"""Options of ``mlpx sweep``: which runs are made of the values, and how they are carried out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mlpx.cli import options
from mlpx.errors import UsageError

OneAtATime = Annotated[
    bool | None,
    typer.Option(
        "--one-at-a-time",
        help="Change one setting at a time: the first values make the base, each other value is a change.",
    ),
]
Cells = Annotated[
    str | None,
    typer.Option(
        metavar="<file|->",
        help="CSV file whose columns are settings, a row a run; with values beside it, each row with each.",
    ),
]
Cores = Annotated[int | None, typer.Option(metavar="<int>", help="Threads of each run.  [default: 1]")]
Gpus = Annotated[
    float | None,
    typer.Option(metavar="<float>", help="GPUs of each run (0.5: two share one).  [default: 1 where there is a GPU]"),
]
Into = Annotated[
    Path | None, typer.Option(readable=False, help="Exactly this folder: made, or extended by the runs that it lacks.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the command of each run, and do nothing else.")]
Config = Annotated[
    Path | None, typer.Option(help="TOML file of settings or of a sweep; options that are typed override it.")
]
Name = Annotated[
    str | None, typer.Option(help="End of the sweep folder's name.  [default: from the settings that vary]")
]
Device = Annotated[str | None, typer.Option(help="Device of each run: auto, cpu, cuda or cuda:N.  [default: auto]")]
CheckpointEvery = Annotated[
    float | None, typer.Option(metavar="<float>", help="Seconds between checkpoints.  [default: 30]")
]
CheckEach = Annotated[
    list[str] | None,
    typer.Option(help="Condition on a final metric of each run ('test_loss < 0.05'); exit 3 if it fails. Repeatable."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the sweep folder's path and nothing else.")]


class SweepOptions:
    """The options; ``request`` has those of :class:`mlpx.sweeps.request.Options`, ``None`` for what was not typed."""

    def __init__(
        self,
        *,
        one_at_a_time: OneAtATime = None,
        cells: Cells = None,
        jobs: options.Jobs = None,
        on: options.On = "local",
        sbatch: options.Sbatch = None,
        cores: Cores = None,
        gpus: Gpus = None,
        into: Into = None,
        dry_run: DryRun = False,
        config: Config = None,
        name: Name = None,
        device: Device = None,
        runs_dir: options.RunsDir = Path("runs"),
        checkpoint_every: CheckpointEvery = None,
        check: CheckEach = None,
        quiet: Quiet = False,
        json: options.Json = False,
        debug: options.Debug = False,
    ) -> None:
        """Check what excludes each other.

        Raises:
            UsageError: ``--quiet`` and ``--json`` are both given, or ``--into`` and ``--name``.
        """
        options.shape("table", quiet=quiet, json=json)
        if into is not None and name is not None:
            raise UsageError("--into and --name", "exclude each other", "Give one of them.")
        options.require_slurm(on, sbatch)
        self.cells = cells
        self.request: dict[str, Any] = {
            "one_at_a_time": one_at_a_time,
            "cores": cores,
            "gpus": gpus,
            "device": device,
            "checkpoint_every": checkpoint_every,
            "check": check or None,
        }
        self.config, self.dry_run = config, dry_run
        self.runs_dir, self.into, self.name = runs_dir, into, name
        self.jobs, self.on, self.sbatch = jobs, on, sbatch or ""
        self.quiet, self.json = quiet, json
