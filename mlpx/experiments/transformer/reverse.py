"""The task "reverse": put numbers in reverse order. It shows what attention learns, without a download.

The task and its sizes are those of JoeyNMT's ``generate_reverse_task.py``: symbols 0 to 49, training lengths up to 25.
"""

from collections.abc import Iterable, Sequence

import torch

from mlpx.experiments.transformer.vocabulary import SPECIAL, UNK

SYMBOLS = 50
LENGTHS = (1, 25)
LONGER_LENGTHS = (26, 30)


def numbers(count: int, lengths: tuple[int, int], generator: torch.Generator) -> list[list[int]]:
    """``count`` sequences of words that stand for the numbers 0 to 49, all drawn uniformly.

    Their lengths are drawn uniformly from the first to the last of ``lengths``, both included.
    """
    shortest, longest = lengths
    sizes = torch.randint(shortest, longest + 1, (count,), generator=generator).tolist()
    words = torch.randint(len(SPECIAL), len(SPECIAL) + SYMBOLS, (sum(sizes),), generator=generator)
    return [part.tolist() for part in words.split(sizes)]


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
