"""Memory that is freed and asked for again, in processes of their own, since what they change is theirs for good."""

import ctypes
import platform
import subprocess
import sys

import pytest
from helpers import environment

from mlpx.training import memory

# Large buffers that come and go, as in a training step. What glibc gives back, it has to fetch again page by page.
FAULTS = """
import resource, sys, torch
from mlpx.training.memory import keep_freed
assert sys.argv[1] == "plain" or keep_freed()
for number in range(30):
    if number == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    # All are freed before the next ones come, which leaves the end of the heap free.
    parts = None
    parts = [torch.ones(2**21) for _ in range(12)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], env=environment(), capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_is_freed_is_kept_and_costs_no_page_faults() -> None:
    # By default it depends on where the heap happens to lie; once in a while all stays.
    plain, kept = max(faults("plain") for _ in range(2)), faults("kept")
    print(f"\npage faults: {plain} by default, {kept} where memory is kept")
    assert kept < 100 < plain


def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not memory.keep_freed()
