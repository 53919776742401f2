"""The tasks of the Transformer: where their pairs of sentences come from, and how outputs are scored."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mlpx.errors import InputError
from mlpx.experiments.transformer import multi30k, training_set
from mlpx.experiments.transformer.corpora import MAX_CHARACTERS, read_pairs
from mlpx.experiments.transformer.encoding import MAX_WORDS, in_background
from mlpx.experiments.transformer.reverse import LENGTHS, LONGER_LENGTHS, Numbers, reversals
from mlpx.experiments.transformer.sentences import Pairs, dtype_of_words
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.experiments.transformer.subwords import Subwords
from mlpx.experiments.transformer.vocabulary import Vocabulary
from mlpx.training.experiment import Learned, Preparing
from mlpx.training.randomness import generator

SUBWORDS = "sentencepiece.model"
NUM_VAL, NUM_TEST = 500, 1000


class SentencePairs(NamedTuple):
    """Sentences and their translations, as words of the vocabulary and as text; row i of each is pair i."""

    pairs: Pairs
    sources: Sequence[str]
    references: Sequence[str]


NO_PAIRS = SentencePairs(Pairs.of([], []), [], [])


@dataclass(frozen=True)
class TranslationTask:
    """A task's vocabulary and data.

    Args:
        vocabulary: Of both languages together.
        quality: The metric of outputs: "exactness", a share, or "bleu", from 0 to 100.
        tokenized: Whether BLEU counts the words of the text as they are, lower-cased.
        train: The training pairs.
        val: The pairs by which the best weights are chosen.
        tests: Each test set, by the name that its metrics begin with; "test" is among them.
        files: What a finished run has to keep of the task, by the name of the file.
        train_digest: A digest of the training pairs, where it is known without reading them.
    """

    vocabulary: Vocabulary
    quality: str
    tokenized: bool
    train: Pairs
    val: SentencePairs
    tests: Mapping[str, SentencePairs]
    files: Mapping[str, bytes] = field(default_factory=dict)
    train_digest: str = ""

    def score(self, outputs: Sequence[Sequence[int]], pairs: SentencePairs) -> float:
        """The quality of ``outputs`` as translations of the sources of ``pairs``."""
        if self.quality == "exactness":
            targets = pairs.pairs.tgt.lists()
            return sum(output == tgt for output, tgt in zip(outputs, targets, strict=True)) / len(outputs)
        return self.bleu(outputs, pairs)[0]

    def bleu(self, outputs: Sequence[Sequence[int]], pairs: SentencePairs) -> tuple[float, str]:
        """BLEU of ``outputs`` as translations of the sources of ``pairs``, from 0 to 100, and its signature."""
        decoded = [self.vocabulary.decode(output) for output in outputs]
        return bleu(decoded, pairs.references, tokenized=self.tokenized)

    def digest(self) -> str:
        """A digest of all pairs, those for training, validation and tests, as words and as text."""
        digest = hashlib.sha256(f"train {self.train_digest or digest_of(self.train)}\n".encode())
        for name, part in {"val": self.val, **self.tests}.items():
            digest.update(f"{name} {digest_of(part.pairs)}\n".encode())
            for sentences in (part.sources, part.references):
                # No sentence contains the end of a line, so different sentences give different text.
                digest.update("\n".join([*sentences, ""]).encode())
        return digest.hexdigest()


def digest_of(pairs: Pairs) -> str:
    """A digest of the words of pairs."""
    digest = hashlib.sha256()
    for array in (pairs.src.words, pairs.src.lengths, pairs.src.starts, pairs.tgt.lengths, pairs.tgt.starts):
        digest.update(f"{len(array)}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def bleu(outputs: Sequence[str], references: Sequence[str], *, tokenized: bool) -> tuple[float, str]:
    """BLEU (Papineni et al., 2002) as sacreBLEU computes it (Post, 2018), from 0 to 100, and its signature.

    By default it is cased, and sacreBLEU's 13a cuts the text into words. ``tokenized`` text is lower-cased, and its
    words are those that spaces separate.
    """
    # sacrebleu takes half a second to import, so it is imported only when text is scored.
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(lowercase=True, tokenize="none", force=True) if tokenized else BLEU()
    score = metric.corpus_score(list(outputs), [list(references)]).score
    return float(score), str(metric.get_signature())


def build(settings: TransformerSettings) -> TranslationTask:
    """The task of these settings, with the pairs to train on.

    Raises:
        InputError: Files cannot be read as pairs of sentences.
        UsageError: The training pairs yield no vocabulary of the size asked for.
    """
    if settings.task == "reverse":
        return _reverse(settings)
    names = _files(settings, "train")
    train = training_set.take(*names, settings.vocab_size)
    _warn_of_unfit(names[0], train.facts.num_unfit, train.facts.num_lines)
    _warn_of_long(train.facts.num_long, train.facts.num_lines - train.facts.num_unfit)
    val, test = (_cut(train.vocabulary, *_read(settings, part)) for part in ("val", "test"))
    return TranslationTask(
        train.vocabulary,
        "bleu",
        _is_tokenized(settings),
        train.pairs,
        val,
        {"test": test},
        {SUBWORDS: train.model},
        train.facts.digest,
    )


def prepare(settings: TransformerSettings) -> Iterator[Preparing]:
    """Do what takes long before :func:`build`, and tell how far it is; see :meth:`Experiment.prepare`."""
    if settings.task != "reverse":
        # A download tells of itself.
        files = yield from in_background(lambda: _files(settings, "train"), doing="")
        yield from training_set.prepare(*files, settings.vocab_size)


def reopen(settings: TransformerSettings, learned: Learned) -> TranslationTask:
    """The task of a finished run: its vocabulary and its tests. Of text, no other pairs are read.

    Raises:
        InputError: The run's vocabulary or the test files cannot be read.
    """
    if settings.task == "reverse":
        return _reverse(settings)
    vocabulary = vocabulary_of(settings, learned)
    test = _cut(vocabulary, *_read(settings, "test"))
    return TranslationTask(vocabulary, "bleu", _is_tokenized(settings), NO_PAIRS.pairs, NO_PAIRS, {"test": test})


def vocabulary_of(settings: TransformerSettings, learned: Learned) -> Vocabulary:
    """The vocabulary of a finished run.

    Raises:
        InputError: It is missing or broken.
    """
    return Numbers() if settings.task == "reverse" else Subwords(learned.read(SUBWORDS))


def _reverse(settings: TransformerSettings) -> TranslationTask:
    vocabulary = Numbers()

    def pairs(part: str, count: int, lengths: tuple[int, int]) -> Pairs:
        return reversals(count, lengths, generator(settings.seed, part))

    def with_text(drawn: Pairs) -> SentencePairs:
        sources, references = ([vocabulary.decode(words) for words in side.lists()] for side in drawn)
        return SentencePairs(drawn, sources, references)

    tests = {
        name: with_text(pairs(name, NUM_TEST, lengths))
        for name, lengths in (("test", LENGTHS), ("longer", LONGER_LENGTHS))
    }
    train, val = pairs("train", settings.num_train, LENGTHS), with_text(pairs("val", NUM_VAL, LENGTHS))
    return TranslationTask(vocabulary, "exactness", False, train, val, tests)


def _files(settings: TransformerSettings, part: str) -> tuple[str, str]:
    """The files of a part of the corpus: of sentences, and of their translations."""
    src, tgt = (getattr(settings, f"{part}_{side}") for side in ("src", "tgt"))
    if not src:
        names = multi30k.names(settings.text, part, (settings.source, settings.target))
        folder = multi30k.fetch(settings.data_dir, names)
        src, tgt = (str(folder / name) for name in names)
    return src, tgt


def _read(settings: TransformerSettings, part: str) -> tuple[list[str], list[str]]:
    """The sentences of a part of the corpus, and their translations; pairs that were left out cost a warning."""
    src, tgt = _files(settings, part)
    sources, references, dropped = read_pairs(src, tgt)
    _warn_of_unfit(src, dropped, dropped + len(sources))
    return sources, references


def _warn_of_unfit(src: str, dropped: int, count: int) -> None:
    if dropped:
        rule = f"blank, or longer than {MAX_CHARACTERS} characters"
        warnings.warn(f"{src}: {dropped} of {count} pairs are left out ({rule})", stacklevel=2)


def _warn_of_long(dropped: int, count: int) -> None:
    if dropped:
        warnings.warn(f"{dropped} of {count} pairs are left out: longer than {MAX_WORDS} subwords", stacklevel=2)


def _is_tokenized(settings: TransformerSettings) -> bool:
    return settings.task == "multi30k" and settings.text == "tok"


def _cut(vocabulary: Vocabulary, sources: list[str], references: list[str]) -> SentencePairs:
    """Cut sentences into words of the vocabulary; pairs that are too long are left out, with a warning.

    Raises:
        InputError: All pairs are too long.
    """
    rows = zip(vocabulary.encode(sources), vocabulary.encode(references), sources, references, strict=True)
    kept = [row for row in rows if max(len(row[0]), len(row[1])) <= MAX_WORDS]
    if not kept:
        raise InputError("the sentences", f"all are longer than {MAX_WORDS} subwords", "Give one sentence a line.")
    _warn_of_long(len(sources) - len(kept), len(sources))
    src, tgt, kept_sources, kept_references = zip(*kept, strict=True)
    return SentencePairs(Pairs.of(src, tgt, dtype_of_words(len(vocabulary))), kept_sources, kept_references)
