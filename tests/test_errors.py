"""One line for each failure, from which neither the reason nor the remedy is lost."""

import errno
import os

import pytest

from mlpx.errors import MAX_MESSAGE, InputError, MachineError, as_mlpx_error, reason


def test_a_long_reason_is_cut_in_its_middle_and_the_remedy_never() -> None:
    names = ", ".join(f"tok/train.lc.norm.tok.{number}" for number in range(60))
    line = str(InputError("data/multi30k", f"{names} missing (timed out)", "Name their folder by --data-dir."))
    assert len(line) <= MAX_MESSAGE
    assert line.startswith("data/multi30k: tok/train.lc.norm.tok.0, ")
    assert line.endswith(" missing (timed out). Name their folder by --data-dir.")
    assert "..." in line


def test_a_remedy_longer_than_a_message_leaves_room_for_the_reason() -> None:
    remedy = f"The settings are {', '.join(f'setting_{number}' for number in range(100))}."
    line = str(InputError("my.toml", "no such setting", remedy))
    assert line == f"my.toml: no such setting. {remedy}"


def test_control_characters_are_escaped_in_every_part() -> None:
    assert str(InputError("a\x1b[31m", "b\nc", "d\te")) == r"a\x1b[31m: b\nc. d\te"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x"), "No space left on device"),
        (ValueError("embedded null byte"), "embedded null byte"),
        (RuntimeError("first line\nC++ stack"), "first line"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_reason_is_one_line_without_number_or_file_name(error: Exception, words: str) -> None:
    assert reason(error) == words


def test_a_failing_disk_advises_to_resume_only_where_the_caller_says_so() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.png")
    known = as_mlpx_error(error)
    assert isinstance(known, MachineError)
    assert str(known) == "a.png: No space left on device. Fix it, and try again."
    assert str(as_mlpx_error(error, "Go on with 'mlpx resume x'.")).endswith("device. Go on with 'mlpx resume x'.")
