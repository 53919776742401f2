"""Sentences as numbers: the words of all of them end to end in one array, which may be a memory-mapped file."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint16] | NDArray[np.int32]
WordType = type[np.uint16] | type[np.int32]


def dtype_of_words(vocab_size: int) -> WordType:
    """The type of words of a vocabulary: 16 bits where they are enough."""
    return np.uint16 if vocab_size <= 2**16 else np.int32


class Sentences:
    """N sentences without ``BOS`` and ``EOS``.

    Sentence i is ``words[starts[i] : starts[i] + lengths[i]]``. Several of these may share their words.

    Args:
        words: The words of all sentences, (W,).
        lengths: The number of words of each, (N,).
        starts: Where each begins; ``None`` where they lie end to end in their order.
    """

    def __init__(self, words: Words, lengths: NDArray[Any], starts: NDArray[np.int64] | None = None) -> None:
        self.words = words
        self.lengths = lengths.astype(np.int64, copy=False)
        self.starts = self.lengths.cumsum() - self.lengths if starts is None else starts

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]], dtype: WordType = np.int32) -> "Sentences":
        """Sentences given one by one."""
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        words: Words = np.fromiter(itertools.chain.from_iterable(sequences), np.dtype(dtype), int(lengths.sum()))
        return cls(words, lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def lists(self, rows: Iterable[int] | None = None) -> list[list[int]]:
        """The words of the sentences ``rows``, by default of all, as a list each: for few sentences, to decode them."""
        chosen = range(len(self)) if rows is None else rows
        return [self.words[self.starts[i] : self.starts[i] + self.lengths[i]].tolist() for i in chosen]


class Pairs(NamedTuple):
    """Sentences and their translations: sentence i of ``tgt`` translates sentence i of ``src``.

    Both share their words, so that a pair can be turned round by exchanging where its sides begin, and their lengths.
    """

    src: Sentences
    tgt: Sentences

    @classmethod
    def of(cls, src: Sequence[Sequence[int]], tgt: Sequence[Sequence[int]], dtype: WordType = np.int32) -> "Pairs":
        """Pairs given one by one."""
        both = Sentences.of([*src, *tgt], dtype)
        return cls.end_to_end(both.words, both.lengths)

    @classmethod
    def end_to_end(cls, words: Words, lengths: NDArray[Any]) -> "Pairs":
        """Pairs whose ``words`` (W,) are those of all N sources and then those of all targets; ``lengths`` (2N,)."""
        both = Sentences(words, lengths)
        half = len(both) // 2
        sides = (slice(half), slice(half, None))
        return cls(*(Sentences(words, both.lengths[side], both.starts[side]) for side in sides))

    def turned(self, is_turned: NDArray[np.bool_]) -> "Pairs":
        """The same pairs, but where ``is_turned`` (N,) is true, source and target are exchanged."""
        sides = (self.src, self.tgt)

        def side(one: Sentences, other: Sentences) -> Sentences:
            lengths = np.where(is_turned, other.lengths, one.lengths)
            return Sentences(self.src.words, lengths, np.where(is_turned, other.starts, one.starts))

        return Pairs(side(*sides), side(*reversed(sides)))
