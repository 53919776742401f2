"""The batches of an epoch, each within a budget of tokens, and their words on the device."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlpx.experiments.transformer.sentences import Pairs, Sentences
from mlpx.experiments.transformer.vocabulary import BOS, EOS, PAD
from mlpx.training import devices
from mlpx.training.distributed import Group
from mlpx.training.randomness import generator

STRATA = 4
LOADED_AT_ONCE = 2**18  # words of one side, about

Array = NDArray[Any]


class Batches(NamedTuple):
    """The batches of an epoch, one a step: each is a few rectangles, given as the rows of their pairs.

    Args:
        rows: The rows of all N pairs, rectangle after rectangle, (N,).
        starts: Where each of R rectangles begins in ``rows``, and N, (R + 1,).
        steps: The rectangles of each step, (steps, strata); -1 stands for none.
    """

    rows: Array
    starts: Array
    steps: Array

    @property
    def num_steps(self) -> int:
        """The number of batches."""
        return len(self.steps)

    def rectangles(self, step: int) -> list[Array]:
        """The rows of each rectangle of ``step``, which counts from 0."""
        chosen = [number for number in self.steps[step].tolist() if number >= 0]
        return [self.rows[self.starts[number] : self.starts[number + 1]] for number in chosen]


def token_batches(src: Array, tgt: Array, batch_tokens: int, batch_size: int, seed: int, epoch: int) -> Batches:
    """The batches of ``epoch``.

    The pairs of a rectangle have similar lengths, so that few of its words are padding. The rectangles of a step come
    from different strata of the lengths, so that every step has short pairs and long ones; steps of one length each
    would unlearn what the others learned. Which pairs meet, and in which order, is a pure function of (seed, epoch);
    the number of steps depends on neither. Both sides of a pair are treated alike.

    Args:
        src: The length of the source of each pair, (N,), at most 65,535.
        tgt: The length of its target, (N,), likewise.
        batch_tokens: The most words of a step, padding included, on the side that has more of them; a step of a
            single pair may have more.
        batch_size: The most pairs of a step.
        seed: The seed of the run.
        epoch: The epoch, from 1.
    """
    source = generator(seed, "order", epoch)
    rows = torch.randperm(len(src), generator=source).numpy()
    longer = np.maximum(src, tgt).astype(np.uint16)
    # Sorting by the shorter side, then by the longer one, is sorting by both. NumPy sorts numbers of 16 bits by radix,
    # in time proportional to their count.
    for key in (np.minimum(src, tgt).astype(np.uint16), longer):
        rows = rows[key[rows].argsort(kind="stable")]
    strata = max(1, min(STRATA, batch_size, batch_tokens // int(longer.max())))
    starts = _starts(longer[rows], batch_tokens // strata, batch_size // strata)
    num_steps = math.ceil((len(starts) - 1) / strata)
    steps = np.full((num_steps, strata), -1)
    for stratum in range(strata):
        first = stratum * num_steps
        count = min(num_steps, len(starts) - 1 - first)
        if count > 0:
            steps[:count, stratum] = first + torch.randperm(count, generator=source).numpy()
    return Batches(rows, starts, steps[torch.randperm(num_steps, generator=source).numpy()])


def _starts(lengths: Array, tokens: int, count: int) -> Array:
    """Where rectangles of at most ``tokens`` words and ``count`` pairs begin, and where the last one ends.

    ``lengths`` (N,) ascend, so each pair is the longest of its rectangle so far, and all others are padded to its
    length. A rectangle ends where one pair more would be too much.
    """
    starts, first, end = [np.zeros(1, np.int64)], 0, 0
    for length, number in zip(*(part.tolist() for part in np.unique(lengths, return_counts=True)), strict=True):
        begin, end = end, end + number
        most = max(1, min(count, tokens // length))
        # Within the pairs of one length, a rectangle begins after each ``most`` pairs.
        more = np.arange(max(first + most, begin), end, most)
        if begin < end and len(more) and more[0] > first:
            starts.append(more)
            first = int(more[-1])
    return np.concatenate([*starts, [end]])


class Batch(NamedTuple):
    """The words of a step on the device: R rectangles of B sources and targets each.

    Args:
        src: The sources (B, S) of each rectangle, each ending in ``EOS`` and filled up by ``PAD``.
        tgt: The targets (B, T) as the model reads them, beginning with ``BOS``, without ``EOS``, filled up by ``PAD``.
        targets: The N words to be predicted, ``EOS`` among them, without padding: (N,).
        places: The place of each of them among the Σ B·T of ``tgt``: (N,).
        num_words: The targets of the step in all processes that train together; N where there is one.
    """

    src: list[Tensor]
    tgt: list[Tensor]
    targets: Tensor
    places: Tensor
    num_words: int


def load(
    pairs: Pairs, batches: Batches, device: torch.device, first: int = 0, group: Group | None = None
) -> Iterator[Batch]:
    """The words of each step, from ``first`` on; of several processes, each gets a share of every rectangle.

    Those of several steps are copied to the device at once, from pinned memory, so that no step waits for them.
    """
    words_a_step = 1 + int(pairs.tgt.lengths.sum()) // batches.num_steps
    at_once = max(1, LOADED_AT_ONCE // words_a_step)
    for begin in range(first, batches.num_steps, at_once):
        steps = [batches.rectangles(step) for step in range(begin, min(begin + at_once, batches.num_steps))]
        counts = [num_targets(pairs, step) for step in steps]
        if group is not None:
            # A rectangle of fewer pairs than there are processes leaves some without.
            steps = [[share for share in group.dealt(step) if len(share)] for step in steps]
        yield from _loaded(pairs, steps, counts, device)


def num_targets(pairs: Pairs, rectangles: Iterable[Array]) -> int:
    """The target words of rectangles, ``EOS`` among them, without padding."""
    return sum(int(pairs.tgt.lengths[rows].sum()) + len(rows) for rows in rectangles)


def _loaded(pairs: Pairs, steps: list[list[Array]], num_words: list[int], device: torch.device) -> Iterator[Batch]:
    rectangles = [rows for step in steps for rows in step]
    if not rectangles:
        nothing = torch.zeros(0, dtype=torch.int64, device=device)
        yield from (Batch([], [], nothing, nothing, number) for number in num_words)
        return
    src, tgt = (_filled(side, rectangles, special) for side, special in ((pairs.src, EOS), (pairs.tgt, BOS)))
    lengths = pairs.tgt.lengths[np.concatenate(rectangles)] + 1
    ends = lengths.cumsum()
    places = np.repeat(tgt.starts - (ends - lengths), lengths) + np.arange(ends[-1])
    # The model predicts each word from the place before it, and ``EOS`` from the place of the last word.
    targets = np.append(tgt.words[1:], EOS)[places]
    targets[ends - 1] = EOS
    pairs_before = np.cumsum([0, *(sum(map(len, step)) for step in steps)])
    targets_before = np.concatenate([[0], ends])[pairs_before]
    words_before = np.append(tgt.starts, len(tgt.words))[pairs_before]
    counts = np.diff(targets_before)
    places -= np.repeat(words_before[:-1], counts)
    src_words, tgt_words, *rest = _uploaded([src.words, tgt.words, targets, places], device)
    sources, inputs = iter(_rectangles(src_words, src.shapes)), iter(_rectangles(tgt_words, tgt.shapes))
    parts = (part.split(counts.tolist()) for part in rest)
    for step, number, of_targets, of_places in zip(steps, num_words, *parts, strict=True):
        yield Batch([next(sources) for _ in step], [next(inputs) for _ in step], of_targets, of_places, number)


def _rectangles(words: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
    parts = words.split([count * width for count, width in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _uploaded(parts: list[Array], device: torch.device) -> tuple[Tensor, ...]:
    """``parts`` on the device, copied there together."""
    together = devices.uploaded(torch.from_numpy(np.concatenate(parts)), device)
    uploaded: tuple[Tensor, ...] = together.split([len(part) for part in parts])
    return uploaded


class _Filled(NamedTuple):
    """Rectangles of words end to end: ``words`` (Σ B·T,), their shapes, and where each sentence starts."""

    words: Array
    shapes: list[tuple[int, int]]
    starts: Array


def _filled(side: Sentences, rectangles: list[Array], special: int) -> _Filled:
    """Rectangles of sentences, each with ``BOS`` before its words, or with ``EOS`` after them, filled up by ``PAD``."""
    rows = np.concatenate(rectangles)
    sizes = [len(part) for part in rectangles]
    lengths = side.lengths[rows]
    widths = np.maximum.reduceat(lengths, np.cumsum([0, *sizes[:-1]])) + 1
    width_of_each = np.repeat(widths, sizes)
    starts = width_of_each.cumsum() - width_of_each
    words = np.full(int(width_of_each.sum()), PAD)
    within = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
    first = starts + (special == BOS)
    words[np.repeat(first, lengths) + within] = side.words[np.repeat(side.starts[rows], lengths) + within]
    words[starts if special == BOS else starts + lengths] = special
    return _Filled(words, list(zip(sizes, widths.tolist(), strict=True)), starts)
