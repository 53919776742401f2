"""Options of the commands: an experiment's settings, generated from their model, and where the output goes."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from mlpx.errors import UsageError
from mlpx.runs import checks
from mlpx.runs.checks import Check
from mlpx.settings.base import ReplicatedSettings, Settings, allowed, is_list, item

Parameters = list[inspect.Parameter]

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run folder's path, its name inside the runs folder, or latest.")
]
Device = Annotated[str, typer.Option(help="auto (CUDA where there is one), cpu, cuda or cuda:N.")]
RunsDir = Annotated[Path, typer.Option(envvar="MLPX_RUNS_DIR", help="Folder of run folders.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@dataclass(frozen=True)
class Output:
    """Options that say how a run is carried out and shown, and never change its numbers."""

    device: str
    runs_dir: Path
    quiet: bool
    json: bool
    checks: Sequence[Check]
    checkpoint_every: float


def output(
    *,
    device: Device = "auto",
    runs_dir: RunsDir = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the run folder's path alone.")] = False,
    json: Json = False,
    check: Annotated[
        list[str] | None, typer.Option(help="Exit 3 unless it holds at the end: 'test_loss < 0.05'. Repeatable.")
    ] = None,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 30.0,
    debug: Debug = False,
) -> Output:
    """The output options, checked; this signature is where they are declared."""
    if quiet and json:
        raise UsageError("--quiet and --json", "exclude each other", "Give one of them.")
    if not (math.isfinite(checkpoint_every) and checkpoint_every >= 0):
        raise UsageError("--checkpoint-every", f"{checkpoint_every} cannot be used", "Give a number of at least 0.")
    return Output(device, runs_dir, quiet, json, [checks.parse(text) for text in check or []], checkpoint_every)


def source(
    *,
    config: Annotated[Path | None, typer.Option(help="Settings from a TOML file; typed options override it.")] = None,
    name: Annotated[str | None, typer.Option(help="End of the run folder's name.")] = None,
) -> None:
    """Declares what only a new run has: a settings file and a name."""


def resumed(
    run: RunArgument,
    *,
    epochs: Annotated[int | None, typer.Option(help="Train on to this many, more than the run has.")] = None,
) -> None:
    """Declares what only a resumed run has: which, and for how much longer."""


def settings(model: type[Settings]) -> Parameters:
    """An option for each setting, the experiment's own first; each defaults to "not typed"."""
    own_first = sorted(model.model_fields.items(), key=lambda item: item[0] in ReplicatedSettings.model_fields)
    parameters = []
    for name, field in own_first:
        kind, metavar, values, default = field.annotation, None, allowed(field), str(field.default)
        if kind is bool:
            default = default.lower()
        if is_list(field):
            kind, metavar = list[str], "<int|none>"
            values = f"{allowed(item(field))}; repeat it for more layers, none for no layer"
            default = " ".join(map(str, field.default))
        told = kind in (int, float, list[str])  # choices stand in the metavar, and text may be any
        text = f"{field.description}{f': {values}' * told}." + (f"  [default: {default}]" if default else "")
        option = typer.Option(help=text, show_default=False, metavar=metavar)
        annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return parameters


def typed(model: type[Settings], given: dict[str, Any]) -> dict[str, Any]:
    """The settings among the options ``given``, taken out of them; a lone ``none`` is an empty list."""
    taken = {name: given.pop(name) for name in model.model_fields}
    for name, field in model.model_fields.items():
        if is_list(field):
            words = taken[name]
            items = [] if words == ["none"] else [_number(word) for word in words or []]
            taken[name] = items if words else None
    return taken


def _number(word: str) -> int | str:
    """The whole number that ``word`` writes; what is none stays as it is, for the settings to refuse."""
    return int(word) if word.isdecimal() and len(word) < 20 else word


def declared(*functions: Callable[..., Any]) -> Parameters:
    """The parameters that these functions declare, one after the other."""
    return [parameter for function in functions for parameter in inspect.signature(function).parameters.values()]


def with_parameters(function: Callable[..., Any], parameters: Parameters) -> Callable[..., Any]:
    """``function``, which takes keyword arguments, showing ``parameters`` as its signature for Typer to read."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function
