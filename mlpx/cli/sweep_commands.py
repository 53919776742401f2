"""``mlpx sweep EXPERIMENT``: a command an experiment, whose options take values instead of a value."""

from collections.abc import Mapping

import typer

from mlpx import registry
from mlpx.cli import options
from mlpx.cli.options import examples
from mlpx.cli.sweep_options import SweepOptions
from mlpx.settings.base import Settings

GRAMMAR = (
    "Each setting takes values: 1,3,19 or 0..9 (both ends) or 0..9..3 (steps) or 0.001..1..x10 (factors); lists by x"
    " (none,256,512x256). All combinations are trained, the last setting changing fastest."
)

commands = typer.Typer(help="Train many runs: several values of a setting.")


def add_command(model: type[Settings]) -> None:
    """Add the command for an experiment. Its options are made from ``model``, the experiment's settings."""

    @options.with_output
    @options.with_values(model)
    def command(*, typed: Mapping[str, str], output: SweepOptions) -> None:
        from mlpx.cli.sweep import sweep

        sweep(model, typed, output)

    text = f"Train many runs of {model.experiment}.\n\n{GRAMMAR}"
    commands.command(model.experiment, help=text, epilog=examples(*model.sweep_examples))(command)


for _experiment in registry.EXPERIMENTS:
    add_command(registry.settings_class(_experiment))
