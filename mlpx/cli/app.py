"""The commands, and how each failure ends: one line on stderr and its exit code."""

import resource
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Annotated, Any

import typer

import mlpx
from mlpx.cli import options, streams
from mlpx.errors import Bug, Interrupted, MachineError, MlpxError, UsageError, as_mlpx_error
from mlpx.runs import folder
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
        typed = {name: given.pop(name) for name in model.model_fields}
        settings = resolve(model, typed, given.pop("config"))
        name = given.pop("name")
        name = settings.label if name is None else name
        folder.require_name(name)
        output = options.output(**given)
        _import_training().train(settings, name, output)

    app.command(model.experiment, help=summary, epilog=epilog)(options.with_parameters(command, parameters))


add_training_command(
    MODELS["poly"],
    "Fit a polynomial to noisy cubic data, and see it underfit, fit or overfit.",
    examples(
        "mlpx poly --degree 1",
        "mlpx poly --degree 19 --epochs 1500",
        "mlpx poly --config configs/poly-fit.toml --seed 7 --check 'test_loss < 0.05'",
    ),
)


def _import_training() -> ModuleType:
    """Import torch, last: what can be refused without it was.

    Raises:
        MachineError: the address space is too small; torch and numpy would end the process in ways of their own.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < MIN_ADDRESS_SPACE:
        size = (
            f"the address space is limited to {limit >> 20} MiB, less than the {MIN_ADDRESS_SPACE >> 20} MiB for torch"
        )
        raise MachineError("out of memory", size, "Raise the limit (ulimit -v).")
    from mlpx.cli import train

    return train


def _resume(run: str, epochs: int | None, **given: Any) -> None:
    output = options.output(**given)
    path = folder.find(run, output.runs_dir)
    _import_training().resume(path, epochs, output)


app.command(
    "resume",
    help="Go on with a run from its last checkpoint, bit for bit as if it had never stopped.",
    epilog=examples("mlpx resume latest", "mlpx resume 20261123-041530-poly-degree19 --epochs 3000"),
)(options.with_parameters(_resume, options.declared(options.resumed, options.output)))
