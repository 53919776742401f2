"""The overview that ``mlpx show`` prints: what a run was, its curves, its figures, and how to repeat it."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rich.text import Text

from mlpx.cli import curves
from mlpx.cli.curves import Curve, Scale
from mlpx.cli.layout import Layout, labeled, titled, typed
from mlpx.cli.tables import new_console
from mlpx.cli.times import ago, duration
from mlpx.errors import CheckFailed, printable
from mlpx.runs import selecting
from mlpx.runs.facts import Facts
from mlpx.runs.records import Record
from mlpx.settings.base import ReplicatedSettings
from mlpx.settings.metrics import EPOCH, SECONDS, Metric
from mlpx.settings.values import to_text

STYLES = {"finished": "bold green", "running": "bold cyan", "diverged": "bold red", "failed": "bold red"}
"""The style of a status; the others are yellow."""
MIN_PLOT, GOOD_PLOT = 8, 10
"""Lines that a plot always has, and lines for which what can be spared gives way."""
MAX_WARNINGS, MAX_PICTURES = 2, 6
"""At most so many are shown."""
MAX_NUMBER = 1e9
"""No run has more epochs, or takes more seconds."""

Rows = Mapping[str, Sequence[float]]


class Part(NamedTuple):
    """Lines that stay together; a small screen leaves out the parts of the highest rank first, and rank 0 never."""

    lines: Sequence[Text]
    rank: int = 0


class Overview:
    """Prints a run in lines that fit into a terminal, but for paths, which stay whole."""

    def __init__(self, width: int, height: int) -> None:
        """Lay out for a terminal of ``width`` columns and ``height`` lines.

        One line is left to the prompt, or, where something like ``watch`` reads the output, two to its head.
        """
        self._height = height - (1 if sys.stdout.isatty() else 2)
        self._console = new_console()
        self._layout = Layout(self._console, width)
        self._ascii_only = self._console.options.ascii_only

    def print(self, record: Record, facts: Facts, metrics: Sequence[Metric], rows: Rows) -> None:
        """Print a run.

        Args:
            record: The run.
            facts: What else its ``run.json`` says.
            metrics: The metrics to draw.
            rows: Their columns of ``metrics.csv`` and that of the epochs; empty where there is nothing to draw.
        """
        main, others = _figures(record)
        above = [
            Part(self._layout.filled(_title(record), 2, gap=" ", end="...")),
            Part(self._layout.wrapped(_status(record, facts), 2)),
            Part(self._layout.filled(_machine(facts), 1, gap=", ")),
        ]
        below = [
            Part(self._layout.filled(main, 2)),
            Part(self._layout.filled(others, 1), rank=2),
            *(Part(self._layout.wrapped(text, 3)) for text in _words(facts)),
            Part([Text()], rank=1),
            *(Part([line]) for line in self._place(record)),
            *(Part([line], rank) for line, rank in _commands(record)),
        ]
        if rows:
            scale = Scale(all(metric.log for metric in metrics), all(metric.kind == "share" for metric in metrics))
            drawn = _curves(record, metrics, rows)
            entries = [
                Text.assemble((_axis(record, metrics), "bold")),
                *curves.legend(drawn, scale, ascii_only=self._ascii_only),
            ]
            above += [Part([Text()], rank=1), Part(self._layout.filled(entries, 3))]
            above, below, height = self._fitting(above, below)
            plot = curves.draw(drawn, scale, self._layout.width, height, ascii_only=self._ascii_only)
            above.append(Part(plot or [Text("no value that can be drawn", "dim")]))
        for part in (*above, *below):
            for line in part.lines:
                self._console.print(line)

    def _place(self, record: Record) -> list[Text]:
        """The pictures and where they lie, in one line if there is room for it."""
        pictures = _pictures(record.path)
        folder = labeled("folder", str(record.path))
        if not pictures:
            return [folder]
        line = labeled("pictures", f"{pictures} in {record.path}")
        return (
            [line]
            if self._layout.lines(line) == 1
            else [*self._layout.wrapped(labeled("pictures", pictures), 1), folder]
        )

    def _fitting(self, above: Sequence[Part], below: Sequence[Part]) -> tuple[list[Part], list[Part], int]:
        """The parts that there is room for above and below the plot, and the lines left to it."""
        rank = max(part.rank for part in (*above, *below))
        while True:
            kept = [[part for part in parts if part.rank <= rank] for parts in (above, below)]
            height = self._height - sum(
                self._layout.lines(line) for parts in kept for part in parts for line in part.lines
            )
            if height >= GOOD_PLOT or rank == 0:
                return kept[0], kept[1], min(max(height, MIN_PLOT), max(GOOD_PLOT, self._layout.width // 4))
            rank -= 1


def _title(record: Record) -> list[Text]:
    """The folder's name, the experiment, and the settings that are not the defaults, the experiment's own first."""
    settings = record.settings
    changed = []
    for name in sorted(selecting.varying([record]), key=lambda name: name in ReplicatedSettings.model_fields):
        value = getattr(settings, name)
        text = f".../{Path(value).name}" if name in settings.places else to_text(value)
        changed.append(f"{name.replace('_', ' ')} {text}")
    first, *others = changed or ["all settings by default"]
    return titled(record.path.name, [f" {settings.experiment}: {first}", *others])


def _plausible(record: Record, metric: Metric) -> float | None:
    """A metric's last value, if it is a number that a run can have."""
    value = record.metrics.get(metric.name)
    return value if value is not None and 0 < value < MAX_NUMBER else None


def _status(record: Record, facts: Facts) -> Text:
    """The status in words: how far the run got, in which time, and when."""
    status, epochs = record.status, record.settings.epochs
    epoch, seconds = _plausible(record, EPOCH), _plausible(record, SECONDS)
    how_far = f"after epoch {int(epoch)} of {epochs}" if epoch else "before its first row"
    if record.is_finished:
        how_far = "1 epoch" if epochs == 1 else f"{epochs} epochs"
        if epoch and record.document.get("stopped_early") is True:
            how_far = f"stopped early after epoch {int(epoch)} of {epochs}"
    took = f" in {duration(seconds)}" if seconds else ""
    match status:
        case "waiting":
            words = f": made {ago(record.started)}, not started yet"
        case "running":
            words = f": {how_far}{took}{_left(record, epoch, seconds)}"
        case "dead":
            words = f": killed {how_far}; no process holds it"
        case _:
            ended = f" {ago(facts.ended)}" if facts.ended else ""
            failed_check = ": a check did not hold" if facts.exit_code == CheckFailed.exit_code else ""
            code = f"; exit code {facts.exit_code}{failed_check}" if facts.exit_code else ""
            words = f"{ended}: {how_far}{took}{code}"
    if status in ("running", "dead") and not epoch:
        words += f"; started {ago(record.started)}"
    return Text.assemble((status, STYLES.get(status, "bold yellow")), words)


def _left(record: Record, epoch: float | None, seconds: float | None) -> str:
    """The time left, if each epoch takes as long as those until the last row; the first one is no measure."""
    left = seconds / epoch * (record.settings.epochs - epoch) if epoch and epoch > 1 and seconds else 0
    at_most = "at most " if record.settings.may_stop_early else ""
    return f", {at_most}about {duration(left)} left" if 0 < left < MAX_NUMBER else ""


def _machine(facts: Facts) -> list[Text]:
    """Where the run was computed, and by which versions; what matters most comes first."""
    device = facts.device + (f" ({facts.device_name})" if facts.device.startswith("cuda") and facts.device_name else "")
    threads = "" if facts.threads is None else f"{facts.threads} {'thread' if facts.threads == 1 else 'threads'}"
    versions = [f"{name} {facts.versions[name]}" for name in ("mlpx", "torch") if name in facts.versions]
    commit = f"commit {facts.commit[:7]}{' + changes' if facts.is_dirty else ''}" if facts.commit else ""
    parts = [part for part in (device, threads, *versions[:1], commit, *versions[1:]) if part]
    if facts.host:
        parts[:1] = [f"on {facts.host}: {parts[0]}" if parts else f"on {facts.host}"]
    return [Text(printable(part), "dim") for part in parts]


def _axis(record: Record, metrics: Sequence[Metric]) -> str:
    """The label of the vertical axis; empty where the metrics have several."""
    axes = {metric.axis for metric in metrics}
    replicas = len(record.settings.seeds)
    words = [axes.pop() if len(axes) == 1 else "", f"median of {replicas} replicas" if replicas > 1 else ""]
    return ", ".join(filter(None, words))


def _curves(record: Record, metrics: Sequence[Metric], rows: Rows) -> list[Curve]:
    """The curves, called what ``loss.png`` calls them, or by their names where they are of several axes."""
    alike = len({metric.axis for metric in metrics}) == 1
    return [
        Curve(metric.curve if alike and metric.axis else metric.title, rows[EPOCH.name], rows[metric.name])
        for metric in metrics
    ]


def _figures(record: Record) -> tuple[list[Text], list[Text]]:
    """The last values of the main metrics, and those of the others; for replicas, the medians."""
    main: list[Text] = [Text.assemble(("medians:", "dim"))] if len(record.settings.seeds) > 1 and record.metrics else []
    others: list[Text] = []
    for name, metric in record.declared.items():
        if name in record.metrics and not metric.is_spread and metric not in (EPOCH, SECONDS):
            value = (metric.shown(record.metrics[name]), "bold" if metric.is_main else "")
            (main if metric.is_main else others).append(Text.assemble(f"{metric.title} ", value))
    return main, others


def _words(facts: Facts) -> list[Text]:
    """The summary, why the run failed, and what there was to warn of."""
    said = [Text(printable(facts.summary))]
    if facts.error:
        said.append(Text(printable(facts.error), "red"))
    said += [Text(printable(f"warning: {warning}"), "yellow") for warning in facts.warnings[:MAX_WARNINGS]]
    if len(facts.warnings) > MAX_WARNINGS:
        said.append(Text(f"and {len(facts.warnings) - MAX_WARNINGS} more warnings in run.json", "yellow"))
    return said


def _commands(record: Record) -> list[tuple[Text, int]]:
    """The commands that repeat and continue the run, each with the rank of its part."""
    settings, place = record.settings, typed(record.path)
    config = typed(record.path / "config.toml")
    lines = [(labeled("repeat", f"mlpx {settings.experiment} --config {config}"), 0)]
    if record.status in ("waiting", "dead", "interrupted", "failed"):
        lines.append((labeled("start" if record.status == "waiting" else "resume", f"mlpx resume {place}"), 0))
    if record.is_finished and settings.why_not_extendable is None:
        lines.append((labeled("extend", f"mlpx resume {place} --epochs {2 * settings.epochs}"), 3))
    return lines


def _pictures(path: Path) -> str:
    """The names of the pictures in the folder."""
    with suppress(OSError):
        names = sorted(name for name in os.listdir(path) if name.endswith(".png"))
        more = [f"{len(names) - MAX_PICTURES} more"] if len(names) > MAX_PICTURES else []
        return ", ".join([*names[:MAX_PICTURES], *more])
    return ""
