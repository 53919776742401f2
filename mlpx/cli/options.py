"""Options of the commands: an experiment's settings, and where the output goes.

Typer makes options from a function's signature. The settings' models know the names, types, bounds and meanings of all
settings, so the signatures of the training commands are made from them: :func:`with_settings` and :func:`with_output`
replace one parameter of a function, ``typed`` or ``output``, by the options that it stands for.
"""

import contextlib
import inspect
import itertools
import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic.fields import FieldInfo

from mlpx import registry
from mlpx.errors import UsageError
from mlpx.runs import checks
from mlpx.settings import values
from mlpx.settings.base import ReplicatedSettings, Settings, allowed, is_list, item
from mlpx.settings.values import to_text

Command = Callable[..., None]

RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Run folder: its path, its name in the runs folder (SWEEP/RUN), or latest."),
]
RunOrSweepArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Folder of a run or a sweep: its path, its name in the runs folder, or latest."),
]
Device = Annotated[
    str, typer.Option(help="Device to compute on: auto (CUDA where there is a GPU), cpu, cuda or cuda:N.")
]
RunsDir = Annotated[
    Path, typer.Option(envvar="MLPX_RUNS_DIR", readable=False, help="Folder that holds the run folders.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines and nothing else.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=10_000,
        metavar="<int>",
        help="Runs of a sweep at a time.  [default: as many as cores or GPUs; 8 with Slurm]",
    ),
]
On = Annotated[
    Literal["local", "ray", "slurm"],
    typer.Option(help="Where the runs of a sweep are carried out: on this machine, a Ray cluster, or by Slurm."),
]
Sbatch = Annotated[
    str | None,
    typer.Option(metavar="<text>", help="Options of sbatch for --on slurm, such as '-p gpu -t 4:00:00'."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")]


Quiet = Annotated[bool, typer.Option("--quiet", help="Print the run folder's path and nothing else.")]


def examples(*lines: str) -> str:
    """The end of a help text: commands to copy."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


Format = Literal["table", "csv", "markdown", "latex"]
Shape = Literal[Format, "json", "quiet"]


def shape(form: Format, *, quiet: bool, json: bool) -> Shape:
    """What is printed, by ``--format``, ``--quiet`` and ``--json``.

    Raises:
        UsageError: They exclude each other.
    """
    if quiet + json + (form != "table") > 1:
        raise UsageError("--format, --quiet and --json", "exclude each other", "Give one of them.")
    return "quiet" if quiet else "json" if json else form


def require_slurm(on: str, sbatch: str | None) -> None:
    """Check that options of ``sbatch`` are given with ``--on slurm`` alone.

    Raises:
        UsageError: They are given without it.
    """
    if sbatch is not None and on != "slurm":
        raise UsageError("--sbatch", f"is for Slurm, and this is --on {on}", "Add --on slurm, or leave it out.")


class Output:
    """Options that say how a run is carried out and shown, and never change its numbers."""

    def __init__(
        self,
        *,
        device: Device = "auto",
        runs_dir: RunsDir = Path("runs"),
        quiet: Quiet = False,
        json: Json = False,
        check: Annotated[
            list[str] | None,
            typer.Option(
                help="Condition on a final metric, such as 'test_loss < 0.05'; exit 3 if it fails. Repeatable."
            ),
        ] = None,
        checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 30.0,
        debug: Debug = False,
    ) -> None:
        """Check the options.

        Raises:
            UsageError: One of them cannot be used.
        """
        if quiet and json:
            raise UsageError("--quiet and --json", "exclude each other", "Give one of them.")
        if not (math.isfinite(checkpoint_every) and checkpoint_every >= 0):
            raise UsageError("--checkpoint-every", f"{checkpoint_every} cannot be used", "Give a number of at least 0.")
        self.device = device
        self.runs_dir = runs_dir
        self.quiet = quiet
        self.json = json
        self.checks = [checks.parse(text) for text in check or []]
        self.checkpoint_every = checkpoint_every


def with_output(command: Command) -> Command:
    """``command``, whose parameter ``output`` is replaced by the options of its class, such as :class:`Output`."""
    own = dict(inspect.signature(command).parameters)
    kind = own.pop("output").annotation
    options = inspect.signature(kind).parameters

    def wrapper(**given: Any) -> None:
        output = kind(**{name: given.pop(name) for name in options})
        command(**given, output=output)

    return _with_signature(wrapper, [*own.values(), *options.values()])


def with_settings(model: type[Settings]) -> Callable[[Command], Command]:
    """Replace the parameter ``typed`` of a command, the settings that were typed, by an option for each setting."""
    options = {parameter.name: parameter for parameter in _setting_parameters(model)}

    def decorate(command: Command) -> Command:
        own = dict(inspect.signature(command).parameters)
        own.pop("typed")

        def wrapper(**given: Any) -> None:
            typed = {name: _parsed(model, name, given.pop(name)) for name in options}
            command(typed=typed, **given)

        return _with_signature(wrapper, [*options.values(), *own.values()])

    return decorate


def with_values(model: type[Settings]) -> Callable[[Command], Command]:
    """Replace the parameter ``typed`` of a command, the values that were typed, by an option for each setting.

    The values stay texts, and ``typed`` has them in the order in which they were typed.
    """
    options = {parameter.name: parameter for parameter in _value_parameters(model)}
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

    def decorate(command: Command) -> Command:
        own = dict(inspect.signature(command).parameters)
        own.pop("typed")

        def wrapper(**given: Any) -> None:
            # The parameters of the context are in the order of the command line.
            order = list(given.pop("context").params)
            texts = {name: given.pop(name) for name in sorted(options, key=order.index)}
            command(typed={name: text for name, text in texts.items() if text is not None}, **given)

        return _with_signature(wrapper, [context, *options.values(), *own.values()])

    return decorate


def several_values(arguments: Sequence[str]) -> UsageError | None:
    """The error for a training command with several values of a setting, which names the sweep that trains them.

    Args:
        arguments: The command line of any command, which was refused.
    """
    experiment, *words = arguments or [""]
    if experiment not in registry.EXPERIMENTS:
        return None
    fields = registry.settings_class(experiment).model_fields
    for word, following in itertools.pairwise([*words, ""]):
        option, _, text = word.partition("=") if "=" in word else (word, "", following)
        field = fields.get(option.removeprefix("--").replace("-", "_"))
        with contextlib.suppress(UsageError):
            if field is not None and option.startswith("--") and len(values.parse(field, text, option)) > 1:
                sweep = shlex.join(["mlpx", "sweep", *arguments])
                return UsageError(option, f"{text!r} cannot be used", f"For several values: {sweep}")
    return None


def _with_signature(function: Command, parameters: list[inspect.Parameter]) -> Command:
    """``function``, which takes keyword arguments, showing ``parameters`` as its signature for Typer to read."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def _setting_parameters(model: type[Settings]) -> list[inspect.Parameter]:
    """A parameter for each setting, the experiment's own first; each defaults to ``None``, which is "not typed"."""
    parameters = []
    for name, field in _own_first(model):
        kind, metavar, values, default = field.annotation, None, allowed(field), str(field.default)
        if kind is bool:
            default = default.lower()
        if is_list(field):
            kind, metavar = list[str], "<int|none>"
            values = f"{allowed(item(field))}; repeat it for more layers, none for no layer"
            default = " ".join(map(str, field.default))
        text = str(field.description)
        # The values of a choice stand in its metavar, and text may be any.
        if kind in (int, float, list[str]):
            text += f": {values}"
        text += f".  [default: {default}]" if default else "."
        option = typer.Option(help=text, show_default=False, metavar=metavar)
        annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return parameters


def _value_parameters(model: type[Settings]) -> list[inspect.Parameter]:
    """A parameter of text for each setting, the experiment's own first; each defaults to ``None``."""
    parameters = []
    for name, field in _own_first(model):
        shown = to_text(field.default)
        text = f"{field.description}: {allowed(field)}" if field.annotation is not str else str(field.description)
        text += f".  [default: {shown}]" if shown else "."
        metavar = "<text>" if field.annotation is str else "<values>"
        option = typer.Option("--" + name.replace("_", "-"), help=text, show_default=False, metavar=metavar)
        annotation = Annotated[str | None, option]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return parameters


def _own_first(model: type[Settings]) -> list[tuple[str, FieldInfo]]:
    """The settings, those of the experiment alone before those that every experiment has."""
    return sorted(model.model_fields.items(), key=lambda item: item[0] in ReplicatedSettings.model_fields)


def _parsed(model: type[Settings], name: str, typed: Any) -> Any:
    """The value of a setting that was typed; a list's lone ``none`` is an empty list."""
    if not typed or not is_list(model.model_fields[name]):
        return None if typed == [] else typed
    return [] if typed == ["none"] else [_number(word) for word in typed]


def _number(word: str) -> int | str:
    """The whole number that ``word`` writes; any other word stays as it is, for the settings to refuse."""
    return int(word) if word.isdecimal() and len(word) < 20 else word
