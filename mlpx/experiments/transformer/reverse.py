"""The task "reverse": put numbers in reverse order. It shows what attention learns, without a download.

The task and its sizes are those of JoeyNMT's ``generate_reverse_task.py``: symbols 0 to 49, training lengths up to 25.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from mlpx.experiments.transformer.sentences import Pairs, Sentences, Words, dtype_of_words
from mlpx.experiments.transformer.vocabulary import SPECIAL, UNK

SYMBOLS = 50
LENGTHS = (1, 25)
LONGER_LENGTHS = (26, 30)
DRAWN_AT_ONCE = 2**20  # words


def reversals(count: int, lengths: tuple[int, int], generator: torch.Generator) -> Pairs:
    """``count`` sequences of words that stand for the numbers 0 to 49, all drawn uniformly, and their reversals.

    Their lengths are drawn uniformly from the first to the last of ``lengths``, both included.
    """
    shortest, longest = lengths
    sizes = torch.randint(shortest, longest + 1, (count,), generator=generator).numpy()
    total = int(sizes.sum())
    words: Words = np.empty(2 * total, np.dtype(dtype_of_words(len(SPECIAL) + SYMBOLS)))
    for first in range(0, total, DRAWN_AT_ONCE):
        number = min(DRAWN_AT_ONCE, total - first)
        drawn = torch.randint(len(SPECIAL), len(SPECIAL) + SYMBOLS, (number,), generator=generator)
        words[first : first + number] = drawn.numpy()
    # All sources together, read backwards, are the targets, of which the last comes first.
    words[total:] = words[:total][::-1]
    src = Sentences(words, sizes)
    return Pairs(src, Sentences(words, sizes, 2 * total - src.starts - sizes))


class Numbers:
    """The vocabulary: the special words, then a word for each number from 0 to 49. Spaces separate numbers in text."""

    def __len__(self) -> int:
        return len(SPECIAL) + SYMBOLS

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The words of each sentence; whatever is not a number from 0 to 49 becomes ``UNK``."""
        known = {str(number): len(SPECIAL) + number for number in range(SYMBOLS)}
        return [[known.get(word, UNK) for word in sentence.split()] for sentence in sentences]

    def decode(self, words: Iterable[int]) -> str:
        """The numbers, separated by spaces; special words are skipped."""
        return " ".join(self.pieces(word for word in words if word > UNK))

    def pieces(self, words: Iterable[int]) -> list[str]:
        """How each word is written."""
        return [SPECIAL[word] if word < len(SPECIAL) else str(word - len(SPECIAL)) for word in words]
