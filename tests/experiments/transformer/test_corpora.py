"""Parallel text: the right lines whatever ends them, and one line of error for what is no corpus."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import flipped, gz

from mlpx.errors import InputError
from mlpx.experiments.transformer import corpora
from mlpx.experiments.transformer.corpora import MAX_CHARACTERS, ParallelText, read_lines, read_pairs

GERMAN = "ein Hund läuft\nzwei Katzen\n".encode()
ENGLISH = b"a dog runs\ntwo cats\n"


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def as_folder(path: Path) -> None:
    path.mkdir()


def as_loop(path: Path) -> None:
    path.symlink_to(path)


def as_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def test_a_corpus_is_read_plain_or_packed(tmp_path: Path) -> None:
    src, tgt = write(tmp_path / "a.de", GERMAN), write(tmp_path / "a.en.gz", gz(ENGLISH[:11]) + gz(ENGLISH[11:]))
    assert read_pairs(src, tgt) == ParallelText(["ein Hund läuft", "zwei Katzen"], ["a dog runs", "two cats"], 0)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("a b\nc\n", ["a b", "c"]),
        ("a b\nc", ["a b", "c"]),
        ("a b\r\nc\r\n", ["a b", "c"]),
        ("a\rb\r\r\nc\r", ["a\rb\r", "c"]),
        ("\ufeffa\n\ufeffb\n", ["a", "\ufeffb"]),
        ("a\u2028b\u2029c\nd", ["a\u2028b\u2029c", "d"]),
        ("a\fb\vc\x1cd\x85e\nf", ["a\fb\vc\x1cd\x85e", "f"]),
        ("\n a \n\n", ["", " a ", ""]),
        ("a\x00b\n", ["a\x00b"]),
    ],
    ids=repr,
)
def test_lines_end_where_they_should(tmp_path: Path, content: str, lines: list[str]) -> None:
    path = Path(write(tmp_path / "a.txt", content.encode()))
    assert read_lines(path) == lines


def test_pairs_with_a_blank_or_endless_side_are_dropped_and_counted(tmp_path: Path) -> None:
    longest = "x" * MAX_CHARACTERS
    src = ["  one\t", "", "two", " \u2028\u00a0", "ü" * 10_000_000, "three", longest, "four", "five"]
    tgt = ["eins", "null", "zwei", "nichts", "lang", "\t", longest + " ", longest + "x", "\u3000fünf"]
    files = [write(tmp_path / name, "\n".join(side).encode()) for name, side in (("src", src), ("tgt", tgt))]
    assert read_pairs(*files) == ParallelText(["one", "two", longest, "five"], ["eins", "zwei", longest, "fünf"], 5)


FAULTS: dict[str, tuple[str, Callable[[Path], object] | bytes, list[str]]] = {
    "empty": ("a.en", b"", ["is empty"]),
    "only a byte order mark": ("a.en", b"\xef\xbb\xbf", ["is empty"]),
    "one line too few": ("a.en", b"a dog runs\n", ["1 lines for the 2 lines of", "a.de"]),
    "one line too many": ("a.en", ENGLISH + b"\n", ["3 lines for the 2 lines of", "a.de"]),
    "blank lines": ("a.en", b" \n\t\n", ["a.de and", "each of the 2 pairs"]),
    "not UTF-8": ("a.en", b"a dog\nzwei K\xe4tzchen\n", ["line 2 is not UTF-8", "byte 7 of the line", "iconv"]),
    "not UTF-8, after a byte order mark": ("a.en", b"\xef\xbb\xbf\xff\n\n", ["line 1 is not UTF-8"]),
    "a surrogate": ("a.en", b"a\n\xed\xa0\x80\n", ["line 2 is not UTF-8"]),
    "UTF-16": ("a.en", ENGLISH.decode().encode("utf-16"), ["line 1 is not UTF-8"]),
    "packed, by its name plain": ("a.en", gz(ENGLISH), ["line 1 is not UTF-8"]),
    "gzip truncated": ("a.en.gz", gz(ENGLISH)[:-9], ["is not whole, or not gzip"]),
    "gzip truncated in its checksum": ("a.en.gz", gz(ENGLISH)[:-3], ["is not whole, or not gzip"]),
    "gzip flipped where its data begins": ("a.en.gz", flipped(gz(ENGLISH), 10), ["is not whole, or not gzip"]),
    "gzip flipped in its data": ("a.en.gz", flipped(gz(ENGLISH), 12), ["is not whole, or not gzip"]),
    "gzip flipped in its checksum": ("a.en.gz", flipped(gz(ENGLISH), -6), ["is not whole, or not gzip"]),
    "gzip with a tail": ("a.en.gz", gz(ENGLISH) + b"tail", ["is not whole, or not gzip"]),
    "not gzip": ("a.en.gz", ENGLISH, ["is not whole, or not gzip"]),
    "gzip, empty": ("a.en.gz", b"", ["is empty"]),
    "gzip of nothing": ("a.en.gz", gz(b""), ["is empty"]),
    "missing": ("a.en", lambda path: None, ["No such file"]),
    "a folder": ("a.en", as_folder, ["directory"]),
    "a fifo": ("a.en", os.mkfifo, ["is not a regular file"]),
    "a packed fifo": ("a.en.gz", os.mkfifo, ["is not a regular file"]),
    "a link to itself": ("a.en", as_loop, ["symbolic links"]),
    "a terabyte": ("a.en", as_sparse, ["is longer than 65536 MiB"]),
    "a packed terabyte": ("a.en.gz", as_sparse, ["is longer than 65536 MiB"]),
    "a NUL in its name": ("a\x00.en", lambda path: None, ["null"]),
    "no name": ("", lambda path: None, ["directory"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_corpus_is_an_input_error_that_says_why(tmp_path: Path, fault: str) -> None:
    name, content, words = FAULTS[fault]
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    with pytest.raises(InputError) as caught:
        read_pairs(write(tmp_path / "a.de", GERMAN), str(path))
    message = str(caught.value)
    for word in [str(tmp_path), name.replace("\x00", "\\x00"), *words]:
        assert word in message
    assert caught.value.exit_code == 5
    assert message.isprintable()
    assert message.count(". ") == 1  # what: why. what to do


def test_either_file_may_be_the_broken_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.de: line 2 is not UTF-8"):
        read_pairs(write(tmp_path / "a.de", b"\n\xff"), write(tmp_path / "a.en", ENGLISH))


def test_a_file_that_cannot_be_opened_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(corpora, "open_regular", refuse)  # root may read all, so chmod proves nothing
    with pytest.raises(InputError, match="Permission denied"):
        read_lines(Path(write(tmp_path / "a.en", ENGLISH)))


@pytest.mark.parametrize(("name", "pack"), [("a.en", bytes), ("a.en.gz", gz)])
def test_the_largest_size_is_of_plain_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(corpora, "MAX_BYTES", 2**20)
    path = Path(write(tmp_path / name, pack(b"x" * 2**20)))
    assert len(read_lines(path)[0]) == 2**20
    write(path, pack(b"x" * (2**20 + 1)))
    with pytest.raises(InputError, match=r"(more|longer) than 1 MiB"):
        read_lines(path)


@pytest.mark.parametrize(("name", "pack"), [("a.en", bytes), ("a.en.gz", gz)])
def test_a_line_without_an_end_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(corpora, "MAX_LINE", 2**21)
    path = Path(write(tmp_path / name, pack(b"a\n" + bytes(2**26))))
    tracemalloc.start()
    with pytest.raises(InputError, match="a line is longer than 2 MiB"):
        read_lines(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"\n{peak / 2**20:.1f} MiB for a line of 64 MiB")
    assert peak < 16 * 2**20


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 2**20])
def test_lines_do_not_depend_on_where_chunks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(corpora, "CHUNK", chunk)
    content = "\ufeffa\u00fc b\r\n\n\r\n\u2028😀\nlast"
    assert read_lines(Path(write(tmp_path / "a", content.encode()))) == ["aü b", "", "", "\u2028😀", "last"]
    packed = Path(write(tmp_path / "a.gz", gz(content.encode())))
    assert read_lines(packed) == ["aü b", "", "", "\u2028😀", "last"]
    marks = write(tmp_path / "c", "\ufeffa\n\ufeffb\n\ufeffc".encode())  # only the first of them is no text
    assert read_lines(Path(marks)) == ["a", "\ufeffb", "\ufeffc"]
    with pytest.raises(InputError, match=r"line 3 is not UTF-8 \(.*, byte 2 of the line\)"):
        read_lines(Path(write(tmp_path / "b", b"\xef\xbb\xbfa\n\nb\xff\n")))


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "MAX_BYTES", 2**20)
    path = Path(write(tmp_path / "a.en.gz", gz(bytes(2**26))))
    tracemalloc.start()
    with pytest.raises(InputError, match="unpacks to more than 1 MiB"):
        read_lines(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"\n{peak / 2**20:.1f} MiB for a bomb of 64 MiB")
    assert peak < 8 * 2**20
