"""What of a sweep may start, and how it ends, as far as that follows from what its run folders say."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from mlpx.errors import CheckFailed, Diverged, InputError, Locked, MachineError
from mlpx.runs.checks import Check
from mlpx.runs.records import Record

STARTABLE = ("waiting", "dead", "interrupted", "failed")
OVER = ("finished", "diverged")
ALIKE = 3
"""After so many failures alike, with no run finished, no further run is started: it would fail too."""
GRAVEST_FIRST = (1, 6, 5, 2)


def startable(records: Iterable[Record], tried: Collection[Path]) -> list[Path]:
    """The runs that may start, in their order: those that are not over, and that this process has not tried yet."""
    return [record.path for record in records if record.status in STARTABLE and record.path not in tried]


def failure_code(record: Record) -> int | None:
    """The exit code with which a run failed; ``None`` if it did not.

    A run that was killed or interrupted by itself, without the sweep, counts as a failure of the machine.
    """
    if record.status in ("dead", "interrupted"):
        return MachineError.exit_code
    if record.status != "failed":
        return None
    code = record.document.get("exit_code")
    return code if code in GRAVEST_FIRST else 1


def why(record: Record) -> str:
    """Why a run failed, diverged or was interrupted, in the words of its ``run.json``; empty for a finished run."""
    if record.status == "dead":
        return "killed: its process ended without a word"
    return record.error


def why_stop(failed: Iterable[Record], *, some_finished: bool) -> str:
    """Why no further run should be started; empty if there is no reason."""
    if some_finished:
        return ""
    # The runs' own names tell failures apart that are alike.
    alike = Counter((failure_code(record), why(record).replace(str(record.path), "")) for record in failed)
    (_, count) = max(alike.items(), key=lambda pair: pair[1], default=(None, 0))
    return f"{ALIKE} runs failed alike, and none has finished: no further run is started" if count >= ALIKE else ""


def failing(records: Iterable[Record], checks: Sequence[Check]) -> dict[Path, list[Check]]:
    """The checks that do not hold of finished runs, by the runs."""
    found = {
        record.path: [check for check in checks if not check.holds(record.metrics)]
        for record in records
        if record.is_finished
    }
    return {path: failed for path, failed in found.items() if failed}


def exit_code(
    records: Sequence[Record],
    tried: Collection[Path],
    failed_checks: Mapping[Path, Sequence[Check]],
    *,
    some_unread: bool = False,
) -> int:
    """The exit code of a process that carried out a sweep.

    Args:
        records: The runs of the sweep, as they are now.
        tried: The runs that this process has tried.
        failed_checks: The finished runs of which a check does not hold.
        some_unread: Whether the sweep has more runs, which cannot be read.
    """
    codes = {failure_code(record) for record in records if record.path in tried}
    if some_unread:
        codes.add(InputError.exit_code)
    for code in GRAVEST_FIRST:
        if code in codes:
            return code
    if any(record.status not in OVER for record in records):
        return Locked.exit_code
    if all(record.status == "diverged" for record in records):
        return Diverged.exit_code
    return CheckFailed.exit_code if failed_checks else 0
