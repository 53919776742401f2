"""What the Transformer can be asked to do: where its pairs of sentences come from, and how its answers are scored."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from mlpx.data import multi30k, sequences
from mlpx.data.corpora import MAX_CHARACTERS, read_pairs
from mlpx.data.sequences import LENGTHS, LONGER_LENGTHS, Numbers
from mlpx.data.subwords import BOS, EOS, PAD, Subwords, train
from mlpx.errors import InputError
from mlpx.files import read_regular
from mlpx.models.decoding import Special
from mlpx.settings.transformer import TransformerSettings
from mlpx.training.batches import generator

SPECIAL = Special(PAD, BOS, EOS)
SUBWORDS = "sentencepiece.model"
MAX_WORDS = 1024  # of a sentence, as the vocabulary cuts it
NUM_VAL, NUM_TEST = 500, 1000


class Pairs(NamedTuple):
    """Sentences and their translations, as words of the vocabulary and as text."""

    src: list[list[int]]
    tgt: list[list[int]]
    sources: list[str]
    references: list[str]


class Vocabulary(Protocol):
    """Text to words and back."""

    def __len__(self) -> int: ...

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The words of each sentence."""

    def decode(self, ids: Sequence[int], /) -> str:
        """The text of these words."""

    def pieces(self, ids: Sequence[int], /) -> list[str]:
        """How each word is written."""


@dataclass(frozen=True)
class Task:
    """Pairs to learn from, to choose by, and to be tested on, each test set by the name that its figures begin with."""

    vocabulary: Vocabulary
    quality: str  # exactness, a share, or bleu, of 100
    tokenised: bool  # whether BLEU is that of the text's own words, lower-cased
    train: Pairs
    val: Pairs
    tests: Mapping[str, Pairs]
    files: Mapping[str, bytes] = field(default_factory=dict)

    def score(self, outputs: Sequence[Sequence[int]], pairs: Pairs) -> float:
        """How good ``outputs`` are as translations of ``pairs.src``."""
        if self.quality == "exactness":
            return sum(output == tgt for output, tgt in zip(outputs, pairs.tgt, strict=True)) / len(outputs)
        return self.bleu(outputs, pairs)[0]

    def bleu(self, outputs: Sequence[Sequence[int]], pairs: Pairs) -> tuple[float, str]:
        """BLEU of ``outputs`` as translations of ``pairs.src``, of 100, and its signature."""
        decoded = [self.vocabulary.decode(output) for output in outputs]
        return bleu(decoded, pairs.references, tokenised=self.tokenised)

    def digest(self) -> bytes:
        """What tells these training pairs from others: 32 bytes."""
        return hashlib.sha256(repr((self.train.src, self.train.tgt)).encode()).digest()


def bleu(outputs: Sequence[str], references: Sequence[str], *, tokenised: bool) -> tuple[float, str]:
    """BLEU (Papineni et al., 2002) as sacreBLEU computes it (Post, 2018), of 100, and its signature.

    By default cased, of words as sacreBLEU's 13a cuts them; of ``tokenised`` text lower-cased, of words as they are.
    """
    from sacrebleu.metrics.bleu import BLEU  # half a second to import, and of no use to numbers

    metric = BLEU(lowercase=True, tokenize="none", force=True) if tokenised else BLEU()
    score = metric.corpus_score(list(outputs), [list(references)]).score
    return float(score), str(metric.get_signature())


def build(settings: TransformerSettings) -> Task:
    """The task of these settings, to be trained on.

    Raises:
        InputError: files cannot be read as pairs of sentences.
        UsageError: they yield no vocabulary of the size asked for.
    """
    if settings.task == "reverse":
        return _reverse(settings)
    train_text, val_text, test_text = (_read(settings, part) for part in ("train", "val", "test"))
    model = train([*train_text[0], *train_text[1]], settings.vocab_size)
    vocabulary = Subwords(model)
    train_pairs, val, test = (_cut(vocabulary, *text) for text in (train_text, val_text, test_text))
    return Task(vocabulary, "bleu", _is_tokenised(settings), train_pairs, val, {"test": test}, {SUBWORDS: model})


def reopen(settings: TransformerSettings, run: Path) -> Task:
    """The task of a run that has finished: its vocabulary and tests; where text is translated no pairs to train on.

    Raises:
        InputError: the run's vocabulary or the test files cannot be read.
    """
    if settings.task == "reverse":
        return _reverse(settings)
    vocabulary = vocabulary_of(settings, run)
    none = Pairs([], [], [], [])
    tests = {"test": _cut(vocabulary, *_read(settings, "test"))}
    return Task(vocabulary, "bleu", _is_tokenised(settings), none, none, tests)


def vocabulary_of(settings: TransformerSettings, run: Path) -> Vocabulary:
    """The vocabulary that a run learned, or that of numbers; raises InputError."""
    if settings.task == "reverse":
        return Numbers()
    path = run / SUBWORDS
    try:
        return Subwords(read_regular(path))
    except OSError as error:
        raise InputError(path, error.strerror, "Train the run anew.") from error


def _reverse(settings: TransformerSettings) -> Task:
    vocabulary = Numbers()

    def pairs(part: str, count: int, lengths: tuple[int, int]) -> Pairs:
        src = sequences.numbers(count, lengths, generator(settings.seed, part))
        tgt = [words[::-1] for words in src]
        return Pairs(src, tgt, [vocabulary.decode(words) for words in src], [vocabulary.decode(words) for words in tgt])

    tests = {"test": pairs("test", NUM_TEST, LENGTHS), "longer": pairs("longer", NUM_TEST, LONGER_LENGTHS)}
    train_pairs, val = pairs("train", settings.num_train, LENGTHS), pairs("val", NUM_VAL, LENGTHS)
    return Task(vocabulary, "exactness", False, train_pairs, val, tests)


def _read(settings: TransformerSettings, part: str) -> tuple[list[str], list[str]]:
    """The sentences of a part of the corpus."""
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


def _is_tokenised(settings: TransformerSettings) -> bool:
    return settings.task == "multi30k" and settings.text == "tok"


def _cut(vocabulary: Vocabulary, sources: list[str], references: list[str]) -> Pairs:
    """Sentences as words; pairs that are too long are left out, with a warning."""
    rows = zip(vocabulary.encode(sources), vocabulary.encode(references), sources, references, strict=True)
    kept = [row for row in rows if max(len(row[0]), len(row[1])) <= MAX_WORDS]
    if not kept:
        raise InputError("the sentences", f"all are longer than {MAX_WORDS} subwords", "Give one sentence a line.")
    if len(kept) < len(sources):
        dropped = f"{len(sources) - len(kept)} of {len(sources)} pairs are left out"
        warnings.warn(f"{dropped}: longer than {MAX_WORDS} subwords", stacklevel=2)
    return Pairs(*(list(column) for column in zip(*kept, strict=True)))
