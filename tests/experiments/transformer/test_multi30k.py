"""Multi30k: which files, from where, by which checksums; and the whole program on a small corpus in their place."""

import contextlib
import gzip
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import Program, assert_fails, document_of, flipped, mlpx, real_data
from sacrebleu.metrics.bleu import BLEU
from servers import NETWORK_FAULTS, Served, limit_downloads

from mlpx.errors import InputError
from mlpx.experiments.transformer import multi30k

WORDS = [consonant + vowel for consonant in "bdfgkl" for vowel in "aeiou"]
SMALL = (
    *("transformer", "--task", "multi30k", "--data-dir", "data", "--vocab-size", "60", "--d-model", "32"),
    *("--d-ff", "64", "--num-layers", "1", "--num-heads", "2", "--batch-size", "32", "--warmup-steps", "10"),
    *("--lr", "0.01", "--epochs", "3"),
)


def sentences(part: str, language: str) -> list[str]:
    """Of one language: each word is another, and only raw text has capitals and a full stop that is not apart."""
    step = {"en": 1, "de": 7, "fr": 11}[language]
    count = {"train": 200, "val": 20, "test": 20}[part]
    starts = range(0, 13 * count, 13)
    return [" ".join(WORDS[(step * (start + i * i)) % 30] for i in range(2 + start % 5)) for start in starts]


def files() -> dict[str, bytes]:
    """A small corpus under the names that the published one has."""
    found = {}
    for part in multi30k.PARTS:
        for language in ("en", "de", "fr"):
            lines = sentences(part, language)
            (raw,) = multi30k.names("raw", part, [language])
            (tok,) = multi30k.names("tok", part, [language])
            found[raw] = gzip.compress("".join(f"{line.capitalize()}.\n" for line in lines).encode(), mtime=0)
            found[tok] = "".join(f"{line} .\n" for line in lines).encode()
    return found


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A data folder with the small corpus."""
    for name, content in files().items():
        path = tmp_path / "data" / "multi30k" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A web server that stands in for the published one and has the small corpus."""
    published = {name if "/" in name else f"raw/{name}": content for name, content in files().items()}
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files().items()}
    with contextlib.closing(Served(published)) as served:
        monkeypatch.setattr(multi30k, "URL", served.url("good"))
        monkeypatch.setattr(multi30k, "CHECKSUMS", checksums)
        yield served


@pytest.fixture
def asked(server: Served) -> list[str]:
    """What that server has been asked for."""
    return server.asked


def test_files_have_their_published_names_and_come_from_one_commit() -> None:
    assert multi30k.names("raw", "test", ["en", "de"]) == ["test_2016_flickr.en.gz", "test_2016_flickr.de.gz"]
    assert multi30k.names("tok", "train", ["fr"]) == ["tok/train.lc.norm.tok.fr"]
    assert set(files()) == set(multi30k.CHECKSUMS)
    assert multi30k.URL.endswith("/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1")


@pytest.mark.real_data
def test_checksums_are_those_of_the_published_files() -> None:
    folder = Path(real_data("multi30k"), "multi30k")
    for name, checksum in multi30k.CHECKSUMS.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum, name


def test_what_is_missing_is_downloaded_and_what_is_there_is_used(tmp_path: Path, asked: list[str]) -> None:
    (tmp_path / "multi30k" / "tok").mkdir(parents=True)
    (tmp_path / "multi30k" / "val.de.gz").write_bytes(b"mine")
    (tmp_path / "multi30k" / "tok" / "val.lc.norm.tok.fr").write_bytes(b"mine")
    folder = multi30k.fetch(str(tmp_path))
    assert folder == tmp_path / "multi30k"
    mine = {"val.de.gz": b"mine", "tok/val.lc.norm.tok.fr": b"mine"}
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == files() | mine
    assert len(asked) == len(files()) - 2
    multi30k.fetch(str(tmp_path))
    assert len(asked) == len(files()) - 2


def test_only_the_files_wanted_are_downloaded(tmp_path: Path, asked: list[str]) -> None:
    multi30k.fetch(str(tmp_path), multi30k.names("raw", "train", ["en", "fr"]))
    assert asked == ["good/raw/train.en.gz", "good/raw/train.fr.gz"]


def test_a_wrong_file_is_refused_and_leaves_nothing(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(multi30k.CHECKSUMS, "train.en.gz", "0" * 64)
    with pytest.raises(InputError, match=r"train\.en\.gz is missing.* have sha256 .*MLPX_DATA_DIR"):
        multi30k.fetch(str(tmp_path), ["train.en.gz"])
    assert asked == ["good/raw/train.en.gz"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("fault", NETWORK_FAULTS)
@pytest.mark.program
def test_a_fault_of_the_network_is_5_and_the_next_try_starts_clean(
    tmp_path: Path, server: Served, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    limit_downloads(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(multi30k, "URL", server.url(fault))
    missing = "tok/train.lc.norm.tok.en and 1 more are missing"
    words = (word.format("sha256") for word in NETWORK_FAULTS[fault])
    result = mlpx(capfd, *SMALL, "--quiet")
    assert_fails(result, 5, *words, missing, "data/multi30k", "--data-dir", "MLPX_DATA_DIR")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not Path("runs").exists()
    monkeypatch.setattr(multi30k, "URL", server.url("good"))
    assert mlpx(capfd, *SMALL, "--quiet")[::2] == (0, "")
    found = {str(path.relative_to("data/multi30k")): path.read_bytes() for path in Path("data").rglob("*.tok.*")}
    assert found == {name: files()[name] for name in found}
    assert len(found) == 6


RAW, TOK = "train.de.gz", "tok/val.lc.norm.tok.en"
FAULTS: dict[str, tuple[str, Callable[[bytes], bytes | None], str]] = {
    "truncated": (RAW, lambda content: content[:-30], "is not whole, or not gzip"),
    "flipped": (RAW, flipped, "CRC"),
    "not gzip": (RAW, lambda content: gzip.decompress(content), "is not whole, or not gzip"),
    "empty": (TOK, lambda content: b"", "is empty"),
    "a line too few": (TOK, lambda content: content[: content[:-1].rindex(b"\n") + 1], "19 lines"),
    "not UTF-8": (TOK, lambda content: content.replace(b"\n", b"\n\xfc", 1), "line 2 is not UTF-8"),
    "a folder": (TOK, lambda content: None, "directory"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_file_is_5_and_no_run_is_left(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    monkeypatch.chdir(corpus)
    name, change, words = FAULTS[fault]
    path = corpus / "data" / "multi30k" / name
    content = change(path.read_bytes())
    if content is None:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(content)
    assert_fails(mlpx(capfd, *SMALL, "--text", "raw" if name == RAW else "tok"), 5, name, words)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("text", "signature"), [("tok", "case:lc|eff:no|tok:none"), ("raw", "case:mixed|eff:no|tok:13a")]
)
def test_a_run_scores_its_form_of_text_by_that_forms_bleu(
    corpus: Path, program: Program, text: str, signature: str
) -> None:
    done = program(*SMALL, "--text", text, "--beam", "3", "--tune-length-penalty", "--quiet")
    assert done.code == 0
    run = Path(done.out.strip())
    assert run.name.endswith("-transformer-multi30k-en-de")
    document = document_of(run)
    assert signature in document["bleu_signature"]
    test_files = [corpus / "data" / "multi30k" / name for name in multi30k.names(text, "test", ["en", "de"])]
    sources, references = (
        (gzip.decompress(path.read_bytes()) if text == "raw" else path.read_bytes()).decode() for path in test_files
    )

    # By the penalty that was chosen, translate writes what was scored.
    output = program("translate", str(run), *sources.splitlines()).out.splitlines()
    metric = BLEU(tokenize="none", lowercase=True, force=True) if text == "tok" else BLEU()
    assert metric.corpus_score(output, [references.splitlines()]).score == document["metrics"]["test_bleu"]
    assert program("evaluate", str(run)).code == 0
    other = ("--test-src", str(test_files[1]), "--test-tgt", str(test_files[1]))
    assert "on other data" in program("evaluate", str(run), *other).out


def test_another_language_is_translated_into(corpus: Path, program: Program) -> None:
    done = program(*SMALL, "--source", "fr", "--target", "en", "--quiet")
    assert done.code == 0
    run = Path(done.out.strip())
    first = (run / "translations.txt").read_text().splitlines()
    assert first[:2] == [
        f"source:    {sentences('test', 'fr')[0]} .",
        f"reference: {sentences('test', 'en')[0]} .",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "en"), ["--target", "another language"]),
        (("--target", "cs"), ["--target", "'en', 'de', 'fr'"]),
        (("--train-src", "a", "--train-tgt", "b"), ["--train-src", "own data"]),
        (("--test-src", "a"), ["test", "both"]),
    ],
)
def test_what_makes_no_sense_is_refused(program: Program, options: tuple[str, ...], words: list[str]) -> None:
    assert_fails(program(*SMALL, *options), 2, *words)


@pytest.mark.parametrize("option", [("--source", "fr"), ("--text", "raw"), ("--data-dir", "data")])
def test_other_tasks_have_no_languages(program: Program, option: tuple[str, ...]) -> None:
    assert_fails(program("transformer", *option), 2, option[0], "multi30k")


def test_fetch_has_all_of_it_and_reads_it(corpus: Path, program: Program) -> None:
    done = program("data", "fetch", "multi30k", "--data-dir", "data")
    assert (done.code, done.out) == (0, f"{corpus / 'data' / 'multi30k'}\n")
    (corpus / "data" / "multi30k" / "val.fr.gz").write_bytes(b"no gzip")
    assert_fails(program("data", "fetch", "multi30k", "--data-dir", "data"), 5, "val.fr.gz", "gzip")
