"""What a page says of one run."""

import shlex
from collections.abc import Iterable, Sequence

from mlpx.errors import InputError
from mlpx.reports import curves, pictures
from mlpx.reports.describing import counted
from mlpx.reports.elements import Block, Cell, Section, Table
from mlpx.runs import selecting
from mlpx.runs.facts import Facts
from mlpx.runs.records import Record
from mlpx.settings.base import Settings
from mlpx.settings.metrics import EPOCH, SECONDS
from mlpx.settings.values import to_text


def section(record: Record, name: str) -> Section:
    """The section of a run; ``name`` begins the names of its figures."""
    facts = Facts.of(record.document)
    warnings = [f"warning of the run: {each}" for each in facts.warnings]
    blocks = []
    try:
        drawn = curves.of_run(record, f"{name}-curves")
    except InputError as error:
        drawn = None
        warnings.append(f"there are no curves: {error}")
    if drawn:
        blocks.append(Block("Curves", drawings=[drawn]))
    kept = pictures.of_run(record)
    table = pictures.translations(record)
    if kept.drawings or table:
        blocks.append(Block("What was learned", kept.words, kept.drawings, [table] if table else []))
    blocks += [
        Block("All metrics", tables=[_metrics(record)], is_folded=True) if record.metrics else Block(""),
        *settings_blocks([record]),
        repeating([record]),
    ]
    main = [
        (metric.title, metric.shown(record.metrics[metric.name]))
        for metric in record.declared.values()
        if metric.is_main and metric.name in record.metrics
    ]
    heading = f"{record.settings.experiment}, {record.settings.label}"
    blocks = [block for block in blocks if block.heading]
    return Section(heading, record.path.name, sentence(record, facts), main, [*warnings, *kept.warnings], blocks)


def sentence(record: Record, facts: Facts) -> str:
    """What came out of a run."""
    epoch, epochs = record.metrics.get(EPOCH.name), record.settings.epochs
    how_far = f"epoch {epoch:g} of {epochs}" if epoch is not None else "before its first row"
    match record.status:
        case "finished":
            summary = facts.summary.rstrip(".")
            return f"{summary[:1].upper()}{summary[1:]}." if summary else f"Finished after {counted(epochs, 'epoch')}."
        case "waiting":
            return "This run has not started yet."
        case "running":
            return f"This run is being trained: {how_far}. The numbers are those of its last row."
        case "dead":
            return f"This run was killed: {how_far}. The numbers are those of its last row."
        case status:
            why = f": {record.error}" if record.error else ""
            return f"This run has {status if status != 'interrupted' else 'been interrupted'} ({how_far}){why}"


def _metrics(record: Record) -> Table:
    rows = [
        [Cell(metric.title), Cell(metric.shown(record.metrics[name]), _finite(record.metrics[name]))]
        for name, metric in record.declared.items()
        if name in record.metrics
    ]
    return Table("All metrics at the end", ["metric", "value"], rows)


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def settings_blocks(records: Sequence[Record]) -> list[Block]:
    """The settings that are not the defaults, and, folded, all that the runs have in common."""
    settings = records[0].settings
    names = type(settings).model_fields
    common = [name for name in names if len({to_text(getattr(each.settings, name)) for each in records}) == 1]
    changed = [name for name in selecting.varying([records[0]]) if name in common]
    blocks = []
    if changed:
        blocks.append(Block("Settings", tables=[_settings(settings, changed, "Settings that are not the defaults")]))
    caption = "All settings" if len(records) == 1 else "All settings that the runs have in common"
    blocks.append(Block(caption, tables=[_settings(settings, common, caption)], is_folded=True))
    return blocks


def _settings(settings: Settings, names: Iterable[str], caption: str) -> Table:
    fields = type(settings).model_fields
    rows = [
        [Cell(name.replace("_", " ")), Cell(to_text(getattr(settings, name))), Cell(fields[name].description or "")]
        for name in names
    ]
    return Table(caption, ["setting", "value", "meaning"], rows)


def _device(facts: Facts) -> str:
    return f"{facts.device} ({facts.device_name})" if facts.device and facts.device_name else facts.device


def repeating(records: Sequence[Record], command: str = "") -> Block:
    """How to repeat runs: the command, and the versions and the machines that they had.

    Args:
        records: The runs.
        command: The command that repeats all of them; without it, that of the first run.
    """
    all_facts = [Facts.of(record.document) for record in records]
    first = all_facts[0]
    kept = f"mlpx {records[0].settings.experiment} --config {shlex.quote(str(records[0].path / 'config.toml'))}"
    code = [command or kept]
    if not command and first.command:
        code.insert(0, first.command)
    rows = []
    for title, texts in (
        ("machine", (facts.host for facts in all_facts)),
        ("device", (_device(facts) for facts in all_facts)),
        ("threads", ("" if facts.threads is None else str(facts.threads) for facts in all_facts)),
        ("versions", (", ".join(f"{k} {v}" for k, v in facts.versions.items()) for facts in all_facts)),
        ("commit", (f"{f.commit}{' with changes' if f.is_dirty else ''}" for f in all_facts)),
        ("started", (f"{record.started:%Y-%m-%d %H:%M:%S %Z}" for record in records[:1])),
    ):
        if found := sorted({text for text in texts if text}):
            rows.append([Cell(title), Cell("; ".join(found[:5]) + ("; …" if len(found) > 5 else ""))])
    seconds = [record.metrics[SECONDS.name] for record in records if SECONDS.name in record.metrics]
    if seconds:
        rows.append([Cell("seconds of training"), Cell(SECONDS.shown(float(sum(seconds))))])
    return Block("How to repeat it", tables=[Table("Where and by what", ["", ""], rows)] if rows else [], code=code)
