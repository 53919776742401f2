"""The commands and their options. Every failure ends here, with one line on stderr and its exit code."""

import gc
import importlib
import resource
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import typer

import mlpx
from mlpx import registry
from mlpx.cli import export_commands, options, reading_commands, streams, sweep_commands
from mlpx.cli.options import examples
from mlpx.errors import Bug, Interrupted, MachineError, MlpxError, UsageError, as_mlpx_error
from mlpx.runs import folder, reading
from mlpx.settings.base import Settings
from mlpx.settings.files import resolve
from mlpx.training import torchrun
from mlpx.training.signals import die_by

MIN_ADDRESS_SPACE = 2**30

app = typer.Typer(
    help="Train the experiments of a deep-learning textbook chapter, and keep what they learned.",
    pretty_exceptions_enable=False,
    # Plain help texts take half the time to print, and look right on any terminal.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; a run that a signal stopped ends the process by that signal."""
    with streams.protected():
        try:
            return int(_command(args=list(arguments), prog_name="mlpx", standalone_mode=False) or 0)
        except typer.TyperException as error:
            known: MlpxError = UsageError("usage", error.format_message().strip(), "See 'mlpx --help'.")
        except Exception as error:
            known = as_mlpx_error(error) or Bug(error, "Run it again with --debug to see where.")
            if "--debug" in arguments:
                traceback.print_exc()
        if isinstance(known, UsageError):
            known = options.several_values(arguments) or known
        if isinstance(known, Interrupted):
            if torchrun.tells(known):
                print(known, file=sys.stderr, flush=True)
            die_by(known.signum)
        if torchrun.tells(known):
            print(f"error: {known}", file=sys.stderr, flush=True)
        return known.exit_code


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"mlpx {mlpx.__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """The options of ``mlpx`` itself."""
    if context.invoked_subcommand not in (*registry.EXPERIMENTS, "resume"):
        torchrun.require_one_process(f"mlpx {context.invoked_subcommand}")


def add_training_command(model: type[Settings]) -> None:
    """Add the command that trains an experiment. Its options are made from ``model``, the experiment's settings."""

    @options.with_output
    @options.with_settings(model)
    def command(
        *,
        typed: Mapping[str, Any],
        config: Annotated[
            Path | None, typer.Option(help="TOML file of settings; options that are typed override it.")
        ] = None,
        name: Annotated[
            str | None, typer.Option(help="End of the run folder's name.  [default: from the settings]")
        ] = None,
        into: Annotated[
            Path | None,
            typer.Option(readable=False, help="Exactly this folder: made, or, if it is this run, continued."),
        ] = None,
        output: options.Output,
    ) -> None:
        if not model.is_distributed:
            torchrun.require_one_process(f"mlpx {model.experiment}")
        elif torchrun.place().rank:
            _import("train").follow(output)
            return
        settings = resolve(model, typed, config)
        end = settings.label if name is None else name
        folder.require_name(end)
        if into is not None:
            if name is not None:
                raise UsageError("--into and --name", "exclude each other", "Give one of them.")
            if reading.is_run(into):
                reading.require_settings(into, settings)
                _import("train").resume(into, None, output)
                return
        _import("train").train(settings, end, into, output)

    app.command(model.experiment, help=model.summary, epilog=examples(*model.examples))(command)


for _experiment in registry.EXPERIMENTS:
    add_training_command(registry.settings_class(_experiment))


app.add_typer(sweep_commands.commands, name="sweep")


def _import(name: str) -> ModuleType:
    """Import the module ``mlpx.cli.name``, which imports torch.

    That takes more than a second, so whatever can be refused without torch is refused before.

    Raises:
        MachineError: The address space is too small. Torch and numpy would end the process in ways of their own.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < MIN_ADDRESS_SPACE:
        size = (
            f"the address space is limited to {limit >> 20} MiB, less than the {MIN_ADDRESS_SPACE >> 20} MiB for torch"
        )
        raise MachineError("out of memory", size, "Raise the limit (ulimit -v).")
    module = importlib.import_module(f"mlpx.cli.{name}")
    # What the imports made stays until the end, so garbage collection, off until here, need not look at it.
    gc.freeze()
    gc.enable()
    return module


@app.command(
    "resume",
    help="Continue a run, bit for bit, or the runs of a sweep.",
    epilog=examples(
        "mlpx resume latest",
        "mlpx resume 20261123-041530-poly-degree19 --epochs 3000",
        "mlpx resume 20261126-101500-poly-sweep-degree --jobs 4",
    ),
)
@options.with_output
def resume(
    run: options.RunOrSweepArgument,
    *,
    epochs: Annotated[int | None, typer.Option(help="Train on to this many epochs, more than the run has.")] = None,
    jobs: options.Jobs = None,
    on: options.On = "local",
    sbatch: options.Sbatch = None,
    output: options.Output,
) -> None:
    """``mlpx resume RUN``."""
    from mlpx.cli.sweep import resume_sweep

    options.require_slurm(on, sbatch)
    if torchrun.place().rank:
        _import("train").follow(output)
        return
    if resume_sweep(run, epochs, output, jobs, on, sbatch or ""):
        return
    for option, is_given in {"--jobs": jobs is not None, "--on": on != "local"}.items():
        if is_given:
            raise UsageError(option, f"{run} is a run, and no sweep", "Leave it out.")
    path = reading.find(run, output.runs_dir)
    _require_distributed(path)
    _import("train").resume(path, epochs, output)


def _require_distributed(path: Path) -> None:
    """Refuse to go on in several processes with a run that only one can train."""
    settings = reading.settings_of(path)
    if not settings.is_distributed:
        torchrun.require_one_process(f"mlpx {settings.experiment}")


@app.command(
    help="Compute a run's metrics again; exit 3 if they differ.",
    epilog=examples("mlpx evaluate latest", "mlpx evaluate latest --data-dir other --json"),
)
def evaluate(
    run: options.RunArgument,
    dataset: Annotated[str | None, typer.Option(help="Evaluate on this data set instead; nothing is compared.")] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Evaluate on the data in this folder instead; nothing is compared.")
    ] = None,
    test_src: Annotated[
        str | None, typer.Option(help="Evaluate on the source sentences in this file instead; nothing is compared.")
    ] = None,
    test_tgt: Annotated[str | None, typer.Option(help="File of their reference translations.")] = None,
    device: options.Device = "auto",
    runs_dir: options.RunsDir = Path("runs"),
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """``mlpx evaluate RUN``."""
    path = reading.find(run, runs_dir)
    changes = {"dataset": dataset, "data_dir": data_dir, "test_src": test_src, "test_tgt": test_tgt}
    given = {name: value for name, value in changes.items() if value is not None}
    _import("evaluate").evaluate(path, given, device, as_json=json)


@app.command(
    help="Classify image files with a trained run of mlp.",
    epilog=examples("mlpx predict latest shirt.png", "mlpx predict latest *.png --json"),
)
def predict(
    run: options.RunArgument,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="Image file (PNG, JPEG and the like); a light background is inverted."),
    ],
    device: options.Device = "auto",
    runs_dir: options.RunsDir = Path("runs"),
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """``mlpx predict RUN IMAGE…``."""
    _import("predict").predict(reading.find(run, runs_dir), images, device, as_json=json)


@app.command(
    help="Translate text with a trained run of transformer.",
    epilog=examples(
        "mlpx translate latest '3 1 4 1 5'",
        "mlpx translate latest < input.txt > output.txt",
        "mlpx translate latest '3 1 4 1 5' --attention attention.png",
    ),
)
def translate(
    run: options.RunArgument,
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Line to translate; without any, the lines of standard input."),
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            metavar="<int>",
            help="Beam size, the hypotheses per line (1 is greedy decoding).  [default: the run's]",
        ),
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(min=0, max=10, metavar="<float>", help="Length penalty of beam search.  [default: the run's]"),
    ] = None,
    attention: Annotated[
        Path | None, typer.Option(help="PNG file to draw the attention weights of the first line into.")
    ] = None,
    device: options.Device = "auto",
    runs_dir: options.RunsDir = Path("runs"),
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """``mlpx translate RUN [TEXT…]``."""
    path = reading.find(run, runs_dir)
    _import("translate").translate(path, text or [], beam, length_penalty, attention, device, as_json=json)


app.add_typer(reading_commands.commands)
app.add_typer(export_commands.commands, name="export")

data = typer.Typer(help="Download data sets.", epilog=examples("mlpx data fetch fashion-mnist"))
app.add_typer(data, name="data")


@data.command(
    help="Download a data set, check it, and print its folder.",
    epilog=examples("mlpx data fetch fashion-mnist", "mlpx data fetch mnist --data-dir data"),
)
def fetch(
    name: Annotated[
        Literal["fashion-mnist", "mnist", "multi30k"],
        typer.Argument(metavar="NAME", help="Data set: fashion-mnist, mnist or multi30k."),
    ],
    data_dir: Annotated[
        str, typer.Option(help="Folder of data sets; without it $MLPX_DATA_DIR, or else the user's cache folder.")
    ] = "",
    debug: options.Debug = False,
) -> None:
    """``mlpx data fetch NAME``."""
    _import("data").fetch(name, data_dir)


# It is built at import, so that the runs of a sweep, which are forked from a process that has imported this, need not.
_command = typer.main.get_command(app)
