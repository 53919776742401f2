"""The tasks: numbers to be reversed and text, what tells one set of pairs from another, and exactness."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlpx.experiments.transformer import reverse, tasks, training_set
from mlpx.experiments.transformer.reverse import LENGTHS, LONGER_LENGTHS, SYMBOLS, reversals
from mlpx.experiments.transformer.sentences import Pairs
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.experiments.transformer.tasks import SentencePairs, TranslationTask
from mlpx.experiments.transformer.vocabulary import SPECIAL, UNK

Lists = tuple[list[list[int]], list[list[int]]]


@pytest.fixture(autouse=True)
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NUM_VAL", "NUM_TEST"):
        monkeypatch.setattr(tasks, name, 30)


def lists(pairs: Pairs) -> Lists:
    return pairs.src.lists(), pairs.tgt.lists()


def test_training_data_is_a_function_of_the_seed_and_leaves_the_other_sets_alone() -> None:
    first, again, more, other = (
        tasks.build(TransformerSettings(num_train=count, seed=seed))
        for count, seed in ((50, 1), (50, 1), (80, 1), (50, 2))
    )
    assert lists(first.train) == lists(again.train)
    assert first.digest() == again.digest()
    assert first.digest() not in (more.digest(), other.digest())
    for task in (again, more):
        for ours, theirs in ((task.val, first.val), *((task.tests[name], first.tests[name]) for name in first.tests)):
            assert lists(ours.pairs) == lists(theirs.pairs)
            assert (ours.sources, ours.references) == (theirs.sources, theirs.references)
    assert [len(task.train.src) for task in (first, more)] == [50, 80]
    assert [len(part.pairs.src) for part in (first.val, *first.tests.values())] == [30, 30, 30]
    as_many = tasks.build(TransformerSettings(num_train=30))  # as there are in the others
    drawn = [lists(part) for part in (as_many.train, as_many.val.pairs, as_many.tests["test"].pairs, other.val.pairs)]
    drawn += [lists(part) for part in (first.val.pairs, first.tests["test"].pairs, other.tests["test"].pairs)]
    assert all(one != another for one, another in itertools.combinations(drawn, 2))


def test_the_task_is_to_reverse_numbers_of_the_lengths_that_are_promised() -> None:
    task = tasks.build(TransformerSettings(num_train=2000))
    for pairs, (shortest, longest) in ((task.train, LENGTHS), (task.tests["longer"].pairs, LONGER_LENGTHS)):
        src, tgt = lists(pairs)
        assert tgt == [words[::-1] for words in src]
        assert {len(words) for words in src} == set(range(shortest, longest + 1))
    words = {word for src in task.train.src.lists() for word in src}
    assert words == set(range(len(SPECIAL), len(SPECIAL) + SYMBOLS))
    for part in (task.val, *task.tests.values()):
        for words_of_source, source, reference in zip(
            part.pairs.src.lists(), part.sources, part.references, strict=True
        ):
            assert source.split() == reference.split()[::-1] == [str(word - len(SPECIAL)) for word in words_of_source]


@pytest.mark.parametrize("drawn_at_once", [7, 2**20])
def test_numbers_are_those_of_one_draw_however_many_are_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch, drawn_at_once: int
) -> None:
    monkeypatch.setattr(reverse, "DRAWN_AT_ONCE", drawn_at_once)
    source = torch.Generator().manual_seed(5)
    sizes = torch.randint(1, 26, (300,), generator=source).tolist()
    words = torch.randint(len(SPECIAL), len(SPECIAL) + SYMBOLS, (sum(sizes),), generator=source)
    expected = [part.tolist() for part in words.split(sizes)]
    pairs = reversals(300, LENGTHS, torch.Generator().manual_seed(5))
    assert pairs.src.lists() == expected
    assert pairs.src.words.dtype == np.uint16


def test_exactness_is_the_share_of_outputs_that_are_right_to_the_last_word() -> None:
    task = tasks.build(TransformerSettings(num_train=10))
    pairs = SentencePairs(Pairs.of([[5], [6, 7], [8], [9]], [[5], [7, 6], [8], [9]]), [], [])
    assert task.score([[5], [7, 6], [8, 8], []], pairs) == 0.5
    assert task.score([[5], [6, 7], [UNK], [9]], pairs) == 0.5
    assert task.score(pairs.pairs.tgt.lists(), pairs) == 1


def with_test(task: TranslationTask, part: SentencePairs) -> TranslationTask:
    return dataclasses.replace(task, tests={**task.tests, "test": part})


def with_one_shorter(pairs: Pairs, side: str) -> Pairs:
    sentences = {"src": pairs.src.lists(), "tgt": pairs.tgt.lists()}
    sentences[side][3] = sentences[side][3][:-1]
    return Pairs.of(sentences["src"], sentences["tgt"], np.uint16)


SIDES = ("src", "tgt", "sources", "references")
# Training pairs have no text beside their words.
PLACES = [("training", "src"), ("training", "tgt"), *itertools.product(("validation", "test"), SIDES)]


@pytest.mark.parametrize(("part", "side"), PLACES)
def test_the_digest_tells_other_pairs_whether_to_train_to_validate_or_to_test(part: str, side: str) -> None:
    task = tasks.build(TransformerSettings(num_train=10))

    def changed(pairs: SentencePairs) -> SentencePairs:
        if side in ("src", "tgt"):
            return pairs._replace(pairs=with_one_shorter(pairs.pairs, side))
        text = {"sources": list(pairs.sources), "references": list(pairs.references)}
        text[side][3] = text[side][3][:-1]
        return SentencePairs(pairs.pairs, text["sources"], text["references"])

    if part == "training":
        other = dataclasses.replace(task, train=with_one_shorter(task.train, side))
    elif part == "validation":
        other = dataclasses.replace(task, val=changed(task.val))
    else:
        other = with_test(task, changed(task.tests["test"]))
    assert other.digest() != task.digest()


def test_the_digest_tells_where_a_sentence_ends() -> None:
    task = tasks.build(TransformerSettings(num_train=10))
    digests = {
        dataclasses.replace(task, train=Pairs.of(src, tgt)).digest()
        for src, tgt in (([[5, 6], [7]], [[8], [9]]), ([[5], [6, 7]], [[8], [9]]), ([[5, 6], [7]], [[8, 9], []]))
    }
    assert len(digests) == 3


def corpus(folder: Path, **changed: str) -> TransformerSettings:
    """A task of text, all of whose files hold the same few sentences but for those that are ``changed``."""
    folder.mkdir(exist_ok=True)
    names = [f"{part}_{side}" for part in ("train", "val", "test") for side in ("src", "tgt")]
    for name in names:
        (folder / name).write_text(changed.get(name, "a dog runs\ntwo cats run\nthe dog and the cat\n"))
    files: dict[str, Any] = {name: str(folder / name) for name in names}
    return TransformerSettings(task="text", vocab_size=20, **files)


def test_the_digest_of_text_tells_other_sentences_in_any_file_and_nothing_else(tmp_path: Path) -> None:
    plain = tasks.build(corpus(tmp_path / "a")).digest()
    assert tasks.build(corpus(tmp_path / "b")).digest() == plain
    # The same letters, so that only the order of sentences and words differs.
    other = "two cats run\na dog runs\nthe dog and the cat\n"
    names = [f"{part}_{side}" for part in ("train", "val", "test") for side in ("src", "tgt")]
    digests = [tasks.build(corpus(tmp_path / "c", **{name: other})).digest() for name in names]
    larger = corpus(tmp_path / "a").model_copy(update={"vocab_size": 21})
    assert len({plain, *digests, tasks.build(larger).digest()}) == len(names) + 2
    white_space = "  a dog runs\r\ntwo cats run \r\nthe dog and the cat"
    assert tasks.build(corpus(tmp_path / "d", train_src=white_space)).digest() == plain


def test_the_digest_of_text_does_not_read_the_training_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.build(corpus(tmp_path / "a"))
    seen: list[Pairs] = []
    digest_of = tasks.digest_of
    monkeypatch.setattr(tasks, "digest_of", lambda pairs: seen.append(pairs) or digest_of(pairs))  # type: ignore[func-returns-value]
    assert task.digest()
    assert all(pairs is not task.train for pairs in seen)
    assert len(seen) == 2


def test_what_is_prepared_is_what_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = corpus(tmp_path / "a")
    assert {record.doing for record in tasks.prepare(settings)} >= {"reading train_src", "encoding"}
    monkeypatch.setattr(training_set, "prepare", lambda *_: pytest.fail("prepared again"))
    assert len(tasks.build(settings).train.src) == 3
    assert list(tasks.prepare(TransformerSettings())) == []
