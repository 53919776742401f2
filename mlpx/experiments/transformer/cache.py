"""The key-value cache of a block's self-attention while it decodes.

Shapes: t words so far, N hypotheses, H heads, K numbers of a head.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class WordCache:
    """The keys and values of the words so far, (t, 2, N, H, K).

    Word comes after word, so that a new one is appended where the last one ends, and choosing hypotheses is the only
    copy that a word costs.
    """

    def __init__(self) -> None:
        self._buffer = self._words = torch.empty(0)

    def append(self, keys_values: Tensor) -> None:
        """Append the keys and values of one more word, (2, N, H, K)."""
        shape = (len(self._words) + 1, *keys_values.shape)
        if math.prod(shape) > len(self._buffer):
            before = self._words
            self._buffer = _room(keys_values, shape)
            self._buffer[: before.numel()] = before.flatten()
        self._words = self._buffer[: math.prod(shape)].view(shape)
        self._words[-1] = keys_values

    def keys_values(self) -> Tensor:
        """All of them as attention reads them, (2, N, H, t, K)."""
        return self._words.permute(1, 2, 3, 0, 4)

    def keep(self, rows: Tensor, spare: Tensor) -> Tensor:
        """Go on with the hypotheses ``rows`` (N',), which may be more than there were, or hold one several times.

        They are copied into the buffer ``spare``, if there is room in it, and the buffer that becomes free is returned.
        """
        if not len(self._words):
            return spare
        shape = (*self._words.shape[:2], len(rows), *self._words.shape[3:])
        into = spare if math.prod(shape) <= len(spare) else _room(self._words, shape)
        kept = into[: math.prod(shape)].view(shape)
        torch.index_select(self._words, 2, rows, out=kept)
        self._words, self._buffer, free = kept, into, self._buffer
        return free


def _room(like: Tensor, shape: Sequence[int]) -> Tensor:
    """A buffer for a tensor of that shape, and for some more words."""
    return like.new_empty(math.prod(shape) * 5 // 4)
