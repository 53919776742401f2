"""How standard input becomes lines."""

import os
import sys
import time

import pytest

from mlpx.cli import translate


def lines_of(monkeypatch: pytest.MonkeyPatch, *chunks: bytes) -> list[list[str]]:
    """What is read where ``os.read`` gives these chunks."""
    left = [*chunks, b""]
    monkeypatch.setattr(sys.stdin, "fileno", lambda: 0, raising=False)
    monkeypatch.setattr(os, "read", lambda *_: left.pop(0))
    return list(translate._lines())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_the_same_wherever_they_are_cut(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    data = b"one\n\ntwo three\r\n\n\nfour\xff\r\nlast"
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    lines = [line for some in lines_of(monkeypatch, *chunks) for line in some]
    assert lines == ["one", "", "two three", "", "", "four\ufffd", "last"]


def test_a_line_is_given_as_soon_as_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines_of(monkeypatch, b"a\nb", b"c\n", b"d\ne\n") == [["a"], ["bc"], ["d", "e"]]
    assert lines_of(monkeypatch, b"a") == [["a"]]
    assert lines_of(monkeypatch) == []


def test_one_long_line_takes_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """In quadratic time this is 40 GB to copy, which takes seconds; otherwise it takes a few hundredths of one."""
    began = time.process_time()
    ((line,),) = lines_of(monkeypatch, *[b"x" * 64] * 40_000)
    assert len(line) == 64 * 40_000
    assert time.process_time() - began < 1
