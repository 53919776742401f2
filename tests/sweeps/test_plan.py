"""What may start, when to stop, and how a sweep ends, as tables."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mlpx.experiments.poly.settings import PolySettings
from mlpx.runs import checks
from mlpx.runs.records import STATUSES, Record
from mlpx.sweeps import plan

FAILED_BY = {"bug": 1, "machine": 6, "input": 5, "usage": 2}


def record(word: str, number: int = 0, error: str | None = None, **metrics: float) -> Record:
    """A record of that status; the words of :data:`FAILED_BY` stand for a failure with that exit code."""
    status = "failed" if word in FAILED_BY else word
    document: Mapping[str, Any] = {"exit_code": FAILED_BY[word]} if word in FAILED_BY else {}
    about = document if error is None else {**document, "error": error}
    return Record(Path(f"/runs/sweep/{number}"), PolySettings(), status, about, metrics, datetime.now(UTC))


def records(words: str) -> list[Record]:
    return [record(word, number) for number, word in enumerate(words.split())]


def test_what_is_not_over_may_start_in_its_order_but_not_what_runs_or_was_tried() -> None:
    found = [record(status, number) for number, status in enumerate(STATUSES)]
    assert plan.startable(found, ()) == [
        each.path for each in found if each.status in ("waiting", "dead", "interrupted", "failed")
    ]
    tried = found[STATUSES.index("dead")].path
    assert tried not in plan.startable(found, {tried})
    assert set(plan.STARTABLE) | set(plan.OVER) | {"running"} == set(STATUSES)


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("finished", None),
        ("diverged", None),
        ("waiting", None),
        ("running", None),
        ("dead", 6),
        ("interrupted", 6),
        ("bug", 1),
        ("machine", 6),
        ("input", 5),
        ("usage", 2),
    ],
)
def test_the_exit_code_of_a_failure(word: str, code: int | None) -> None:
    assert plan.failure_code(record(word)) == code


@pytest.mark.parametrize("exit_code", [None, 0, 3, 143, "6", [6], 99])
def test_a_failure_with_an_exit_code_that_no_failure_has_counts_as_a_bug(exit_code: object) -> None:
    broken = Record(Path("/run"), PolySettings(), "failed", {"exit_code": exit_code}, {}, datetime.now(UTC))
    assert plan.failure_code(broken) == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("finished finished", 0),
        ("finished diverged", 0),
        ("diverged finished", 0),
        ("diverged diverged", 4),
        ("diverged", 4),
        # Some failed: the gravest of 1, 6, 5, 2.
        ("usage finished", 2),
        ("usage input", 5),
        ("input usage finished", 5),
        ("input machine", 6),
        ("machine input usage", 6),
        ("machine bug", 1),
        ("usage input machine bug diverged finished", 1),
        ("interrupted finished", 6),
        ("dead finished", 6),
        ("input diverged", 5),
        ("input diverged diverged", 5),
        # A failure comes before what others still do.
        ("input waiting running", 5),
        ("usage running", 2),
        # Others hold the rest.
        ("running finished", 75),
        ("waiting diverged", 75),
        ("running diverged diverged", 75),
    ],
)
def test_the_exit_code_of_a_sweep(words: str, code: int) -> None:
    found = records(words)
    assert plan.exit_code(found, {each.path for each in found}, {}) == code


def test_a_failure_that_another_process_saw_is_not_this_ones() -> None:
    found = records("finished input")
    assert plan.exit_code(found, {found[0].path}, {}) == 75


def test_a_run_that_cannot_be_read_counts_as_a_failure_of_reading() -> None:
    found = records("finished finished")
    tried = {each.path for each in found}
    assert plan.exit_code(found, tried, {}, some_unread=True) == 5
    assert plan.exit_code([], (), {}, some_unread=True) == 5
    assert plan.exit_code([*found, record("machine", 7)], {Path("/runs/sweep/7")}, {}, some_unread=True) == 6


@pytest.mark.parametrize(("words", "code"), [("finished diverged", 3), ("finished input", 5), ("finished waiting", 75)])
def test_a_check_that_fails_counts_last(words: str, code: int) -> None:
    found = records(words)
    checked = [checks.parse("test_loss < 1")]
    failing = plan.failing([record("finished", 0, test_loss=2.0), *found[1:]], checked)
    assert failing == {Path("/runs/sweep/0"): checked}
    assert plan.exit_code(found, {each.path for each in found}, failing) == code


def test_checks_judge_finished_runs_alone_and_each_by_itself() -> None:
    below, above = checks.parse("test_loss < 1"), checks.parse("test_loss > 0.5")
    values = [("finished", 0.7), ("finished", 2.0), ("finished", 0.1), ("interrupted", 2.0), ("diverged", 2.0)]
    found = [record(status, number, test_loss=value) for number, (status, value) in enumerate(values)]
    assert plan.failing(found, [below, above]) == {found[1].path: [below], found[2].path: [above]}
    assert plan.failing(found, []) == {}


ALIKE = ("input", "mnist/x.gz: is broken. Remove it.")
OTHER = ("input", "mnist/y.gz: is broken. Remove it.")


@pytest.mark.parametrize(
    ("failures", "stops"),
    [
        ([ALIKE] * 2, False),
        ([ALIKE] * 3, True),
        ([ALIKE] * 4, True),
        ([ALIKE, OTHER, ALIKE], False),
        ([ALIKE, OTHER, ALIKE, ALIKE], True),
        ([ALIKE, ALIKE, ("machine", ALIKE[1])], False),
        ([("interrupted", None)] * 3, True),
        ([("dead", None)] * 3, True),
        ([], False),
    ],
)
def test_three_failures_alike_stop_a_sweep_of_which_nothing_finished(
    failures: Sequence[tuple[str, str | None]], stops: bool
) -> None:
    failed = [record(word, number, error) for number, (word, error) in enumerate(failures)]
    why = plan.why_stop(failed, some_finished=False)
    assert bool(why) == stops
    assert not stops or why.startswith("3 runs failed alike")
    assert not plan.why_stop(failed, some_finished=True)


def test_failures_are_alike_that_differ_in_the_names_of_their_runs() -> None:
    failed = [record("machine", number, f"/runs/sweep/{number}/metrics.csv: No space left.") for number in range(3)]
    assert plan.why_stop(failed, some_finished=False)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (record("input", error="it is broken"), "it is broken"),
        (record("input"), ""),
        (record("finished"), ""),
        (record("dead", error="an old word"), "killed: its process ended without a word"),
        (Record(Path("/run"), PolySettings(), "failed", {"error": 7}, {}, datetime.now(UTC)), ""),
    ],
)
def test_why_a_run_failed(found: Record, words: str) -> None:
    assert plan.why(found) == words
