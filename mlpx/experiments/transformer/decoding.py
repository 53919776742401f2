"""Decoding: beam search, and greedy search, which is beam search with one hypothesis a sentence.

Shapes: B sentences, G hypotheses each, S source words, t words so far, D numbers in a hidden state, V words.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mlpx.experiments.transformer.protocol import AutoregressiveModel
from mlpx.experiments.transformer.smoothing import SLICE
from mlpx.experiments.transformer.vocabulary import BOS, EOS, PAD

MORE_WORDS = 50  # than the source has: Vaswani et al. (2017), section 6.1
CHUNK = 128
DECODED_AT_ONCE = 32768  # source words times hypotheses, about


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
    model: AutoregressiveModel, src: Sequence[Sequence[int]], *, beam: int, length_penalty: float
) -> list[list[Hypothesis]]:
    """Up to ``beam`` hypotheses for each sentence of ``src``, the best first.

    Sentences of similar length are searched together, as many at a time as ``DECODED_AT_ONCE`` allows.
    """
    device = model.output_weight.device
    order = sorted(range(len(src)), key=lambda i: -len(src[i]))
    hypotheses: dict[int, list[Hypothesis]] = {}
    while order:
        count = max(1, DECODED_AT_ONCE // (beam * (len(src[order[0]]) + 1)))
        rows, order = order[:count], order[count:]
        length = max(len(src[i]) for i in rows) + 1
        words = [[*src[i], EOS] + [PAD] * (length - len(src[i]) - 1) for i in rows]
        best = beam_search(
            model,
            torch.tensor(words, device=device),
            beam=beam,
            length_penalty=length_penalty,
            limits=torch.tensor([len(src[i]) + MORE_WORDS for i in rows], device=device),
        )
        hypotheses |= zip(rows, best, strict=True)
    return [hypotheses[i] for i in range(len(src))]


@torch.inference_mode()
def beam_search(
    model: AutoregressiveModel, src: Tensor, *, beam: int, length_penalty: float, limits: Tensor
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
    for step in range(1, int(limits.max()) + 2):
        hidden = state.step(words[:, :, -1])
        must_end = step > limits[sentences]
        best, places = likeliest(model, hidden, scores, must_end, 2 * beam)  # (B, 2G)
        parents, continuations = places // vocab_size, places % vocab_size
        ends = (continuations == EOS) & (best > -math.inf)
        b, i = ends[:, :beam].nonzero(as_tuple=True)
        ended = (sentences[b], words[b, parents[b, i], 1:], best[b, i])
        for sentence, *hypothesis in zip(*(part.tolist() for part in ended), strict=True):
            if len(finished[sentence]) < beam:
                finished[sentence].append(Hypothesis(*hypothesis))
        done = must_end | torch.tensor([len(finished[i]) >= beam for i in sentences.tolist()], device=src.device)
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
    model: AutoregressiveModel, hidden: Tensor, scores: Tensor, must_end: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The likeliest k continuations of the hypotheses of each sentence, or all, if there are fewer.

    A few sentences are computed at a time, so that their logits stay in the processor's cache.

    Args:
        model: Gives the logits.
        hidden: The hidden state after the last word of each hypothesis, (B, G, D).
        scores: The log-probability of each hypothesis so far, (B, G).
        must_end: The sentences whose hypotheses may continue by ``EOS`` alone, (B,).
        k: How many continuations of each sentence are wanted.

    Returns:
        Their log-probabilities, the likeliest first, and their places among the G · V of the sentence, both (B, k).
    """
    beam, vocab_size = hidden.shape[1], len(model.output_weight)
    at_once = max(1, SLICE // (beam * vocab_size))
    words = torch.arange(vocab_size, device=hidden.device)
    parts = []
    for h, before, ends in zip(hidden.split(at_once), scores.split(at_once), must_end.split(at_once), strict=True):
        logits = model.logits(h)  # (B', G, V)
        log_probabilities = torch.log_softmax(logits, dim=-1, out=logits)
        log_probabilities[:, :, [PAD, BOS]] = -math.inf
        if ends.any():
            log_probabilities.masked_fill_(ends[:, None, None] & (words != EOS), -math.inf)
        totals = log_probabilities.add_(before[:, :, None]).flatten(1)
        parts.append(largest(totals, min(k, totals.shape[1])))
    best, places = zip(*parts, strict=True)
    return torch.cat(best), torch.cat(places)


def largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest numbers of each row of x (B, N) and their places, as ``torch.topk``, in less than half of its time.

    They lie in the k chunks whose maxima are largest, or in the rest of the row behind the last whole chunk.
    """
    num_chunks = x.shape[1] // CHUNK
    if num_chunks <= k:
        return torch.topk(x, k, dim=1)
    chunks = x[:, : num_chunks * CHUNK].unflatten(1, (num_chunks, CHUNK))
    chosen = chunks.amax(2).topk(k, dim=1).indices  # (B, k)
    starts = torch.cat((chosen * CHUNK, chosen.new_full((len(x), 1), num_chunks * CHUNK)), dim=1)
    candidates = torch.cat(
        (chunks.gather(1, chosen[:, :, None].expand(-1, -1, CHUNK)).flatten(1), x[:, num_chunks * CHUNK :]), dim=1
    )
    best, places = candidates.topk(k, dim=1)
    return best, starts.gather(1, places // CHUNK) + places % CHUNK
