"""The wait for data: nothing of it is left on the screen, and a signal ends it and lets the data clean up."""

import os
import re
import signal
from collections.abc import Iterator

import pytest

from mlpx.cli import preparing, streams
from mlpx.errors import Interrupted
from mlpx.training.experiment import Preparing


def records(seen: list[str], *shares: float | None, sends: signal.Signals | None = None) -> Iterator[Preparing]:
    try:
        for share in shares:
            if sends is not None:
                os.kill(os.getpid(), sends)
            yield Preparing("reading [bold]x\n", share)
            seen.append("went on")
    finally:
        seen.append("closed")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_after_a_moment_and_closes_the_iterator(number: signal.Signals) -> None:
    before, seen = signal.getsignal(number), list[str]()
    with pytest.raises(Interrupted) as caught:
        preparing.wait_for(records(seen, 0.1, 0.2, sends=number), "Start it again.", is_shown=True)
    assert str(caught.value) == f"interrupted by {number.name}: stopped while reading [bold]x\\n. Start it again."
    assert (caught.value.signum, caught.value.exit_code) == (number, 128 + number)
    assert seen == ["closed"]
    assert signal.getsignal(number) == before


def test_a_signal_at_the_very_end_counts_too() -> None:
    def last() -> Iterator[Preparing]:
        yield Preparing("reading")
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"interrupted by SIGTERM: the data is ready\. Start it again\."):
        preparing.wait_for(last(), "Start it again.", is_shown=False)


def test_a_bar_shows_what_is_done_and_the_time_left_and_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = iter(float(seconds) for seconds in range(0, 1000, 10))
    monkeypatch.setattr(preparing.time, "monotonic", lambda: next(clock))  # type: ignore[attr-defined]
    monkeypatch.setattr(streams, "is_animated", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    progress = preparing._Progress(is_shown=True)
    for share in (0.0, 0.25, 0.5, None):
        progress.show(Preparing("reading [bold]x\n", share))
    progress.close()
    out, err = capfd.readouterr()
    assert out == ""
    drawn = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part) for part in err.split("\r")]
    left = [part.split("━")[-1].split("╺")[-1].strip() for part in drawn if "reading [bold]x\\n" in part]
    # A quarter in 10 seconds, a half in 20.
    assert [part for part in left if part] == ["0:00:30 left", "0:00:20 left"]
    assert err.endswith("\x1b[2K")  # the line is erased


def test_what_says_nothing_is_not_drawn_but_can_be_interrupted(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(streams, "is_animated", lambda: True)
    monkeypatch.setattr(preparing, "QUIET_SECONDS", 0.0)

    def downloading() -> Iterator[Preparing]:
        yield Preparing("")
        os.kill(os.getpid(), signal.SIGINT)
        yield Preparing("")

    with pytest.raises(Interrupted, match="stopped while looking for data"):
        preparing.wait_for(downloading(), "", is_shown=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("is_shown", [True, False])
def test_without_a_terminal_nothing_is_drawn(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], is_shown: bool
) -> None:
    monkeypatch.setattr(preparing, "QUIET_SECONDS", 0.0)
    if not is_shown:
        monkeypatch.setattr(streams, "is_animated", lambda: True)
    preparing.wait_for(records([], 0.1, 0.5, 1.0), "", is_shown=is_shown)
    assert capfd.readouterr() == ("", "")
