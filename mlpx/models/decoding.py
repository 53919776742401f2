"""Translating word by word: beam search, of which greedy search is the narrowest, with what was computed kept.

Shapes: B sentences, G hypotheses each, S source words, t words so far, D = d_model, H heads, K = D / H, V words.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from mlpx.models.smoothing import SLICE
from mlpx.models.transformer import DecoderBlock, Transformer

MORE_WORDS = 50  # than the source has: Vaswani et al. (2017), section 6.1
CHUNK = 128
DECODED_AT_ONCE = 32768  # source words times hypotheses, about


class Hypothesis(NamedTuple):
    """A translation, without first and last word; ``score`` is its log-probability / length to the length penalty."""

    words: list[int]
    score: float


def rescored(hypotheses: Sequence[Hypothesis], length_penalty: float) -> list[Hypothesis]:
    """What was found by length penalty 0 as by ``length_penalty``: the same hypotheses, scored and ordered by it."""
    found = [Hypothesis(words, score / (len(words) + 1) ** length_penalty) for words, score in hypotheses]
    return sorted(found, key=lambda hypothesis: -hypothesis.score)


class Special(NamedTuple):
    """The words that fill up, begin and end a sentence."""

    pad: int
    bos: int
    eos: int


def translate(
    model: Transformer, src: Sequence[Sequence[int]], special: Special, *, beam: int, length_penalty: float
) -> list[Hypothesis]:
    """The best hypothesis for each sentence of ``src``, in their order."""
    return [found[0] for found in search(model, src, special, beam=beam, length_penalty=length_penalty)]


def search(
    model: Transformer, src: Sequence[Sequence[int]], special: Special, *, beam: int, length_penalty: float
) -> list[list[Hypothesis]]:
    """Up to ``beam`` hypotheses for each sentence, the best first; sentences of like length are searched together."""
    device = model.embedding.weight.device
    order = sorted(range(len(src)), key=lambda i: -len(src[i]))
    found: dict[int, list[Hypothesis]] = {}
    while order:
        count = max(1, DECODED_AT_ONCE // (beam * (len(src[order[0]]) + 1)))
        rows, order = order[:count], order[count:]
        length = max(len(src[i]) for i in rows) + 1
        words = [[*src[i], special.eos] + [special.pad] * (length - len(src[i]) - 1) for i in rows]
        best = beam_search(
            model,
            torch.tensor(words, device=device),
            special,
            beam=beam,
            length_penalty=length_penalty,
            limits=torch.tensor([len(src[i]) + MORE_WORDS for i in rows], device=device),
        )
        found |= zip(rows, best, strict=True)
    return [found[i] for i in range(len(src))]


@torch.inference_mode()
def beam_search(
    model: Transformer, src: Tensor, special: Special, *, beam: int, length_penalty: float, limits: Tensor
) -> list[list[Hypothesis]]:
    """Up to ``beam`` translations of each of src (B, S), the best first.

    As fairseq has it: at each step the likeliest 2G continuations of a sentence's G hypotheses are looked at; those of
    the first G that end are kept, scored by log-probability / length^penalty (the last word counts), and the first G
    that do not end go on. A sentence is done with G translations, or with ``limits`` (B,) words, when all must end.
    """
    cache = Cache(model, src)
    batch, vocab_size = len(src), model.embedding.num_embeddings
    sentences = torch.arange(batch, device=src.device)  # which are not done
    finished: list[list[Hypothesis]] = [[] for _ in range(batch)]
    words = torch.full((batch, 1, 1), special.bos, device=src.device)  # (B, G, t)
    scores = torch.zeros(batch, 1, device=src.device)  # (B, G)
    for step in range(1, int(limits.max()) + 2):
        hidden = cache.step(words[:, :, -1])
        must_end = step > limits[sentences]
        best, places = likeliest(model, hidden, scores, must_end, special, 2 * beam)  # (B, 2G)
        parents, continuations = places // vocab_size, places % vocab_size
        ends = (continuations == special.eos) & (best > -math.inf)
        b, i = ends[:, :beam].nonzero(as_tuple=True)
        ended = (sentences[b], words[b, parents[b, i], 1:], best[b, i])
        for sentence, *hypothesis in zip(*(part.tolist() for part in ended), strict=True):
            if len(finished[sentence]) < beam:
                finished[sentence].append(Hypothesis(*hypothesis))
        done = must_end | torch.tensor([len(finished[i]) >= beam for i in sentences.tolist()], device=src.device)
        if done.all():
            break
        # A stable sort puts those that do not end first, in their order.
        going = ends.int().argsort(dim=1, stable=True)[:, :beam]
        kept = (~done).nonzero().flatten()
        going = going[kept]
        scores = best[kept].gather(1, going).masked_fill_(ends[kept].gather(1, going), -math.inf)
        parents, continuations = parents[kept].gather(1, going), continuations[kept].gather(1, going)
        before = words[kept].gather(1, parents[:, :, None].expand(-1, -1, step))
        words = torch.cat((before, continuations[:, :, None]), dim=2)
        cache.keep(kept, parents)
        sentences = sentences[kept]
    return [rescored(hypotheses, length_penalty) for hypotheses in finished]


def likeliest(
    model: Transformer, hidden: Tensor, scores: Tensor, must_end: Tensor, special: Special, k: int
) -> tuple[Tensor, Tensor]:
    """The likeliest k continuations of the hypotheses of each sentence, or all, if those are fewer.

    ``hidden`` (B, G, D) is what the decoder gives for the last word of each, ``scores`` (B, G) the log-probabilities
    so far; the one word allowed to a sentence that ``must_end`` (B,) is the last. Gives log-probabilities, (B, k), and
    the number of each among the G · V. A few sentences at a time, so that their logits stay in the processor's cache.
    """
    beam, vocab_size = hidden.shape[1], model.embedding.num_embeddings
    at_once = max(1, SLICE // (beam * vocab_size))
    words = torch.arange(vocab_size, device=hidden.device)
    found = []
    for h, before, ends in zip(hidden.split(at_once), scores.split(at_once), must_end.split(at_once), strict=True):
        logits = model.logits(h)  # (B', G, V)
        log_probabilities = torch.log_softmax(logits, dim=-1, out=logits)
        log_probabilities[:, :, [special.pad, special.bos]] = -math.inf
        if ends.any():
            log_probabilities.masked_fill_(ends[:, None, None] & (words != special.eos), -math.inf)
        totals = log_probabilities.add_(before[:, :, None]).flatten(1)
        found.append(largest(totals, min(k, totals.shape[1])))
    best, places = zip(*found, strict=True)
    return torch.cat(best), torch.cat(places)


def largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of x (B, N) and where they are, as ``torch.topk``, in less than half of its time.

    They lie in the k chunks whose own largest are largest, and in what is left over behind the last chunk.
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


class Cache:
    """The keys and values of a source, computed once, and of the words decoded so far."""

    def __init__(self, model: Transformer, src: Tensor) -> None:
        self._model = model
        memory = model.encode([src]).view(*src.shape, -1)
        self._blocks = cast(Sequence[DecoderBlock], model.decoder)
        self._memories = [block.cross_attention.keys_values(memory) for block in self._blocks]  # each (2, B, H, S, K)
        self._memory_bias = model.padding_bias(src)
        self._past: list[Tensor | None] = [None for _ in self._blocks]  # each (2, B·G, H, t, K)
        self._length = 0

    def step(self, words: Tensor) -> Tensor:
        """What the decoder gives for one more word of each hypothesis: (B, G) to (B, G, D)."""
        x = self._model.embed([words.reshape(-1, 1)], first=self._length)  # (B·G, D)
        self._length += 1
        for i, block in enumerate(self._blocks):
            x, self._past[i] = block.step(x, self._past[i], self._memories[i], self._memory_bias)
        return self._model.decoder_norm(x).view(*words.shape, -1)  # type: ignore[no-any-return]

    def keep(self, sentences: Tensor, parents: Tensor) -> None:
        """Go on with some ``sentences`` (B',), each hypothesis continuing one of its ``parents`` (B', G) by number."""
        batch = len(self._memory_bias)
        if len(sentences) < batch:
            self._memories = [memory.index_select(1, sentences) for memory in self._memories]
            self._memory_bias = self._memory_bias.index_select(0, sentences)
        for i, past in enumerate(self._past):
            if past is not None:
                rows = sentences[:, None] * (past.shape[1] // batch) + parents
                self._past[i] = past.index_select(1, rows.flatten())
