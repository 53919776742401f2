"""The training set: encoded once, kept, verified, and made anew or not kept when something is wrong with the cache."""

import errno
import fcntl
import json
import os
import random
import re
import signal
import tempfile
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from forks import Live, live
from helpers import environment, flipped, gz

from mlpx.errors import InputError, MachineError, UsageError
from mlpx.experiments.transformer import corpora, corpus_cache, encoding, training_set
from mlpx.experiments.transformer.corpora import read_pairs
from mlpx.experiments.transformer.corpus_cache import FACTS, LOCK, TrainingSet
from mlpx.experiments.transformer.encoding import LENGTHS, MODEL, WORDS, EvenSample
from mlpx.experiments.transformer.subwords import Subwords, learn
from mlpx.training.experiment import Preparing

PHRASES = ["der Hund läuft", "schön über die Straße", "viele Häuser und", "grüne Bäume", "ein Tier", "am Weg"]
GERMAN = [f"{one} {other} {third}" for one in PHRASES for other in PHRASES for third in PHRASES]
ENGLISH = [" ".join(reversed(line.split())) for line in GERMAN]
VOCAB_SIZE = 60
SIDES = ("src", "tgt")
FILES = {FACTS, LENGTHS, LOCK, MODEL, WORDS}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of kept corpora, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mlpx" / "corpora"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    return write(tmp_path / "a.de", GERMAN), write(tmp_path / "a.en", ENGLISH)


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each vocabulary that is learned."""
    sizes: list[int] = []

    def counted(sentences: Iterator[str], vocab_size: int) -> bytes:
        sizes.append(vocab_size)
        return learn(sentences, vocab_size)

    monkeypatch.setattr(encoding, "learn", counted)
    return sizes


def write(path: Path, lines: list[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def take(files: tuple[str, str], vocab_size: int = VOCAB_SIZE) -> TrainingSet:
    return training_set.take(*files, vocab_size)


def quietly(files: tuple[str, str]) -> TrainingSet:
    """Taken with whatever warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return take(files)


def entry(cache: Path) -> Path:
    """The one corpus that is kept, which is complete, and nothing beside it."""
    (folder,) = cache.iterdir()
    assert {path.name for path in folder.iterdir()} == FILES
    return folder


def lists(found: TrainingSet) -> tuple[list[list[int]], list[list[int]]]:
    return found.pairs.src.lists(), found.pairs.tgt.lists()


def until(records: Iterator[Preparing], doing: str) -> None:
    for record in records:
        if record.doing == doing:
            return
    pytest.fail(f"never {doing}")


def expected(src: list[str], tgt: list[str], vocab_size: int = VOCAB_SIZE) -> tuple[bytes, Any]:
    """What sentencepiece makes of all pairs in one go."""
    model = learn([*src, *tgt], vocab_size)
    return model, (Subwords(model).encode(src), Subwords(model).encode(tgt))


# What is made


@pytest.mark.parametrize(("pairs_at_once", "chunk"), [(10_000, 2**20), (7, 10)])
def test_vocabulary_and_words_are_those_of_all_pairs_in_one_go(
    files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, pairs_at_once: int, chunk: int
) -> None:
    monkeypatch.setattr(corpora, "PAIRS_AT_ONCE", pairs_at_once)
    monkeypatch.setattr(corpora, "CHUNK", chunk)
    model, words = expected(GERMAN, ENGLISH)
    for found in (take(files), take(files)):
        assert found.model == model
        assert lists(found) == words
        assert isinstance(found.pairs.src.words, np.memmap)
        assert found.pairs.src.words.dtype == np.uint16
        assert not found.pairs.src.words.flags.writeable


def test_a_large_vocabulary_has_words_of_32_bits(tmp_path: Path) -> None:
    """70,000 characters that differ, and so as many words."""
    letters = [chr(code) for code in range(0x20000, 0x20000 + 42_000)] + [chr(code) for code in range(0xAC00, 0xD7A0)]
    letters += [chr(code) for code in range(0x30000, 0x30000 + 13_000)]
    lines = ["".join(letters[first : first + 1000]) for first in range(0, len(letters), 1000)]
    files = write(tmp_path / "a", lines), write(tmp_path / "b", lines)
    found = take(files, len(letters) + 5)
    assert found.pairs.src.words.dtype == np.int32
    assert int(found.pairs.src.words.max()) >= 2**16
    assert lists(found) == expected(lines, lines, len(letters) + 5)[1]


def test_pairs_that_do_not_fit_are_left_out_and_counted_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "MAX_WORDS", 30)
    src, tgt = [*GERMAN, "", "am Weg", "am " * 40, "am", "am"], [*ENGLISH, "way", " ", "way", "way " * 40, "way"]
    kept = [*range(len(GERMAN)), len(src) - 1]
    files = write(tmp_path / "a", src), write(tmp_path / "b", tgt)
    whole = read_pairs(*files)
    model, _ = expected(whole.src, whole.tgt)
    subwords = Subwords(model)
    fits = [i for i in kept if max(map(len, subwords.encode([src[i], tgt[i]]))) <= 30]
    for _ in range(2):
        found = take(files)
        assert found.model == model
        assert lists(found) == (subwords.encode([src[i] for i in fits]), subwords.encode([tgt[i] for i in fits]))
        assert (found.facts.num_lines, found.facts.num_unfit) == (len(src), 2)
        assert found.facts.num_long == len(src) - 2 - len(fits) >= 2
        assert found.facts.num_pairs == len(fits) > 100


def test_the_same_text_packed_gives_the_same_digest_and_words(files: tuple[str, str], tmp_path: Path) -> None:
    packed = []
    for path in files:
        (tmp_path / f"{Path(path).name}.gz").write_bytes(gz(Path(path).read_bytes()))
        packed.append(f"{path}.gz")
    found, plain = take((packed[0], packed[1])), take(files)
    assert found.facts == plain.facts
    assert lists(found) == lists(plain)


def test_the_digest_of_the_facts_tells_another_vocabulary(files: tuple[str, str]) -> None:
    digests = {take(files, size).facts.digest for size in (VOCAB_SIZE, VOCAB_SIZE + 1, VOCAB_SIZE)}
    assert len(digests) == 2


@pytest.mark.parametrize(("count", "left"), [(10, range(10)), (11, range(0, 11, 2)), (40, range(0, 40, 4))])
def test_a_sample_is_all_pairs_or_evenly_spaced_ones(count: int, left: range) -> None:
    for at_once in (1, 3, 100):
        sample = EvenSample(10)
        for first in range(0, count, at_once):
            some = [str(i) for i in range(first, min(count, first + at_once))]
            sample.add(some, [f"-{i}" for i in some])
        assert sample.src == [str(i) for i in left]
        assert sample.tgt == [f"-{i}" for i in left]


def test_subwords_of_many_pairs_are_learned_from_a_sample(
    files: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "LEARNED_PAIRS", 120)
    assert take(files).model == learn([*GERMAN[::2], *ENGLISH[::2]], VOCAB_SIZE)


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "LEARNED_PAIRS", 200)
    monkeypatch.setattr(corpora, "PAIRS_AT_ONCE", 500)
    monkeypatch.setattr(corpora, "CHUNK", 2**14)
    peaks = []
    for times in (10, 100):
        files = write(tmp_path / "a", GERMAN * times), write(tmp_path / "b", ENGLISH * times)
        tracemalloc.start()
        found = take(files)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(found.pairs.src) == times * len(GERMAN)
    print(f"\npeaks: {peaks} bytes for {10 * len(GERMAN)} and {100 * len(GERMAN)} pairs")
    # The lengths and starts of 20,000 more pairs, in a few copies; their text is over 2 MB, as objects 5.
    assert peaks[1] - peaks[0] < 2e6


# What is kept


def test_a_corpus_is_made_once_and_found_under_any_name(
    files: tuple[str, str], cache: Path, learned: list[int], tmp_path: Path
) -> None:
    first = take(files)
    moved = tuple(str(Path(path).rename(tmp_path / f"moved.{i}")) for i, path in enumerate(files))
    again = take((moved[0], moved[1]))
    assert learned == [VOCAB_SIZE]
    assert (again.model, again.facts) == (first.model, first.facts)
    assert lists(again) == lists(first)
    entry(cache)


def test_what_is_prepared_is_what_is_taken(files: tuple[str, str], learned: list[int]) -> None:
    shares = [record.done for record in training_set.prepare(*files, VOCAB_SIZE) if record.doing == "encoding"]
    assert shares == [1.0]
    Path(files[0]).unlink()  # it is not read again
    assert len(take((files[0], files[1])).pairs.src) == len(GERMAN)
    assert learned == [VOCAB_SIZE]


def test_progress_goes_from_nothing_to_all(files: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "PAIRS_AT_ONCE", 20)
    monkeypatch.setattr(corpora, "CHUNK", 100)
    records = list(training_set.prepare(*files, VOCAB_SIZE))
    for doing in ("reading a.de", "encoding"):
        shares = [record.done or 0.0 for record in records if record.doing == doing]
        assert len(shares) == 11
        assert shares == sorted(shares)
        assert shares[0] < 0.15
        assert shares[-1] == 1.0


def test_what_decides_the_result_decides_the_key(
    files: tuple[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(files)
    take((files[1], files[0]))
    take(files, VOCAB_SIZE + 1)
    for module, name in ((encoding, "MAX_WORDS"), (encoding, "LEARNED_PAIRS"), (corpora, "MAX_CHARACTERS")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 999)
            take(files)
    with monkeypatch.context() as patch:
        patch.setattr(sentencepiece, "__version__", "9.9")
        take(files)
    Path(files[0]).write_text(Path(files[0]).read_text().replace("Tier", "tier"))
    take(files)
    assert len(list(cache.iterdir())) == 8


# What may be wrong with it


def break_facts(content: bytes, **changes: object) -> bytes:
    return json.dumps({**json.loads(content), **changes}).encode()


BROKEN: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "words truncated": (WORDS, lambda content: content[:-2]),
    "words truncated to nothing": (WORDS, lambda content: b""),
    "words truncated within one": (WORDS, lambda content: content[:-1]),
    "words longer": (WORDS, lambda content: content + b"\0\0"),
    "a flipped bit in the words": (WORDS, lambda content: flipped(content, 101)),
    "lengths truncated": (LENGTHS, lambda content: content[:-2]),
    "lengths truncated within one": (LENGTHS, lambda content: content[:-1]),
    "a flipped bit in the lengths": (LENGTHS, lambda content: flipped(content, 10)),
    "the vocabulary truncated": (MODEL, lambda content: content[:-5]),
    "a flipped bit in the vocabulary": (MODEL, lambda content: flipped(content, 200)),
    "facts truncated": (FACTS, lambda content: content[:-9]),
    "facts empty": (FACTS, lambda content: b""),
    "facts not JSON": (FACTS, lambda content: b"\xff\0[" + content),
    "facts of another shape": (FACTS, lambda content: b"[[]]"),
    "facts deep": (FACTS, lambda content: b"[" * 50_000),
    "facts of another format": (FACTS, lambda content: break_facts(content, format=99)),
    "a changed fact": (FACTS, lambda content: content.replace(b'"num_unfit": 0', b'"num_unfit": 1')),
    "no checksum": (FACTS, lambda content: break_facts(content, crc32=None)),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_broken_is_made_anew_with_a_warning(files: tuple[str, str], cache: Path, fault: str) -> None:
    before = lists(take(files))
    name, change = BROKEN[fault]
    path = entry(cache) / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.warns(UserWarning, match="is broken and made anew: ") as caught:
        assert lists(take(files)) == before
    assert len(caught) == 1
    assert name in str(caught[0].message) or name in (MODEL, LENGTHS)
    entry(cache)
    assert lists(take(files)) == before  # without a warning


def test_every_flipped_bit_of_the_facts_is_noticed(files: tuple[str, str], cache: Path) -> None:
    take(files)
    path = entry(cache) / FACTS
    content = path.read_bytes()
    noticed = 0
    for place in range(len(content)):
        path.write_bytes(flipped(content, place))
        try:
            same = corpus_cache.read(path.parent)
        except corpus_cache.BrokenCorpus:
            noticed += 1
        else:  # white space may change
            assert same is not None
            assert content[place : place + 1].isspace()
    print(f"\n{noticed} of {len(content)}")
    assert noticed > 0.8 * len(content)


def a_link_to(target: Path) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


@pytest.mark.parametrize("name", sorted(FILES - {LOCK}))
@pytest.mark.parametrize("kind", ["link", "link to nowhere", "folder", "fifo", "missing"])
def test_what_is_no_file_is_replaced_and_nothing_behind_a_link_is_touched(
    files: tuple[str, str], cache: Path, tmp_path: Path, name: str, kind: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    before = lists(take(files))
    path = entry(cache) / name
    path.unlink()
    make: dict[str, Callable[[Path], object]] = {
        "link": a_link_to(precious),
        "link to nowhere": a_link_to(tmp_path / "nowhere"),
        "folder": Path.mkdir,
        "fifo": os.mkfifo,
        "missing": lambda path: None,
    }
    make[kind](path)
    assert lists(quietly(files)) == before
    entry(cache)
    assert not path.is_symlink()
    assert lists(take(files)) == before
    assert precious.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_an_entry_that_is_a_link_or_a_file_is_replaced(files: tuple[str, str], cache: Path, tmp_path: Path) -> None:
    before = lists(take(files))
    folder = entry(cache)
    elsewhere = folder.rename(tmp_path / "elsewhere")
    (elsewhere / FACTS).write_text("{}")
    names = {path.name for path in elsewhere.iterdir()}
    folder.symlink_to(elsewhere)
    assert lists(take(files)) == before
    assert not entry(cache).is_symlink()
    assert {path.name for path in elsewhere.iterdir()} == names
    assert (elsewhere / FACTS).read_text() == "{}"
    folder.rename(tmp_path / "old")
    folder.write_text("")
    assert lists(quietly(files)) == before
    entry(cache)


def test_a_lock_that_is_a_link_is_not_followed(files: tuple[str, str], cache: Path, tmp_path: Path) -> None:
    take(files)
    folder = entry(cache)
    (folder / FACTS).unlink()
    (folder / LOCK).unlink()
    (folder / LOCK).symlink_to(tmp_path / "nowhere")
    with pytest.warns(UserWarning, match="cannot be kept in .*; it will be read and encoded again at each start"):
        assert len(take(files).pairs.src) == len(GERMAN)
    assert not (tmp_path / "nowhere").exists()


# Where it cannot be kept


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def as_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.parent.write_text("")


def as_file_of_corpora(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("")


def as_no_home(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "")


def as_refused(number: int) -> Callable[[Path, pytest.MonkeyPatch], None]:
    """Root may write everywhere, so the refusal is made up."""

    def refuse(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mkdir = Path.mkdir

        def refused(path: Path, *arguments: Any, **options: Any) -> None:
            if path.is_relative_to(cache):
                raise OSError(number, os.strerror(number), str(path))
            mkdir(path, *arguments, **options)

        monkeypatch.setattr(Path, "mkdir", refused)

    return refuse


NOT_KEPT = {
    "the cache folder is a file": (as_file, "Not a directory"),
    "the folder of corpora is a file": (as_file_of_corpora, "(Not a directory|File exists)"),
    "no home folder": (as_no_home, "this user has none"),
    "read-only": (as_refused(errno.EROFS), "Read-only file system"),
    "not permitted": (as_refused(errno.EACCES), "Permission denied"),
}


@pytest.mark.parametrize("fault", NOT_KEPT)
def test_where_nothing_can_be_kept_it_is_made_for_once_with_a_warning(
    files: tuple[str, str], cache: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    make, why = NOT_KEPT[fault]
    make(cache, monkeypatch)
    with pytest.warns(UserWarning, match=f"cannot be kept.*{why}; it will be read and encoded again at each start"):
        found = take(files)
    assert lists(found) == expected(GERMAN, ENGLISH)[1]
    assert list(temporary.iterdir()) == []  # its pages live as long as it is mapped


def test_a_kept_corpus_is_used_where_nothing_can_be_written(
    files: tuple[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lists(take(files))
    as_refused(errno.EROFS)(cache, monkeypatch)
    assert lists(take(files)) == before


@pytest.mark.parametrize("where", ["words", "facts", "lock"])
def test_a_full_disk_is_an_error_that_says_so_and_leaves_nothing(
    files: tuple[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "words":
        monkeypatch.setattr(encoding.ArrayFile, "write", full)
    elif where == "facts":
        monkeypatch.setattr(corpus_cache, "write_file", full)
    else:
        as_refused(errno.ENOSPC)(cache, monkeypatch)
    with pytest.raises(
        MachineError, match=r"the corpus cannot be kept there: No space left on device\. Free some room"
    ) as caught:
        take(files)
    assert caught.value.exit_code == 6
    assert not cache.exists() or list(cache.iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent.parent))
    assert len(take(files).pairs.src) == len(GERMAN)
    entry(cache)


def test_no_room_for_temporary_files_either_is_an_error(
    files: tuple[str, str], cache: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_file(cache, monkeypatch)
    temporary.rmdir()
    with (
        pytest.warns(UserWarning, match="cannot be kept"),
        pytest.raises(MachineError, match=r"cannot be written there: No such file or directory\. .*TMPDIR"),
    ):
        take(files)


# Interrupted, killed, several at once


@pytest.mark.parametrize("doing", ["reading a.de", "learning subwords", "encoding"])
def test_an_interrupted_preparation_leaves_nothing(
    files: tuple[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    may_go_on = threading.Event()

    def slowly(sentences: Iterator[str], vocab_size: int) -> bytes:
        if doing == "learning subwords":
            may_go_on.wait(60)
        return learn(sentences, vocab_size)

    monkeypatch.setattr(encoding, "learn", slowly)
    records = training_set.prepare(*files, VOCAB_SIZE)
    until(records, doing)
    assert [len(list(folder.iterdir())) for folder in cache.iterdir()] == [2]
    records.close()  # type: ignore[attr-defined]
    assert list(cache.iterdir()) == []
    may_go_on.set()


def test_two_at_once_make_one(files: tuple[str, str], cache: Path, learned: list[int]) -> None:
    one, other = (training_set.prepare(*files, VOCAB_SIZE) for _ in range(2))
    until(one, "encoding")
    waiting = "waiting for another run that reads the same corpus"
    until(other, waiting)
    assert next(other).doing == waiting
    list(one)
    assert waiting not in [record.doing for record in list(other)]
    assert learned == [VOCAB_SIZE]
    entry(cache)


def test_who_waits_makes_it_where_the_other_gives_up(files: tuple[str, str], cache: Path, learned: list[int]) -> None:
    one, other = (training_set.prepare(*files, VOCAB_SIZE) for _ in range(2))
    until(one, "encoding")
    until(other, "waiting for another run that reads the same corpus")
    one.close()  # type: ignore[attr-defined]
    list(other)
    assert learned == [VOCAB_SIZE] * 2
    assert len(take(files).pairs.src) == len(GERMAN)
    entry(cache)


def test_what_a_killed_process_left_is_removed(files: tuple[str, str], cache: Path, tmp_path: Path) -> None:
    """It left its files, and a lock that nobody holds; the folder of a live process stays."""
    take(files)
    dead = entry(cache)
    (dead / FACTS).unlink()
    left = dead / ".made.0123abcd.tmp"
    left.mkdir()
    (left / WORDS).write_bytes(b"half")
    other, live = cache / ("0" * 64), cache / ("1" * 64)
    for folder in (other, live):
        folder.mkdir()
        (folder / WORDS).write_bytes(b"half")
        (folder / LOCK).touch()
    foreign = cache / "notes"
    foreign.mkdir()
    holder = corpus_cache.hold(live)
    with pytest.raises(StopIteration) as stopped:
        next(holder)
    assert len(take(files).pairs.src) == len(GERMAN)
    assert set(cache.iterdir()) == {dead, live, foreign}
    assert {path.name for path in dead.iterdir()} == FILES
    assert (live / WORDS).read_bytes() == b"half"
    os.close(stopped.value.value)


def test_a_corpus_that_is_made_anew_does_not_change_under_who_reads_it(files: tuple[str, str], cache: Path) -> None:
    reader = take(files)
    before = lists(reader)
    path = entry(cache) / MODEL
    path.write_bytes(flipped(path.read_bytes(), 50))
    quietly(files)
    assert lists(reader) == before
    (entry(cache) / WORDS).unlink()
    assert lists(reader) == before


@pytest.mark.parametrize("doing", ["reading a.de", "encoding"])
def test_a_file_that_changes_while_it_is_read_is_an_input_error(
    files: tuple[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    records = training_set.prepare(*files, VOCAB_SIZE)
    until(records, doing)
    path = Path(files[1])
    path.write_text(path.read_text().replace("Tier", "tier"))
    with pytest.raises(InputError, match=r"a\.en: was changed while it was read"):
        list(records)
    assert list(cache.iterdir()) == []


def test_a_corpus_that_cannot_be_used_leaves_nothing(
    files: tuple[str, str], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="No such file"):
        take((files[0], str(tmp_path / "missing")))
    with pytest.raises(InputError, match="1 lines for the 216 lines of"):
        take((files[0], write(tmp_path / "short", ENGLISH[:1])))
    with pytest.raises(UsageError, match="--vocab-size: 9999 is too large"):
        take(files, 9999)
    monkeypatch.setattr(encoding, "MAX_WORDS", 2)
    with pytest.raises(InputError, match="all are longer than 2 subwords"):
        take(files)
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_file_system_without_locks_does_as_well(
    files: tuple[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    one, other = (training_set.prepare(*files, VOCAB_SIZE) for _ in range(2))
    until(one, "encoding")
    list(other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        list(one)
    assert lists(take(files)) == expected(GERMAN, ENGLISH)[1]


# The whole program


@pytest.fixture
def reading(files: tuple[str, str], cache: Path, tmp_path: Path) -> Iterator[Live]:
    """A run that reads a corpus of its own just now."""
    source = random.Random(5)
    letters = [chr(code) for code in range(ord("a"), ord("z"))]
    lines = [" ".join("".join(source.choices(letters, k=6)) for _ in range(12)) for _ in range(6000)]
    train = write(tmp_path / "train", lines)
    names = {"train": (train, train), "val": files, "test": files}
    options = [
        f"--{part}-{side}={path}" for part, pair in names.items() for side, path in zip(SIDES, pair, strict=True)
    ]
    model = ["--num-layers=1", "--d-model=8", "--num-heads=1", "--d-ff=8", "--vocab-size=300", "--epochs=1"]
    arguments = ["transformer", "--task=text", *options, *model, "--batch-tokens=100000", "--batch-size=5000"]
    with live(arguments, tmp_path, environment()) as process:
        until_seen = time.monotonic() + 30
        while not list(cache.glob("*/.made.*.tmp")):
            assert time.monotonic() < until_seen
            time.sleep(0.002)
        yield process


@pytest.mark.program
def test_a_signal_ends_a_run_that_reads_and_nothing_is_left(reading: Live, cache: Path, tmp_path: Path) -> None:
    reading.send_signal(signal.SIGINT)
    out, err = reading.communicate(timeout=20)
    assert reading.returncode == -signal.SIGINT
    assert out == ""
    assert re.fullmatch(r"interrupted by SIGINT: stopped while .*\. Start it again\.\n", err)
    assert list(cache.iterdir()) == []
    assert not (tmp_path / "runs").exists()


@pytest.mark.program
def test_a_run_that_was_killed_while_it_read_begins_again(reading: Live, cache: Path, tmp_path: Path) -> None:
    reading.send_signal(signal.SIGKILL)
    reading.communicate(timeout=20)
    assert len(list(cache.glob("*/.made.*.tmp"))) == 1
    train = str(tmp_path / "train")
    assert len(take((train, train), 300).pairs.src) == 6000
    entry(cache)
