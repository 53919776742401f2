"""What is asked of a sweep: values of settings, a design, and how each run is carried out; the file ``sweep.toml``.

The file is a file of settings, in which a setting may have several values, and a table ``[sweep]`` says the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlpx import registry
from mlpx.errors import UsageError, did_you_mean
from mlpx.runs import checks
from mlpx.runs.checks import Check
from mlpx.settings import values
from mlpx.settings.base import Settings, allowed
from mlpx.settings.files import SWEEP_TABLE, read_toml
from mlpx.settings.metrics import final
from mlpx.sweeps.designs import Design, design, read_rows

MAX_FILE_BYTES = 4 * 2**20
"""A file may hold the rows of a large design."""


class Options(BaseModel):
    """What of a sweep is no setting of its runs, but decides their numbers, or how they are judged."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    one_at_a_time: Annotated[bool, Field(description="Whether one setting at a time is changed")] = False
    cells: Annotated[str, Field(description="The rows of --cells, as CSV")] = ""
    cores: Annotated[int, Field(ge=1, le=4096, description="Threads of each run")] = 1
    gpus: Annotated[float, Field(ge=0, le=1024, description="GPUs of each run; a fraction shares one")] = 0.0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,4})?)$", description="Device of each run")] = "auto"
    checkpoint_every: Annotated[float, Field(ge=0, description="Seconds between checkpoints")] = 30.0
    check: Annotated[list[str], Field(description="Conditions on the final metrics of each run")] = []


@dataclass(frozen=True)
class Request:
    """What is asked.

    Args:
        model: The settings of the experiment.
        asked: What each setting shall be, as it was typed or stands in a file, in that order.
        options: The rest.
        source: The file in which it stands; ``None`` where all was typed.
        typed: The settings that were typed, so that an error names the option, and not a place in the file.
    """

    model: type[Settings]
    asked: Mapping[str, Any] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    source: Path | None = None
    typed: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: Path, experiment: str | None = None) -> Self:
        """The request in a file of settings, such as the ``config.toml`` of a run or the ``sweep.toml`` of a sweep.

        Args:
            path: The file.
            experiment: The experiment, where the file need not name it.

        Raises:
            UsageError: The file cannot be read or used, or is for another experiment.
        """
        asked = read_toml(path, MAX_FILE_BYTES)
        rest = asked.pop(SWEEP_TABLE, {})
        name = asked.pop("experiment", experiment)
        if not isinstance(name, str) or name not in registry.EXPERIMENTS:
            raise UsageError(path, f"names no known experiment ({name!r})", "Correct it.")
        if experiment not in (None, name):
            raise UsageError(path, f"is for experiment {name!r}", f"Give a file for {experiment!r}.")
        if not isinstance(rest, dict):
            raise UsageError(f"{path}: {SWEEP_TABLE}", "is not a table", f"Write [{SWEEP_TABLE}] above its lines.")
        return cls(registry.settings_class(name), asked, _options(rest, path), path)

    def updated(self, typed: Mapping[str, str], options: Mapping[str, Any]) -> Self:
        """The request in which what was typed, if it is not ``None``, takes the place of what stood in the file.

        Raises:
            UsageError: An option cannot be used.
        """
        kept = {name: value for name, value in self.asked.items() if name not in typed}
        given = {name: value for name, value in options.items() if value is not None}
        after = _options(self.options.model_dump() | given, None)
        return replace(self, asked={**kept, **typed}, options=after, typed=frozenset(typed))

    @property
    def values(self) -> dict[str, list[Any]]:
        """The values of each setting.

        Raises:
            UsageError: There is no such setting, or it cannot have such a value.
        """
        found = {}
        for name, value in self.asked.items():
            known = self.model.model_fields.get(name)
            what = "--" + name.replace("_", "-") if name in self.typed else f"{self.source}: {name}"
            if known is None:
                remedy = did_you_mean(name, self.model.model_fields, "Leave it out.")
                raise UsageError(what, "no such setting", remedy)
            found[name] = values.from_toml(known, value, what)
        return found

    def design(self) -> Design:
        """The runs.

        Raises:
            UsageError: A value, a combination of values, or a check cannot be used.
        """
        rows = read_rows(self.model, self.options.cells, "--cells") if self.options.cells else []
        made = design(self.model, self.values, rows, one_at_a_time=self.options.one_at_a_time)
        for names in dict.fromkeys(map(_final_metrics, made.cells)) if self.options.check else ():
            checks.require_known(self.checks, names)
        return made

    @property
    def checks(self) -> list[Check]:
        """The conditions on the final metrics of each run."""
        return [checks.parse(text) for text in self.options.check]

    def to_toml(self) -> str:
        """The file ``sweep.toml``, from which :meth:`read` gets the same request again."""
        # A text stays one, as a range is shorter than its members; a single value is written as what it is. A path in a
        # list is written as the absolute one, which means the same wherever the file is read.
        asked = {
            name: found[0] if len(found) == 1 else self.asked[name] if isinstance(self.asked[name], str) else found
            for name, found in self.values.items()
        }
        options = self.options.model_dump()
        kept = {
            name: value for name, value in options.items() if value or name not in ("one_at_a_time", "cells", "check")
        }
        # A text of several lines loses its carriage returns, which rows can do without, but not a path.
        rest = tomli_w.dumps({SWEEP_TABLE: kept}, multiline_strings=True)
        return tomli_w.dumps({"experiment": self.model.experiment, **asked}) + "\n" + rest


def _final_metrics(settings: Settings) -> tuple[str, ...]:
    return tuple(metric.name for metric in final(settings.metrics, len(settings.seeds)))


def _options(table: Mapping[str, Any], path: Path | None) -> Options:
    try:
        return Options.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        what = "--" + key.replace("_", "-") if path is None else f"{path}: {SWEEP_TABLE}.{key}"
        if key not in Options.model_fields:
            remedy = did_you_mean(key, Options.model_fields, f"There are {', '.join(Options.model_fields)}.")
            raise UsageError(what, "no such option", remedy) from error
        if key == "device":
            raise UsageError(what, f"{first['input']!r} is not a device", "Give auto, cpu, cuda or cuda:N.") from error
        cure = f"Give {allowed(Options.model_fields[key])}."
        raise UsageError(what, f"{first['input']!r:.60} cannot be used", cure) from error
