"""The tasks of the Transformer: where their pairs of sentences come from, and how outputs are scored."""

import hashlib
import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mlpx.errors import InputError
from mlpx.experiments.transformer import multi30k
from mlpx.experiments.transformer.corpora import MAX_CHARACTERS, read_pairs
from mlpx.experiments.transformer.reverse import LENGTHS, LONGER_LENGTHS, Numbers, numbers
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.experiments.transformer.subwords import Subwords, learn
from mlpx.experiments.transformer.vocabulary import Vocabulary
from mlpx.training.experiment import Learned
from mlpx.training.randomness import generator

SUBWORDS = "sentencepiece.model"
MAX_WORDS = 1024  # of a sentence, counted in words of the vocabulary
NUM_VAL, NUM_TEST = 500, 1000


class SentencePairs(NamedTuple):
    """Sentences and their translations, as words of the vocabulary and as text; row i of each list is pair i."""

    src: list[list[int]]
    tgt: list[list[int]]
    sources: list[str]
    references: list[str]


NO_PAIRS = SentencePairs([], [], [], [])


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
    """

    vocabulary: Vocabulary
    quality: str
    tokenized: bool
    train: SentencePairs
    val: SentencePairs
    tests: Mapping[str, SentencePairs]
    files: Mapping[str, bytes] = field(default_factory=dict)

    def score(self, outputs: Sequence[Sequence[int]], pairs: SentencePairs) -> float:
        """The quality of ``outputs`` as translations of ``pairs.src``."""
        if self.quality == "exactness":
            return sum(output == tgt for output, tgt in zip(outputs, pairs.tgt, strict=True)) / len(outputs)
        return self.bleu(outputs, pairs)[0]

    def bleu(self, outputs: Sequence[Sequence[int]], pairs: SentencePairs) -> tuple[float, str]:
        """BLEU of ``outputs`` as translations of ``pairs.src``, from 0 to 100, and its signature."""
        decoded = [self.vocabulary.decode(output) for output in outputs]
        return bleu(decoded, pairs.references, tokenized=self.tokenized)

    def digest(self) -> str:
        """A digest of all pairs, those for training, validation and tests, as words and as text."""
        digest = hashlib.sha256()
        for name, pairs in {"train": self.train, "val": self.val, **self.tests}.items():
            digest.update(f"{name} {len(pairs.src)}\n".encode())
            for words in (pairs.src, pairs.tgt):
                digest.update(np.fromiter(map(len, words), dtype="<i4").tobytes())
                digest.update(np.fromiter(itertools.chain.from_iterable(words), dtype="<i4").tobytes())
            for sentences in (pairs.sources, pairs.references):
                # No sentence contains the end of a line, so different sentences give different text.
                digest.update("\n".join([*sentences, ""]).encode())
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
    train_text, val_text, test_text = (_read(settings, part) for part in ("train", "val", "test"))
    model = learn([*train_text[0], *train_text[1]], settings.vocab_size)
    vocabulary = Subwords(model)
    train, val, test = (_cut(vocabulary, *text) for text in (train_text, val_text, test_text))
    return TranslationTask(vocabulary, "bleu", _is_tokenized(settings), train, val, {"test": test}, {SUBWORDS: model})


def reopen(settings: TransformerSettings, learned: Learned) -> TranslationTask:
    """The task of a finished run: its vocabulary and its tests. Of text, no other pairs are read.

    Raises:
        InputError: The run's vocabulary or the test files cannot be read.
    """
    if settings.task == "reverse":
        return _reverse(settings)
    vocabulary = vocabulary_of(settings, learned)
    test = _cut(vocabulary, *_read(settings, "test"))
    return TranslationTask(vocabulary, "bleu", _is_tokenized(settings), NO_PAIRS, NO_PAIRS, {"test": test})


def vocabulary_of(settings: TransformerSettings, learned: Learned) -> Vocabulary:
    """The vocabulary of a finished run.

    Raises:
        InputError: It is missing or broken.
    """
    return Numbers() if settings.task == "reverse" else Subwords(learned.read(SUBWORDS))


def _reverse(settings: TransformerSettings) -> TranslationTask:
    vocabulary = Numbers()

    def pairs(part: str, count: int, lengths: tuple[int, int]) -> SentencePairs:
        src = numbers(count, lengths, generator(settings.seed, part))
        tgt = [words[::-1] for words in src]
        sources, references = ([vocabulary.decode(words) for words in side] for side in (src, tgt))
        return SentencePairs(src, tgt, sources, references)

    tests = {"test": pairs("test", NUM_TEST, LENGTHS), "longer": pairs("longer", NUM_TEST, LONGER_LENGTHS)}
    train, val = pairs("train", settings.num_train, LENGTHS), pairs("val", NUM_VAL, LENGTHS)
    return TranslationTask(vocabulary, "exactness", False, train, val, tests)


def _read(settings: TransformerSettings, part: str) -> tuple[list[str], list[str]]:
    """The sentences of a part of the corpus, and their translations; pairs that were left out cost a warning."""
    src, tgt = (getattr(settings, f"{part}_{side}") for side in ("src", "tgt"))
    if not src:
        names = multi30k.names(settings.text, part, (settings.source, settings.target))
        folder = multi30k.fetch(settings.data_dir, names)
        src, tgt = (str(folder / name) for name in names)
    sources, references, dropped = read_pairs(src, tgt)
    if dropped:
        rule = f"blank, or longer than {MAX_CHARACTERS} characters"
        warnings.warn(f"{src}: {dropped} of {dropped + len(sources)} pairs are left out ({rule})", stacklevel=2)
    return sources, references


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
    if len(kept) < len(sources):
        dropped = f"{len(sources) - len(kept)} of {len(sources)} pairs are left out"
        warnings.warn(f"{dropped}: longer than {MAX_WORDS} subwords", stacklevel=2)
    return SentencePairs(*(list(column) for column in zip(*kept, strict=True)))
