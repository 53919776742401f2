"""Decoding against the model without its cache, against every sequence that there is, and against plain loops."""

import functools
import itertools
import math
import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from mlpx.experiments.transformer import decoding, smoothing
from mlpx.experiments.transformer.decoding import Hypothesis, beam_search, rescored, translate
from mlpx.experiments.transformer.model import Transformer
from mlpx.experiments.transformer.protocol import AutoregressiveModel
from mlpx.experiments.transformer.vocabulary import BOS, EOS, PAD, UNK

SENTENCES = [[4, 5, UNK], [5], [UNK, UNK, 4, 5, 4], [4, 4]]  # the unknown word is an output like any other
LIMIT, BEAM_OF_ALL = 4, 341  # 1 + 4 + 16 + 64 + 256 hypotheses of at most 4 words, if there are 4


def toy(seed: int, *, words: int = 3, eos: float = 0.0, pre_norm: bool = True) -> Transformer:
    """A model in float64, sure of some words, of which there are ``words``; ``eos`` is added to that word's logit."""
    torch.manual_seed(seed)
    model = Transformer(
        3 + words,
        num_layers=2,
        d_model=8,
        num_heads=2,
        d_ff=12,
        pre_norm=pre_norm,
        products=torch.float64,
    ).double()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    if pre_norm:
        embedding = model.embedding.weight.data[EOS]
        cast(nn.LayerNorm, model.decoder_norm).bias.data.add_(embedding, alpha=eos / float(embedding @ embedding))
    return model


def padded(sentences: Sequence[Sequence[int]]) -> Tensor:
    """As the model reads them: (B, S)."""
    longest = max(map(len, sentences))
    return torch.tensor([[*words, EOS] + [PAD] * (longest - len(words)) for words in sentences])


@torch.no_grad()
def log_probabilities(model: Transformer, src: Sequence[int], targets: Sequence[Sequence[int]]) -> Tensor:
    """Of each word at each place of ``targets``, all of one length, and after them, without a cache: (B, T + 1, V)."""
    tgt = torch.tensor([[BOS, *words] for words in targets])
    logits = model.logits(model([padded([src] * len(tgt))], [tgt]))
    return logits.log_softmax(-1).view(*tgt.shape, -1)


def score(model: Transformer, src: Sequence[int], words: Sequence[int], length_penalty: float) -> float:
    """Log-probability / length^penalty, the last word among the others."""
    (found,) = log_probabilities(model, src, [words])
    ended = [*words, EOS]
    return float(found[range(len(ended)), ended].sum() / len(ended) ** length_penalty)


def every_hypothesis(model: Transformer, src: Sequence[int], limit: int, length_penalty: float) -> list[Hypothesis]:
    """All that there are of at most ``limit`` words, the best first."""
    words = range(EOS + 1, model.embedding.num_embeddings)
    found = []
    for length in range(limit + 1):
        targets = list(itertools.product(words, repeat=length))
        ended = torch.tensor([[*target, EOS] for target in targets])
        totals = log_probabilities(model, src, targets).gather(2, ended[..., None]).sum((1, 2))
        scores = (totals / (length + 1) ** length_penalty).tolist()
        found += [Hypothesis(list(target), each) for target, each in zip(targets, scores, strict=True)]
    return sorted(found, key=lambda hypothesis: -hypothesis.score)


def plain_beam_search(
    following: Callable[[tuple[int, ...]], list[float]], beam: int, length_penalty: float, limit: int
) -> list[Hypothesis]:
    """Fairseq's rules with lists alone; ``following`` gives the log-probability of each word after some."""
    going: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    finished: list[Hypothesis] = []
    for step in itertools.count(1):
        candidates = [
            (total + log_probability, words, word)
            for total, words in going
            for word, log_probability in enumerate(following(words))
            if word == EOS or (step <= limit and word not in (PAD, BOS))
        ]
        candidates.sort(reverse=True)
        del candidates[2 * beam :]
        for total, words, word in candidates[:beam]:
            if word == EOS and len(finished) < beam:
                finished.append(Hypothesis(list(words), total / step**length_penalty))
        if step > limit or len(finished) == beam:
            break
        going = [(total, (*words, word)) for total, words, word in candidates if word != EOS][:beam]
    return sorted(finished, key=lambda hypothesis: -hypothesis.score)


def searched(
    model: AutoregressiveModel,
    sentences: Sequence[Sequence[int]],
    beam: int,
    length_penalty: float,
    limits: Sequence[int],
) -> list[list[Hypothesis]]:
    return beam_search(
        model,
        padded(sentences),
        beam=beam,
        length_penalty=length_penalty,
        limits=torch.tensor(limits),
    )


def assert_same(found: Sequence[Hypothesis], expected: Sequence[Hypothesis]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.words == other.words
        assert one.score == pytest.approx(other.score, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_decoding_step_by_step_equals_the_model_at_each_step_whatever_is_kept(pre_norm: bool) -> None:
    model = toy(1, pre_norm=pre_norm)
    generator = torch.Generator().manual_seed(2)
    sentences = SENTENCES
    prefixes: list[list[list[int]]] = [[[]] for _ in sentences]  # of each sentence's hypotheses, after the first word
    last = torch.full((4, 1), BOS)
    with torch.no_grad():
        cache = model.start(padded(sentences))
        for kept, hypotheses in (
            ([0, 1, 2, 3], 3),
            ([0, 1, 2, 3], 3),
            ([0, 2, 3], 3),
            ([1, 2], 2),
            ([0, 1], 4),
            ([1], 4),
        ):
            logits = model.logits(cache.step(last))
            assert logits.shape == (len(sentences), last.shape[1], model.embedding.num_embeddings)
            for sentence, of_sentence, those in zip(sentences, logits, prefixes, strict=True):
                expected = log_probabilities(model, sentence, those)[:, -1]
                torch.testing.assert_close(of_sentence.log_softmax(-1), expected, rtol=1e-10, atol=1e-10)
            parents = torch.randint(last.shape[1], (len(kept), hypotheses), generator=generator)
            last = torch.randint(1, 6, parents.shape, generator=generator)
            cache.keep(torch.tensor(kept), parents)
            sentences = [sentences[b] for b in kept]
            prefixes = [
                [[*prefixes[b][parent], word] for parent, word in zip(row, words, strict=True)]
                for b, row, words in zip(kept, parents.tolist(), last.tolist(), strict=True)
            ]


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_takes_the_likeliest_word_at_each_step(seed: int) -> None:
    model = toy(seed, words=6)
    for src in SENTENCES:
        words: list[int] = []
        while len(words) < 8:
            following = log_probabilities(model, src, [words])[0, -1]
            following[[PAD, BOS]] = -math.inf
            word = int(following.argmax())
            if word == EOS:
                break
            words.append(word)
        ((found,),) = searched(model, [src], beam=1, length_penalty=0.0, limits=[8])
        assert found.words == words
        assert found.score == pytest.approx(score(model, src, words, 0.0), rel=1e-10)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize(("words", "seed"), [(3, 0), (3, 1), (4, 2), (4, 3)])
def test_a_beam_that_holds_all_finds_every_hypothesis_in_order(words: int, seed: int, length_penalty: float) -> None:
    model = toy(seed, words=words)
    (found,) = searched(model, SENTENCES[:1], BEAM_OF_ALL, length_penalty, [LIMIT])
    assert len(found) == sum(words**length for length in range(LIMIT + 1))
    assert_same(found, every_hypothesis(model, SENTENCES[0], LIMIT, length_penalty))


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_no_beam_finds_better_than_one_that_holds_all(seed: int, length_penalty: float) -> None:
    model = toy(seed)
    (everything,) = searched(model, SENTENCES[:1], BEAM_OF_ALL, length_penalty, [LIMIT])
    scores = {tuple(hypothesis.words): hypothesis.score for hypothesis in everything}
    for beam in (1, 2, 3, 5, 9):
        (found,) = searched(model, SENTENCES[:1], beam, length_penalty, [LIMIT])
        assert found[0].score <= everything[0].score + 1e-12
        expected = sorted((scores[tuple(words)] for words, _ in found), reverse=True)
        assert [hypothesis.score for hypothesis in found] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("eos", [-2.0, 0.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_narrow_beams_follow_fairseqs_rules_sentence_by_sentence(seed: int, eos: float) -> None:
    model = toy(seed, words=4, eos=eos)
    limits = [5, 2, 6, 0]
    followings = [
        functools.cache(lambda words, src=src: log_probabilities(model, src, [words])[0, -1].tolist())
        for src in SENTENCES
    ]
    for beam, length_penalty in ((1, 1.0), (2, 0.0), (2, 1.0), (3, 1.0), (3, 2.0), (5, 0.6)):
        together = searched(model, SENTENCES, beam, length_penalty, limits)
        for found, following, limit in zip(together, followings, limits, strict=True):
            assert_same(found, plain_beam_search(following, beam, length_penalty, limit))


class Table:
    """A model of random logits for each sentence and each beginning of its translation, EOS often likely."""

    def __init__(self, vocab_size: int, seed: int) -> None:
        self._seed = seed
        self.output_weight = torch.eye(vocab_size, dtype=torch.float64)  # hidden states are logits

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden

    def start(self, src: Tensor) -> "TableState":
        return TableState(self, src)

    def after(self, src: Sequence[int], words: Sequence[int]) -> list[float]:
        source = random.Random(f"{self._seed} {[word for word in src if word]} {list(words)}")
        logits = [source.gauss(0, 2) for _ in range(len(self.output_weight))]
        logits[EOS] += 1
        return logits


class TableState:
    """The words of each hypothesis of each sentence, BOS among them."""

    def __init__(self, table: Table, src: Tensor) -> None:
        self._table = table
        self._rows: list[tuple[list[int], list[list[int]]]] = [(words, [[]]) for words in src.tolist()]

    def step(self, words: Tensor) -> Tensor:
        for (_, prefixes), of_sentence in zip(self._rows, words.tolist(), strict=True):
            for prefix, word in zip(prefixes, of_sentence, strict=True):
                prefix.append(word)
        logits = [[self._table.after(src, prefix[1:]) for prefix in prefixes] for src, prefixes in self._rows]
        return torch.tensor(logits, dtype=torch.float64)

    def keep(self, sentences: Tensor, parents: Tensor) -> None:
        kept = zip(sentences.tolist(), parents.tolist(), strict=True)
        self._rows = [(self._rows[b][0], [list(self._rows[b][1][parent]) for parent in row]) for b, row in kept]


@pytest.mark.parametrize("beam", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_beams_follow_fairseqs_rules_on_random_tables(
    beam: int, length_penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoothing, "SLICE", 3 * beam * 7)  # three sentences at once
    limits = [5, 2, 6, 0]
    for seed in range(15):
        table = Table(7, seed)
        together = searched(table, SENTENCES, beam, length_penalty, limits)
        for src, limit, found in zip(SENTENCES, limits, together, strict=True):
            read = [*src, EOS]

            def following(words: tuple[int, ...], table: Table = table, read: Sequence[int] = read) -> list[float]:
                logits = torch.tensor(table.after(read, words), dtype=torch.float64)
                return cast(list[float], logits.log_softmax(0).tolist())

            assert_same(found, plain_beam_search(following, beam, length_penalty, limit))


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
def test_scores_are_those_of_the_model_without_cache(length_penalty: float) -> None:
    model = toy(1, words=6)
    sentences = [*SENTENCES, [8, 7]]
    for src, hypotheses in zip(sentences, searched(model, sentences, 4, length_penalty, [7] * 5), strict=True):
        assert len(hypotheses) == 4
        assert len({tuple(words) for words, _ in hypotheses}) == 4
        for words, found in hypotheses:
            assert found == pytest.approx(score(model, src, words, length_penalty), rel=1e-10)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_model_that_would_go_on_for_ever_is_stopped_at_each_sentences_limit(beam: int) -> None:
    limits = [4, 1, 0, 6]
    found = searched(toy(1, words=6, eos=-50.0), SENTENCES, beam, 1.0, limits)
    assert [{len(words) for words, _ in hypotheses} for hypotheses in found] == [{limit} for limit in limits]
    assert [len(hypotheses) for hypotheses in found] == [beam, beam, 1, beam]  # of no words there is but one


@pytest.mark.parametrize("beam", [1, 2, 3])
def test_a_model_that_ends_at_once_gives_an_empty_translation(beam: int) -> None:
    for hypotheses in searched(toy(1, eos=50.0), SENTENCES, beam, 0.0, [9] * 4):
        assert hypotheses[0].words == []
        assert hypotheses[0].score == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("beam", [13, 20, 1000])
def test_a_beam_wider_than_the_vocabulary_finds_all_that_there_is_and_no_more(beam: int) -> None:
    model = toy(2)
    found = searched(model, SENTENCES[:2], beam, 1.0, [2, 1])
    for src, limit, hypotheses in zip(SENTENCES, (2, 1), found, strict=False):
        assert_same(hypotheses, every_hypothesis(model, src, limit, 1.0))
    assert [len(hypotheses) for hypotheses in found] == [13, 4]


def test_padding_and_first_word_are_never_an_output() -> None:
    model = toy(1)
    model.embedding.weight.data[BOS] = 3 * model.embedding.weight.data[4]
    model.embedding.weight.data[PAD] = -3 * model.embedding.weight.data[4]
    likeliest = {int(log_probabilities(model, src, [[]])[0, -1].argmax()) for src in SENTENCES}
    assert likeliest <= {PAD, BOS}
    for hypotheses in searched(model, SENTENCES, 3, 1.0, [6] * 4):
        for words, _ in hypotheses:
            assert set(words) <= {3, 4, 5}


@pytest.mark.parametrize("at_once", [1, 40, 4096])
@pytest.mark.parametrize("beam", [1, 3])
def test_translations_do_not_depend_on_which_sentences_share_a_batch(
    beam: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "DECODED_AT_ONCE", at_once)
    monkeypatch.setattr(decoding, "MORE_WORDS", 3)
    model = toy(3, words=6)
    sentences = [*SENTENCES, [], [8] * 9, [7, 6], [5]]
    together = translate(model, sentences, beam=beam, length_penalty=1.0)
    alone = [translate(model, [src], beam=beam, length_penalty=1.0)[0] for src in sentences]
    best = [searched(model, [src], beam, 1.0, [len(src) + 3])[0][0] for src in sentences]
    assert_same(together, alone)
    assert_same(together, best)
    assert len({tuple(words) for words, _ in together}) > 4
    assert translate(model, [], beam=beam, length_penalty=1.0) == []


def test_a_translation_has_at_most_fifty_words_more_than_its_source() -> None:
    model = toy(1, words=6, eos=-50.0)
    found = translate(model, [[4], [4, 5, 3, 5]], beam=2, length_penalty=1.0)
    assert [len(hypothesis.words) for hypothesis in found] == [51, 54]


def test_a_model_can_be_trained_on_after_it_has_decoded() -> None:
    model, other = toy(1), toy(1)
    searched(model, SENTENCES, 2, 1.0, [6] * 4)
    src, tgt = padded(SENTENCES), padded(SENTENCES)
    for each in (model, other):
        each([src], [tgt]).square().sum().backward()
    for one, another in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, another.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("vocab_size", [4, 20, 128, 130, 1000, 1024, 1025, 10_000])
@pytest.mark.parametrize(("beam", "k"), [(1, 1), (1, 2), (5, 10), (7, 3)])
@pytest.mark.parametrize("at_once", [1, 10**9])
def test_the_likeliest_continuations_are_those_of_the_log_softmax(
    vocab_size: int, beam: int, k: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoothing, "SLICE", at_once)
    source = torch.Generator().manual_seed(vocab_size + beam)
    logits = 3 * torch.randn(6, beam, vocab_size, dtype=torch.float64, generator=source)
    logits[0, :, PAD] = logits[1, :, BOS] = 50
    scores = torch.randn(6, beam, dtype=torch.float64, generator=source)
    scores[2, 1:] = -math.inf
    ends = torch.tensor([False, True, False, False, True, False])
    model = cast(Any, SimpleNamespace(output_weight=torch.empty(vocab_size, 1), logits=torch.clone))
    for must_end in (None, ends):
        totals = logits.log_softmax(2) + scores[:, :, None]
        totals[:, :, [PAD, BOS]] = -math.inf
        if must_end is not None:
            others = torch.arange(vocab_size) != EOS
            totals.masked_fill_(must_end[:, None, None] & others, -math.inf)
        expected = totals.flatten(1).topk(min(k, beam * vocab_size), dim=1)
        best, places = decoding.likeliest(model, logits, scores, must_end, k)
        torch.testing.assert_close(best, expected.values, rtol=1e-12, atol=1e-12)
        possible = expected.values > -math.inf
        assert torch.equal(places[possible], expected.indices[possible])


def test_a_search_found_by_no_length_penalty_serves_every_other() -> None:
    model = toy(0, words=4, eos=1.0)
    unpenalised = searched(model, SENTENCES, 4, 0.0, [6] * 4)
    orders = set()
    for length_penalty in (0.0, 0.6, 1.0, 2.0):
        for found, expected in zip(unpenalised, searched(model, SENTENCES, 4, length_penalty, [6] * 4), strict=True):
            assert_same(rescored(found, length_penalty), expected)
            orders.add(str([words for words, _ in expected]))
    assert len(orders) > len(SENTENCES)  # the penalty does matter
