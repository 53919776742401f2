"""The commands, and how each failure ends: one line on stderr and its exit code."""

import importlib
import resource
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import typer

import mlpx
from mlpx.cli import options, streams
from mlpx.errors import Bug, Interrupted, MachineError, MlpxError, UsageError, as_mlpx_error
from mlpx.runs import folder, reading
from mlpx.settings import MODELS
from mlpx.settings.base import Settings
from mlpx.settings.files import resolve
from mlpx.training.signals import die_by

MIN_ADDRESS_SPACE = 2**30

app = typer.Typer(
    help="Train the experiments of a deep-learning textbook chapter, and keep what they learned.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: half as long to print, and right on any terminal
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line and return the exit code; one that a signal stopped dies by it instead."""
    with streams.protected():
        try:
            return int(app(args=list(arguments), prog_name="mlpx", standalone_mode=False) or 0)
        except typer.TyperException as error:
            known: MlpxError = UsageError("usage", error.format_message().strip(), "See 'mlpx --help'.")
        except Exception as error:
            known = as_mlpx_error(error) or Bug(error, "Run it again with --debug to see where.")
            if "--debug" in arguments:
                traceback.print_exc()
        if isinstance(known, Interrupted):
            print(known, file=sys.stderr, flush=True)
            die_by(known.signum)
        print(f"error: {known}", file=sys.stderr, flush=True)
        return known.exit_code


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"mlpx {mlpx.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Nothing is common to the commands but the version."""


def examples(*lines: str) -> str:
    """A help text's last part: commands to copy."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def add_training_command(model: type[Settings], summary: str, epilog: str) -> None:
    """Add the command that trains ``model``'s experiment, its options made from the model."""
    parameters = options.settings(model) + options.declared(options.source, options.output)

    def command(**given: Any) -> None:
        settings = resolve(model, options.typed(model, given), given.pop("config"))
        name = given.pop("name")
        name = settings.label if name is None else name
        folder.require_name(name)
        output = options.output(**given)
        _import("train").train(settings, name, output)

    app.command(model.experiment, help=summary, epilog=epilog)(options.with_parameters(command, parameters))


add_training_command(
    MODELS["poly"],
    "Fit a polynomial to noisy cubic data, and see it underfit, fit or overfit.",
    examples(
        "mlpx poly --degree 1",
        "mlpx poly --degree 19 --epochs 1500",
        "mlpx poly --degree 19 --epochs 1500 --replicas 100 --check 'max_test_loss < 2'",
        "mlpx poly --config configs/poly-fit.toml --seed 7 --check 'test_loss < 0.05'",
    ),
)

add_training_command(
    MODELS["mlp"],
    "Train a multilayer perceptron to tell images of ten classes apart: Fashion-MNIST, MNIST, or glyphs made here.",
    examples(
        "mlpx mlp --dataset glyphs",
        "mlpx mlp --data-dir data --check 'test_accuracy > 0.7'",
        "mlpx mlp --hidden 512 --hidden 256 --dropout 0.2 --momentum 0.9 --lr 0.02",
        "mlpx mlp --hidden none --name softmax-regression",
        "mlpx mlp --config configs/mlp-best.toml --replicas 3",
    ),
)

add_training_command(
    MODELS["transformer"],
    "Train the Transformer of 'Attention Is All You Need' to reverse numbers, or to translate sentences.",
    examples(
        "mlpx transformer",
        "mlpx transformer --config configs/transformer-reverse.toml --check 'test_exactness > 0.99'",
        "mlpx transformer --task text --train-src train.en --train-tgt train.de --val-src val.en --val-tgt val.de"
        " --test-src test.en --test-tgt test.de",
        "mlpx transformer --task multi30k --target fr --d-model 128 --dropout 0.3 --beam 5",
    ),
)


def _import(name: str) -> ModuleType:
    """Import one of the modules of this room that need torch, last: what can be refused without it was.

    Raises:
        MachineError: the address space is too small; torch and numpy would end the process in ways of their own.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < MIN_ADDRESS_SPACE:
        size = (
            f"the address space is limited to {limit >> 20} MiB, less than the {MIN_ADDRESS_SPACE >> 20} MiB for torch"
        )
        raise MachineError("out of memory", size, "Raise the limit (ulimit -v).")
    return importlib.import_module(f"mlpx.cli.{name}")


def _resume(run: str, epochs: int | None, **given: Any) -> None:
    output = options.output(**given)
    path = reading.find(run, output.runs_dir)
    _import("train").resume(path, epochs, output)


app.command(
    "resume",
    help="Go on with a run from its last checkpoint, bit for bit as if it had never stopped.",
    epilog=examples("mlpx resume latest", "mlpx resume 20261123-041530-poly-degree19 --epochs 3000"),
)(options.with_parameters(_resume, options.declared(options.resumed, options.output)))


@app.command(
    help="Compute a run's final figures again from its weights; exit 3 if they differ from those recorded.",
    epilog=examples("mlpx evaluate latest", "mlpx evaluate latest --data-dir other --json"),
)
def evaluate(
    run: options.RunArgument,
    dataset: Annotated[str | None, typer.Option(help="Score it on this data set instead, and compare nothing.")] = None,
    data_dir: Annotated[str | None, typer.Option(help="Score it on the data in this folder, likewise.")] = None,
    test_src: Annotated[
        str | None, typer.Option(help="Translate the sentences in this file instead, likewise.")
    ] = None,
    test_tgt: Annotated[str | None, typer.Option(help="And compare with those in this one.")] = None,
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
    help="Classify image files by what a run of mlp learned.",
    epilog=examples("mlpx predict latest shirt.png", "mlpx predict latest *.png --json"),
)
def predict(
    run: options.RunArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="PNG, JPEG and the like; a light background is made dark.")
    ],
    device: options.Device = "auto",
    runs_dir: options.RunsDir = Path("runs"),
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """``mlpx predict RUN IMAGE…``."""
    _import("predict").predict(reading.find(run, runs_dir), images, device, as_json=json)


@app.command(
    help="Translate lines of text, the arguments or else standard input, by what a run of transformer learned.",
    epilog=examples(
        "mlpx translate latest '3 1 4 1 5'",
        "mlpx translate latest < input.txt > output.txt",
        "mlpx translate latest '3 1 4 1 5' --attention attention.png",
    ),
)
def translate(
    run: options.RunArgument,
    text: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="A line to translate.")] = None,
    beam: Annotated[
        int | None,
        typer.Option(min=1, max=1000, metavar="<int>", help="Hypotheses a line; the run's own if not given."),
    ] = None,
    length_penalty: Annotated[
        float | None, typer.Option(min=0, max=10, metavar="<float>", help="As in training; the run's own if not given.")
    ] = None,
    attention: Annotated[Path | None, typer.Option(help="Draw who attends to whom in the first line, as PNG.")] = None,
    device: options.Device = "auto",
    runs_dir: options.RunsDir = Path("runs"),
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """``mlpx translate RUN [TEXT…]``."""
    path = reading.find(run, runs_dir)
    _import("translate").translate(path, text or [], beam, length_penalty, attention, device, as_json=json)


data = typer.Typer(help="Data sets.", epilog=examples("mlpx data fetch fashion-mnist"))
app.add_typer(data, name="data")


@data.command(
    help="Download a data set, unless it is there, check it, and print its folder.",
    epilog=examples("mlpx data fetch fashion-mnist", "mlpx data fetch mnist --data-dir data"),
)
def fetch(
    name: Annotated[
        Literal["fashion-mnist", "mnist", "multi30k"],
        typer.Argument(metavar="NAME", help="fashion-mnist, mnist or multi30k."),
    ],
    data_dir: Annotated[
        str, typer.Option(help="Folder of data sets; else $MLPX_DATA_DIR, else in the user's cache folder.")
    ] = "",
    debug: options.Debug = False,
) -> None:
    """``mlpx data fetch NAME``."""
    _import("data").fetch(name, data_dir)
