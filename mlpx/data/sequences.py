"""Numbers to be put in reverse: a task that shows what attention learns, without a download.

Task and sizes are those of JoeyNMT's ``generate_reverse_task.py``: symbols 0 to 49, training lengths up to 25.
"""

from collections.abc import Iterable, Sequence

import torch

from mlpx.data.subwords import SPECIAL, UNK

SYMBOLS = 50
LENGTHS = (1, 25)
LONGER_LENGTHS = (26, 30)


def numbers(count: int, lengths: tuple[int, int], generator: torch.Generator) -> list[list[int]]:
    """``count`` sequences of words for the numbers 0 to 49, of lengths drawn evenly from the first to the last."""
    shortest, longest = lengths
    sizes = torch.randint(shortest, longest + 1, (count,), generator=generator).tolist()
    words = torch.randint(len(SPECIAL), len(SPECIAL) + SYMBOLS, (sum(sizes),), generator=generator)
    return [part.tolist() for part in words.split(sizes)]


class Numbers:
    """The vocabulary: four special words, then the numbers, written apart by spaces."""

    def __len__(self) -> int:
        return len(SPECIAL) + SYMBOLS

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The words of each sentence; what is no number from 0 to 49 is unknown."""
        known = {str(number): len(SPECIAL) + number for number in range(SYMBOLS)}
        return [[known.get(word, UNK) for word in sentence.split()] for sentence in sentences]

    def decode(self, words: Iterable[int]) -> str:
        """The numbers, apart by spaces; special words are passed over."""
        return " ".join(self.pieces(word for word in words if word > UNK))

    def pieces(self, words: Iterable[int]) -> list[str]:
        """How each word is shown."""
        return [SPECIAL[word] if word < len(SPECIAL) else str(word - len(SPECIAL)) for word in words]
