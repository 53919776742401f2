"""Reading settings from command-line options and TOML files, and writing them as TOML."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import ValidationError

from mlpx.errors import UsageError, did_you_mean, reason
from mlpx.files import read_regular
from mlpx.settings.base import Settings, allowed

MAX_FILE_BYTES = 64 * 1024
SWEEP_TABLE = "sweep"
"""The table that the file of a sweep has beside the settings."""

S = TypeVar("S", bound=Settings)


def read_toml(path: Path, max_bytes: int = MAX_FILE_BYTES) -> dict[str, Any]:
    """The table in a file of settings, which has no more than ``max_bytes``.

    Raises:
        UsageError: The file cannot be read, is not UTF-8, or is not TOML.
    """
    remedy = "Give a TOML file of settings."
    try:
        data = read_regular(path, max_bytes + 1)
    except (OSError, ValueError) as error:
        raise UsageError(path, reason(error), remedy) from error
    if len(data) > max_bytes:
        raise UsageError(path, f"is longer than {max_bytes // 1024} KiB", remedy)
    try:
        table = tomllib.loads(data.decode("utf-8"))
        # Python reads a hexadecimal number of any length, but raises ValueError when one of thousands of digits is to
        # be printed, as an error message would have to. It is refused here, as a decimal one is by tomllib.
        repr(table)
        return table
    except UnicodeDecodeError as error:
        raise UsageError(path, f"is not UTF-8 at byte {error.start}", "Save it as UTF-8.") from error
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise UsageError(path, f"is not TOML: {error}", "Correct it.") from error


def resolve(model: type[S], typed: Mapping[str, Any], file: Path | None = None) -> S:
    """The settings of a run: an option that was typed wins over the file, and the file over the default.

    Args:
        model: The class of settings.
        typed: Options by the name of their setting; ``None`` for one that was not typed.
        file: A TOML file of settings.

    Raises:
        UsageError: A name is unknown, or a value has a wrong type or is out of bounds.
    """
    return validated(model, typed, read_toml(file) if file is not None else {}, file)


def validated(model: type[S], typed: Mapping[str, Any], table: Mapping[str, Any], file: Path | None) -> S:
    """The same, for the ``table`` that :func:`read_toml` read from ``file``; see :func:`resolve`."""
    from_file = dict(table)
    written_for = from_file.pop("experiment", model.experiment)
    if written_for != model.experiment:
        raise UsageError(file, f"is for experiment {written_for!r}", f"Give a file for {model.experiment!r}.")
    if isinstance(from_file.get(SWEEP_TABLE), dict):
        raise UsageError(file, "is of a sweep", f"Give it to 'mlpx sweep {model.experiment}'.")
    values = from_file | {key: value for key, value in typed.items() if value is not None}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        option = "--" + key.replace("_", "-")
        what = option if typed.get(key) is not None or file is None else f"{file}: {key}"
        rule = first.get("ctx", {}).get("error")
        if isinstance(rule, ValueError):  # a validator of the model raised it, and its text is the remedy
            raise UsageError(what, f"{first['input']!r} cannot be used", str(rule)) from error
        raise _usage_error(model, what, key, first["input"]) from error


def _usage_error(model: type[Settings], what: str, key: str, value: object) -> UsageError:
    if key not in model.model_fields:
        remedy = did_you_mean(key, model.model_fields, f"The settings are {', '.join(model.model_fields)}.")
        return UsageError(what, "no such setting", remedy)
    shown = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return UsageError(what, f"{shown} cannot be used", f"Give {allowed(model.model_fields[key])}.")


def to_toml(settings: Settings) -> str:
    """A TOML file of all settings, from which :func:`resolve` gets the same settings again."""
    return tomli_w.dumps({"experiment": settings.experiment, **settings.model_dump()})
