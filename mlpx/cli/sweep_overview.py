"""The screen that ``mlpx show`` prints of a sweep: what was asked, how far it is, its results, and how to go on."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.text import Text

from mlpx.cli import streams, sweep_end
from mlpx.cli.layout import Layout, labeled, titled, typed
from mlpx.cli.overview import STYLES
from mlpx.cli.rows import GroupRow
from mlpx.cli.tables import new_console
from mlpx.cli.times import ago
from mlpx.errors import printable
from mlpx.runs import reading, records
from mlpx.runs.facts import Facts
from mlpx.runs.folder import finite
from mlpx.runs.records import STATUSES, Record
from mlpx.settings.values import to_text
from mlpx.sweeps import results
from mlpx.sweeps.folder import PICTURE, Sweep

MAX_ERRORS, MAX_WARNINGS = 3, 3
"""At most so many are shown."""
MIN_ROWS = 3
"""The table has no fewer rows, however small the screen is."""


def show(sweep: Sweep, width: int, height: int) -> None:
    """Print a sweep in lines that fit into a terminal, but for paths, which stay whole."""
    found, warnings = records.read_all(reading.runs_in(sweep.path))
    groups, unusable = results.grouped(sweep, found)
    warnings += unusable
    console = new_console()
    layout = Layout(console, width)
    above = [*_title(sweep, layout), *layout.wrapped(_status(sweep, found), 2), *_errors(found, layout)]
    below = _commands(sweep, found, layout)
    metric = results.deciding(groups)
    # One line is left to the prompt, or, where something like ``watch`` reads the output, two to its head.
    taken = sum(map(layout.lines, [*above, *below])) + (1 if sys.stdout.isatty() else 2)
    taken += min(len(warnings), MAX_WARNINGS + 1)
    for line in above:
        console.print(line)
    if metric is not None:
        print()
        room = max(MIN_ROWS, height - taken - sweep_end.LINES_AROUND)
        sweep_end.print_table(sweep, groups, metric, room, layout.width)
        print()
    for line in below:
        console.print(line)
    for warning in warnings[:MAX_WARNINGS]:
        streams.warn(warning)
    if len(warnings) > MAX_WARNINGS:
        streams.warn(f"and {len(warnings) - MAX_WARNINGS} more runs are left out")


def print_json(sweep: Sweep) -> None:
    """Print one JSON object: what was asked, the number of runs in each state, and each group of runs."""
    found, warnings = records.read_all(reading.runs_in(sweep.path))
    groups, unusable = results.grouped(sweep, found)
    for warning in [*warnings, *unusable]:
        streams.warn(warning)
    picture = sweep.path / PICTURE
    about = {
        "sweep": str(sweep.path),
        "experiment": sweep.request.model.experiment,
        "settings": dict(sweep.request.asked),
        "options": sweep.request.options.model_dump(),
        "runs": len(found),
        "statuses": dict(Counter(record.status for record in found)),
        "picture": str(picture) if picture.exists() else None,
        "groups": [GroupRow(group).as_json() for group in groups],
    }
    print(json.dumps(finite(about), allow_nan=False))


def _title(sweep: Sweep, layout: Layout) -> list[Text]:
    """The folder's name, the experiment, and what was asked, as it was asked; what varies comes first."""
    request = sweep.request
    several = {name for name, values in request.values.items() if len(values) > 1}
    asked = []
    for name in sorted(request.asked, key=lambda name: name not in several):
        value, (first, *_) = request.asked[name], request.values[name]
        if name in several or to_text(first) != to_text(request.model.model_fields[name].default):
            text = ",".join(map(to_text, value)) if name in several and isinstance(value, list) else to_text(value)
            asked.append(f"{name.replace('_', ' ')} {text}")
    first, *others = asked or ["all settings by default"]
    return layout.filled(titled(sweep.path.name, [f" {request.model.experiment}: {first}", *others]), 3, " ", "...")


def _status(sweep: Sweep, found: Sequence[Record]) -> Text:
    """How many runs there are, by what they are combined, and how many are in which state."""
    counts = Counter(record.status for record in found)
    summary = sweep.design.summary
    line = Text(f"{len(found)} {'run' if len(found) == 1 else 'runs'}{f' ({summary})' if summary else ''}: ")
    states = [
        Text.assemble(f"{counts[each]} ", (each, STYLES.get(each, "yellow"))) for each in STATUSES if counts[each]
    ]
    line.append_text(Text(", ").join(states))
    ended = [facts.ended for record in found if (facts := Facts.of(record.document)).ended]
    return line.append(f"; the last ended {ago(max(ended))}") if ended else line


def _errors(found: Iterable[Record], layout: Layout) -> list[Text]:
    """Why runs have failed: the errors that most of them have, each with the name of a run."""
    failed: dict[str, list[Record]] = {}
    for record in found:
        if record.status == "failed":
            failed.setdefault(Facts.of(record.document).error or "no reason is known", []).append(record)
    by_number = sorted(failed.items(), key=lambda item: -len(item[1]))
    lines: list[Text] = []
    for error, alike in by_number[:MAX_ERRORS]:
        others = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        lines += layout.wrapped(Text(printable(f"{alike[0].path.name}{others}: {error}"), "red"), 2)
    more = sum(len(alike) for _, alike in by_number[MAX_ERRORS:])
    return [*lines, Text(f"and {more} more with other errors", "red")] if more else lines


def _commands(sweep: Sweep, found: Sequence[Record], layout: Layout) -> list[Text]:
    """Where the picture lies, and the commands that go on, look closer, and repeat the sweep."""
    folder = labeled("folder", str(sweep.path))
    lines = [folder]
    if (sweep.path / PICTURE).exists():
        line = labeled("picture", f"{PICTURE} in {sweep.path}")
        lines = [line] if layout.lines(line) == 1 else [labeled("picture", PICTURE), folder]
    place, config = typed(sweep.path), typed(sweep.path / "sweep.toml")
    if any(record.status not in ("finished", "diverged") for record in found):
        lines.append(labeled("resume", f"mlpx resume {place}"))
    lines.append(labeled("list", f"mlpx runs {place}"))
    if sweep.request.options.one_at_a_time:
        lines.append(labeled("compare", f"mlpx compare {place}"))
    return [*lines, labeled("repeat", f"mlpx sweep {sweep.request.model.experiment} --config {config}")]
