"""Decoding: beam search, and greedy search, which is beam search with one hypothesis a sentence.

Shapes: B sentences, G hypotheses each, S source words, t words so far, D numbers in a hidden state, V words.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mlpx.experiments.transformer.protocol import AutoregressiveModel
from mlpx.experiments.transformer.smoothing import slice_of
from mlpx.experiments.transformer.vocabulary import BOS, EOS, PAD
from mlpx.training import devices

MORE_WORDS = 50  # than the source has: Vaswani et al. (2017), section 6.1
CHUNK = 128
DECODED_AT_ONCE = 2**15  # source words times hypotheses, about
ACCELERATED_AT_ONCE = 2**18  # the same on a GPU, where a word costs as many launches for few sentences as for many


class Hypothesis(NamedTuple):
    """A translation: its words without ``BOS`` and ``EOS``, and its log-probability / length^length penalty.

    The length counts ``EOS``.
    """

    words: list[int]
    score: float


def rescored(hypotheses: Sequence[Hypothesis], length_penalty: float) -> list[Hypothesis]:
    """Hypotheses that were searched by length penalty 0, scored by another ``length_penalty``: the best first."""
    scored = [Hypothesis(words, score / (len(words) + 1) ** length_penalty) for words, score in hypotheses]
    return sorted(scored, key=lambda hypothesis: -hypothesis.score)


def translate(
    model: AutoregressiveModel, src: Sequence[Sequence[int]], *, beam: int, length_penalty: float
) -> list[Hypothesis]:
    """The best hypothesis for each sentence of ``src``, in their order."""
    return [hypotheses[0] for hypotheses in search(model, src, beam=beam, length_penalty=length_penalty)]


def search(
    model: AutoregressiveModel,
    src: Sequence[Sequence[int]],
    *,
    beam: int,
    length_penalty: float,
    pause: Callable[[], None] = lambda: None,
) -> list[list[Hypothesis]]:
    """Up to ``beam`` hypotheses for each sentence of ``src``, the best first.

    Sentences of similar length are searched together, as many at a time as the device is good for. Before each word
    ``pause`` is called, which may raise an exception to give up.
    """
    device = model.output_weight.device
    at_once = ACCELERATED_AT_ONCE if devices.is_accelerator(device) else DECODED_AT_ONCE
    order = sorted(range(len(src)), key=lambda i: -len(src[i]))
    hypotheses: dict[int, list[Hypothesis]] = {}
    while order:
        count = max(1, at_once // (beam * (len(src[order[0]]) + 1)))
        rows, order = order[:count], order[count:]
        length = max(len(src[i]) for i in rows) + 1
        words = [[*src[i], EOS] + [PAD] * (length - len(src[i]) - 1) for i in rows]
        best = beam_search(
            model,
            torch.tensor(words, device=device),
            beam=beam,
            length_penalty=length_penalty,
            limits=torch.tensor([len(src[i]) + MORE_WORDS for i in rows], device=device),
            pause=pause,
        )
        hypotheses |= zip(rows, best, strict=True)
    return [hypotheses[i] for i in range(len(src))]


@torch.inference_mode()
def beam_search(
    model: AutoregressiveModel,
    src: Tensor,
    *,
    beam: int,
    length_penalty: float,
    limits: Tensor,
    pause: Callable[[], None] = lambda: None,
) -> list[list[Hypothesis]]:
    """Up to ``beam`` translations of each sentence of src (B, S), the best first.

    The rules are those of fairseq. At each step, the likeliest 2G continuations of a sentence's G hypotheses are
    considered: of the first G of them, those that end are finished, with the score log-probability / length^penalty
    (the length counts ``EOS``); the first G that do not end are continued. A sentence is done as soon as G of its
    hypotheses are finished, or at ``limits`` (B,) words, where every hypothesis must end.
    """
    state = model.start(src)
    batch, vocab_size = len(src), len(model.output_weight)
    sentences = torch.arange(batch, device=src.device)  # those that are not done
    finished: list[list[Hypothesis]] = [[] for _ in range(batch)]
    words = torch.full((batch, 1, 1), BOS, device=src.device)  # (B, G, t)
    scores = torch.zeros(batch, 1, device=src.device)  # (B, G)
    shortest = int(limits.min())
    for step in range(1, int(limits.max()) + 2):
        pause()
        hidden = state.step(words[:, :, -1])
        must_end = step > limits[sentences] if step > shortest else None
        best, places = likeliest(model, hidden, scores, must_end, 2 * beam)  # (B, 2G)
        parents, continuations = places // vocab_size, places % vocab_size
        ends = (continuations == EOS) & (best > -math.inf)
        b, i = ends[:, :beam].nonzero(as_tuple=True)
        ended = (sentences[b], words[b, parents[b, i], 1:], best[b, i])
        for sentence, *hypothesis in zip(*(part.tolist() for part in ended), strict=True):
            if len(finished[sentence]) < beam:
                finished[sentence].append(Hypothesis(*hypothesis))
        done = torch.tensor([len(finished[i]) >= beam for i in sentences.tolist()], device=src.device)
        if must_end is not None:
            done |= must_end
        if done.all():
            break
        # A stable sort puts the continuations that do not end first, and keeps their order.
        going_on = ends.int().argsort(dim=1, stable=True)[:, :beam]
        kept = (~done).nonzero().flatten()
        going_on = going_on[kept]
        scores = best[kept].gather(1, going_on).masked_fill_(ends[kept].gather(1, going_on), -math.inf)
        parents, continuations = parents[kept].gather(1, going_on), continuations[kept].gather(1, going_on)
        before = words[kept].gather(1, parents[:, :, None].expand(-1, -1, step))
        words = torch.cat((before, continuations[:, :, None]), dim=2)
        state.keep(kept, parents)
        sentences = sentences[kept]
    return [rescored(hypotheses, length_penalty) for hypotheses in finished]


def likeliest(
    model: AutoregressiveModel, hidden: Tensor, scores: Tensor, must_end: Tensor | None, k: int
) -> tuple[Tensor, Tensor]:
    """The likeliest k continuations of the hypotheses of each sentence, or all, if there are fewer.

    A few sentences are computed at a time, so that on a CPU their logits stay in its cache.

    Args:
        model: Gives the logits.
        hidden: The hidden state after the last word of each hypothesis, (B, G, D).
        scores: The log-probability of each hypothesis so far, (B, G).
        must_end: The sentences whose hypotheses may continue by ``EOS`` alone, (B,); ``None`` where there are none.
        k: How many continuations of each sentence are wanted.

    Returns:
        Their log-probabilities, the likeliest first, and their places among the G · V of the sentence, both (B, k).
    """
    at_once = max(1, slice_of(hidden.device) // (hidden.shape[1] * len(model.output_weight)))
    parts = [
        _likeliest(model.logits(hidden[part]), scores[part], None if must_end is None else must_end[part], k)
        for part in (slice(first, first + at_once) for first in range(0, len(hidden), at_once))
    ]
    best, places = zip(*parts, strict=True)
    return torch.cat(best), torch.cat(places)


def _likeliest(logits: Tensor, scores: Tensor, must_end: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """The same from ``logits`` (B, G, V), which are changed.

    The log-probability of a continuation is its logit and a number that is the hypothesis's own: its score so far less
    log Σ exp(logits). So one pass over the logits finds the largest of each chunk of words, and the continuations lie
    in the k chunks whose largest are the likeliest. ``PAD`` and ``BOS``, the first words, continue nothing.
    """
    vocab_size = logits.shape[2]
    never = logits[:, :, : BOS + 1].clone()
    logits[:, :, : BOS + 1] = -math.inf
    maxima = _of_chunks(logits)
    largest = torch.maximum(maxima.amax(2, keepdim=True), never.amax(2, keepdim=True))
    sums = torch.zeros_like(largest)
    for part in (logits, never):
        sums.add_(torch.sub(part, largest).exp_().sum(2, keepdim=True))
    offsets = scores[:, :, None] - largest - sums.log_()
    if must_end is not None:
        words = torch.arange(vocab_size, device=logits.device)
        logits.masked_fill_(must_end[:, None, None] & (words != EOS), -math.inf)
        maxima = _of_chunks(logits)
    num_chunks = maxima.shape[2]
    if maxima[0].numel() <= k:
        totals = (logits + offsets).flatten(1)
        return torch.topk(totals, min(k, totals.shape[1]), dim=1)
    chosen = (maxima + offsets).flatten(1).topk(k, dim=1).indices
    hypotheses = chosen // num_chunks
    words = (chosen % num_chunks * CHUNK)[:, :, None] + torch.arange(CHUNK, device=logits.device)  # (B, k, CHUNK)
    places = (hypotheses[:, :, None] * vocab_size + words.clamp(max=vocab_size - 1)).flatten(1)
    totals = logits.flatten(1).gather(1, places).view_as(words) + offsets.squeeze(2).gather(1, hypotheses)[:, :, None]
    best, at = totals.masked_fill_(words >= vocab_size, -math.inf).flatten(1).topk(k, dim=1)
    return best, places.gather(1, at)


def _of_chunks(logits: Tensor) -> Tensor:
    """The largest logit of each ``CHUNK`` words, (B, G, V) to (B, G, V / CHUNK rounded up)."""
    whole = logits.shape[2] // CHUNK * CHUNK
    maxima = logits[:, :, :whole].unflatten(2, (-1, CHUNK)).amax(3) if whole else logits[:, :, :0]
    if whole == logits.shape[2]:
        return maxima
    return torch.cat((maxima, logits[:, :, whole:].amax(2, keepdim=True)), dim=2)
