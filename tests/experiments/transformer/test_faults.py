"""Corpora that are missing, broken or hostile: one line, the right exit code, no run; and those that only look so."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import assert_fails, document_of, flipped, gz, mlpx, table
from safetensors.torch import load_file

from mlpx.cli import app
from mlpx.experiments.transformer import corpora
from mlpx.experiments.transformer.corpora import MAX_CHARACTERS

SOURCE = [f"{'abcdefgh'[i % 8]}o {'bcdfg'[i % 5]}u ki" for i in range(40)]
TARGET = [f"{'bcdfg'[i % 5]}e na {'abcdefgh'[i % 8]}i" for i in range(40)]
PARTS = ("train", "val", "test")
TRAIN = (
    *("transformer", "--task", "text", "--vocab-size", "40", "--epochs", "1", "--num-layers", "1", "--quiet"),
    *("--d-model", "8", "--num-heads", "2", "--d-ff", "8"),
    *(word for part in PARTS for side in ("src", "tgt") for word in (f"--{part}-{side}", f"{part}.{side}")),
)


def lines(sentences: Sequence[str]) -> bytes:
    return "".join(f"{sentence}\n" for sentence in sentences).encode()


def write_corpus(folder: Path) -> None:
    for part, count in zip(PARTS, (40, 10, 10), strict=True):
        for side, sentences in (("src", SOURCE), ("tgt", TARGET)):
            (folder / f"{part}.{side}").write_bytes(lines(sentences[:count]))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a small corpus that is good."""
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path)
    return tmp_path


FAULTS: dict[str, tuple[str, Callable[[Path], object] | bytes, tuple[str, ...]]] = {
    "empty": ("train.src", b"", ("is empty",)),
    "only a byte order mark": ("val.tgt", b"\xef\xbb\xbf", ("is empty",)),
    "lines that are too few": ("train.tgt", lines(TARGET[:39]), ("39 lines for the 40 lines of", "train.src")),
    "lines that are too many": ("test.src", lines(SOURCE[:11]), ("10 lines for the 11 lines of", "test.tgt")),
    "not UTF-8": ("val.src", lines(SOURCE[:6]) + b"gr\xfcn\n" + lines(SOURCE[:3]), ("line 7 is not UTF-8", "byte 3")),
    "UTF-16": ("test.tgt", "eins\n".encode("utf-16"), ("line 1 is not UTF-8",)),
    "gzip, by its name plain": ("train.src", gz(lines(SOURCE)), ("line 1 is not UTF-8",)),
    "gzip truncated": ("train.src.gz", gz(lines(SOURCE))[:-30], ("is not whole, or not gzip",)),
    "gzip flipped": ("val.tgt.gz", flipped(gz(lines(TARGET[:10]))), ("is not whole, or not gzip", "CRC")),
    "not gzip": ("test.src.gz", lines(SOURCE[:10]), ("is not whole, or not gzip",)),
    "an empty .gz": ("train.tgt.gz", b"", ("is empty",)),
    "gzip of nothing": ("train.tgt.gz", gz(b""), ("is empty",)),
    "a bomb": ("train.src.gz", gz(bytes(2**22)), ("unpacks to more than 1 MiB",)),
    "missing": ("test.tgt", lambda path: None, ("No such file",)),
    "a missing .gz": ("val.src.gz", lambda path: None, ("No such file",)),
    "a folder": ("train.src", lambda path: path.mkdir(), ("directory",)),
    "a fifo": ("val.tgt", os.mkfifo, ("is not a regular file",)),
    "a link to itself": ("train.tgt", lambda path: path.symlink_to(path), ("symbolic links",)),
    "all lines blank": ("train.src", b" \n\t\r\n" * 20, ("each of the 40 pairs", "blank")),
    "all lines too long": ("val.tgt", (b"x" * (MAX_CHARACTERS + 1) + b"\n") * 10, ("each of the 10 pairs", "longer")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_corpus_that_is_broken_is_5_and_no_run_is_left(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    name, content, words = FAULTS[fault]
    plain = name.removesuffix(".gz")
    (folder / plain).unlink()
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        content(folder / name)
    if fault == "a bomb":
        monkeypatch.setattr(corpora, "MAX_BYTES", 2**20)
    result = mlpx(capfd, *(name if word == plain else word for word in TRAIN))
    assert_fails(result, 5, name, *words)
    assert result.out == ""
    assert not (folder / "runs").exists()


TOO_MANY = "bo cu ki " * 400 + "\n"  # subwords, in few characters


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("files", "content", "words"),
    [
        (("train.src", "train.tgt"), "\x01\n" * 40, "nothing in it to learn subwords from"),
        (("val.tgt",), TOO_MANY * 10, "all are longer than 1024 subwords"),
    ],
)
def test_sentences_that_no_vocabulary_can_cut_are_5_too(
    folder: Path, capfd: pytest.CaptureFixture[str], files: tuple[str, ...], content: str, words: str
) -> None:
    for file in files:
        (folder / file).write_text(content)
    assert_fails(mlpx(capfd, *TRAIN), 5, words)
    assert not (folder / "runs").exists()


@pytest.mark.filterwarnings("default")
def test_pairs_of_too_many_subwords_are_left_out_and_counted(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "val.tgt").write_text(TOO_MANY + lines(TARGET[1:10]).decode())
    result = mlpx(capfd, *TRAIN)
    assert (result.code, result.err.count("\n")) == (0, 1)
    assert "1 of 10 pairs are left out" in result.err
    assert "longer than 1024 subwords" in result.err


@pytest.mark.parametrize(
    ("size", "words"), [("100000", ("too large", "or less", "more text")), ("10", ("too small", "or more"))]
)
def test_a_vocabulary_that_the_text_does_not_yield_is_2_and_says_what_it_yields(
    folder: Path, capfd: pytest.CaptureFixture[str], size: str, words: tuple[str, ...]
) -> None:
    result = mlpx(capfd, *TRAIN, "--vocab-size", size)
    assert_fails(result, 2, "--vocab-size", size, *words)
    assert not (folder / "runs").exists()
    (bound,) = {word for word in result.err.split() if word.isdecimal()} - {size}
    assert mlpx(capfd, *TRAIN, "--vocab-size", bound).code == 0


def with_blank_lines(sentences: Sequence[str], blank: str, elsewhere: str) -> bytes:
    """A pair of which this side is blank, and one of which the other is."""
    return lines([*sentences[:5], blank, *sentences[5:8], elsewhere, *sentences[8:]])


NO_FAULTS: dict[str, tuple[dict[str, bytes], str]] = {
    "the ends of lines that Windows has": (
        {"train.src": lines(SOURCE).replace(b"\n", b"\r\n"), "test.tgt": lines(TARGET[:10]).replace(b"\n", b"\r\n")},
        "",
    ),
    "a byte order mark": (
        {"train.tgt": b"\xef\xbb\xbf" + lines(TARGET), "val.src": b"\xef\xbb\xbf" + lines(SOURCE[:10])},
        "",
    ),
    "no end of the last line": ({"train.src": lines(SOURCE)[:-1], "val.tgt": lines(TARGET[:10])[:-1]}, ""),
    "a line separator within a line": ({"train.src": lines(SOURCE).replace(b" ", "\u2028".encode(), 1)}, ""),
    "blank lines": (
        {
            "train.src": with_blank_lines(SOURCE, "", "elsewhere"),
            "train.tgt": with_blank_lines(TARGET, "elsewhere", " \t"),
        },
        "2 of 42 pairs are left out (blank, or longer than 10000 characters)",
    ),
    "a line of 10 MB": (
        {"train.src": lines(["x" * 10_000_000, *SOURCE]), "train.tgt": lines(["xx", *TARGET])},
        "1 of 41 pairs are left out (blank, or longer than 10000 characters)",
    ),
    "packed": ({"train.src.gz": gz(lines(SOURCE)), "test.tgt.gz": gz(lines(TARGET[:10]))}, ""),
}


class Learned(NamedTuple):
    """What a run learned from its corpus, and how it did."""

    weights: dict[str, bytes]
    vocabulary: bytes
    losses: list[str]
    translations: bytes
    test_bleu: float


def learned_by(run: Path) -> Learned:
    rows = table(run / "metrics.csv")
    return Learned(
        {name: tensor.numpy().tobytes() for name, tensor in load_file(run / "weights.safetensors").items()},
        (run / "sentencepiece.model").read_bytes(),
        [value for row in rows for name, value in row.items() if name.endswith("loss")],
        (run / "translations.txt").read_bytes(),
        document_of(run)["metrics"]["test_bleu"],
    )


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    """Of the good corpus."""
    folder = tmp_path_factory.mktemp("good")
    write_corpus(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert app.run(TRAIN) == 0
    return learned_by(folder / "runs" / "latest")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", NO_FAULTS)
def test_a_corpus_that_only_looks_broken_gives_what_the_good_one_does(
    folder: Path, capfd: pytest.CaptureFixture[str], good: Learned, name: str
) -> None:
    files, warning = NO_FAULTS[name]
    for file, content in files.items():
        (folder / file.removesuffix(".gz")).unlink()
        (folder / file).write_bytes(content)
    result = mlpx(capfd, *(f"{word}.gz" if f"{word}.gz" in files else word for word in TRAIN))
    assert result.code == 0
    assert result.err == (f"warning: {folder / 'train.src'}: {warning}\n" if warning else "")
    assert learned_by(folder / "runs" / "latest") == good
