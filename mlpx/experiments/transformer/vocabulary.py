"""What every vocabulary has: the special words, and the way from text to words and back.

A word is a number that a vocabulary gives: a subword of text, or a symbol of the task "reverse".
"""

from collections.abc import Sequence
from typing import Protocol

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
"""The special words, which every vocabulary begins with: padding, beginning and end of a sentence, unknown word."""

PAD, BOS, EOS, UNK = range(len(SPECIAL))


class Vocabulary(Protocol):
    """Turns text into words and words into text."""

    def __len__(self) -> int:
        """The number of words V, the special ones included."""

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The words of each sentence, without ``PAD``, ``BOS`` and ``EOS``."""

    def decode(self, ids: Sequence[int], /) -> str:
        """The text of these words; special words are skipped."""

    def pieces(self, ids: Sequence[int], /) -> list[str]:
        """How each word is written."""
