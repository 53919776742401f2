"""Signals that ask to stop. The first one only sets a flag, and a second one, some time later, ends the process."""

import os
import signal
import time
from types import FrameType
from typing import NoReturn, Self

STOPPING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
SAME_SECONDS = 0.5
"""A signal that comes so soon after the first counts as the same one, since schedulers signal a process twice:
directly, and through the process that started it.
"""


class Stopping(Exception):
    """A training gives way to the signal ``signum``; whoever catches it saves."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class StopFlag:
    """A context in which the first stopping signal is only noted, in ``signum``.

    A signal that was ignored before, as SIGHUP is under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._since = 0.0
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            self._since = time.monotonic()
        elif time.monotonic() - self._since > SAME_SECONDS:
            die_by(signum)


def die_by(signum: int) -> NoReturn:
    """End this process by ``signum``, so that a shell loop around it stops too."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    raise SystemExit(128 + signum)  # reached only where the signal is blocked
