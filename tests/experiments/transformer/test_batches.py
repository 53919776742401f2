"""Batches of sentences by a budget of tokens."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from mlpx.experiments.transformer import batches
from mlpx.experiments.transformer.batches import STRATA, Batch, load
from mlpx.experiments.transformer.sentences import Pairs
from mlpx.experiments.transformer.vocabulary import BOS, EOS, PAD
from mlpx.training.randomness import generator

CPU = torch.device("cpu")


def token_batches(
    src: Tensor, tgt: Tensor, batch_tokens: int, batch_size: int, seed: int, epoch: int
) -> list[list[Tensor]]:
    """The rows of each rectangle of each step."""
    found = batches.token_batches(src.numpy(), tgt.numpy(), batch_tokens, batch_size, seed, epoch)
    return [[torch.from_numpy(rows) for rows in found.rectangles(step)] for step in range(found.num_steps)]


def one_by_one(
    src: Tensor, tgt: Tensor, batch_tokens: int, batch_size: int, seed: int, epoch: int
) -> list[list[Tensor]]:
    """The same batches, made pair by pair."""
    source = generator(seed, "order", epoch)
    longer = torch.maximum(src, tgt)
    keys = longer * 1000 + torch.minimum(src, tgt)
    rows = torch.randperm(len(src), generator=source)
    rows = rows[keys[rows].argsort(stable=True)]
    strata = max(1, min(STRATA, batch_size, batch_tokens // int(longer.max())))
    sizes, size = [], 0
    for length in longer[rows].tolist():
        if size and ((size + 1) * length > batch_tokens // strata or size == batch_size // strata):
            sizes.append(size)
            size = 0
        size += 1
    rectangles = rows.split([*sizes, size])
    num_steps = -(-len(rectangles) // strata)
    drawn = []
    for first in range(0, len(rectangles), num_steps):
        stratum = rectangles[first : first + num_steps]
        drawn.append([stratum[i] for i in torch.randperm(len(stratum), generator=source).tolist()])
    steps = [[stratum[i] for stratum in drawn if i < len(stratum)] for i in range(num_steps)]
    return [steps[i] for i in torch.randperm(num_steps, generator=source).tolist()]


def lengths_of_translations(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """As of a corpus of translations: from 1 to 250 words, half of them 20 at most, and each side like the other."""
    generator = torch.Generator().manual_seed(seed)
    src = torch.empty(count).log_normal_(3, 0.6, generator=generator)
    tgt = src * torch.empty(count).log_normal_(0.05, 0.2, generator=generator)
    return src.round().long().clamp(1, 250), tgt.round().long().clamp(1, 250)


def rows_of(steps: Sequence[Sequence[Tensor]]) -> list[list[list[int]]]:
    return [[rows.tolist() for rows in step] for step in steps]


def filled(steps: Sequence[Sequence[Tensor]], src: Tensor, tgt: Tensor) -> list[tuple[int, int]]:
    """The words of each step's sources, and of its targets, padding included."""
    return [
        (sum(len(r) * int(src[r].max()) for r in step), sum(len(r) * int(tgt[r].max()) for r in step)) for step in steps
    ]


SETTINGS = [  # pairs, tokens, pairs a step
    (2000, 1500, 64),
    (2000, 1000, 10**9),
    (2000, 10**9, 64),
    (2000, 10**9, 10**9),
    (500, 300, 3),
    (500, 1, 1),
    (500, 1, 7),
    (300, 10**9, 1),
    (300, 260, 2),
    (7, 1000, 128),
    (3, 1000, 2),
    (1, 4096, 128),
    (1, 1, 1),
]


@pytest.mark.parametrize(("count", "batch_tokens", "batch_size"), SETTINGS)
def test_an_epoch_holds_each_pair_once_within_both_budgets(count: int, batch_tokens: int, batch_size: int) -> None:
    src, tgt = lengths_of_translations(count)
    for epoch in (1, 2):
        steps = token_batches(src, tgt, batch_tokens, batch_size, seed=3, epoch=epoch)
        assert sorted(row for step in steps for rows in step for row in rows.tolist()) == list(range(count))
        for step, words in zip(steps, filled(steps, src, tgt), strict=True):
            pairs = sum(len(rows) for rows in step)
            assert len(step) >= 1
            assert all(len(rows) for rows in step)
            assert pairs <= batch_size
            assert max(words) <= batch_tokens or pairs == 1


@pytest.mark.parametrize(("count", "batch_tokens", "batch_size"), SETTINGS)
def test_batches_by_array_operations_are_those_made_pair_by_pair(
    count: int, batch_tokens: int, batch_size: int
) -> None:
    for seed, epoch in ((0, 1), (3, 2)):
        arguments = (*lengths_of_translations(count, seed), batch_tokens, batch_size, seed, epoch)
        assert rows_of(token_batches(*arguments)) == rows_of(one_by_one(*arguments))


def filled_up(words: Sequence[Sequence[int]]) -> list[list[int]]:
    longest = max(map(len, words))
    return [[*each, *[PAD] * (longest - len(each))] for each in words]


@pytest.mark.parametrize(
    ("batch_tokens", "at_once", "first"), [(60, 10**6, 0), (60, 100, 3), (10**6, 10**6, 0), (1, 1, 5)]
)
def test_the_words_of_a_step_are_its_pairs_filled_up_and_each_real_target_has_its_place(
    batch_tokens: int, at_once: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "LOADED_AT_ONCE", at_once)
    words = itertools.count(EOS + 1)
    src, tgt = ([list(itertools.islice(words, n % 7 + 1)) for n in range(i, i + 40)] for i in (0, 3))
    pairs = Pairs.of(src, tgt)
    plan = batches.token_batches(pairs.src.lengths + 1, pairs.tgt.lengths + 1, batch_tokens, 10**6, seed=0, epoch=1)
    loaded = list(load(pairs, plan, CPU, first))
    assert len(loaded) == plan.num_steps - first
    for step, batch in enumerate(loaded, start=first):
        rectangles = [rows.tolist() for rows in plan.rectangles(step)]
        assert [part.tolist() for part in batch.src] == [
            filled_up([[*src[i], EOS] for i in rows]) for rows in rectangles
        ]
        assert [part.tolist() for part in batch.tgt] == [
            filled_up([[BOS, *tgt[i]] for i in rows]) for rows in rectangles
        ]
        assert batch.targets.tolist() == [word for rows in rectangles for i in rows for word in (*tgt[i], EOS)]
        assert places_of(batch) == [[BOS, *tgt[i]] for rows in rectangles for i in rows]
        assert {part.dtype for part in (*batch.src, *batch.tgt, batch.targets, batch.places)} == {torch.int64}


def places_of(batch: Batch) -> list[list[int]]:
    """The words from which the targets are predicted, sentence by sentence."""
    read = torch.cat([part.flatten() for part in batch.tgt])[batch.places]
    starts = (read == BOS).nonzero()[:, 0].tolist()
    return [part.tolist() for part in read.tensor_split(starts[1:])]


def test_turned_pairs_are_loaded_the_other_way_round() -> None:
    pairs = Pairs.of([[7, 8], [9]], [[5], [4, 6, 3]])
    turned = pairs.turned(np.array([True, False]))
    assert turned.src.lists() == [[5], [9]]
    assert turned.tgt.lists() == [[7, 8], [4, 6, 3]]
    plan = batches.token_batches(turned.src.lengths + 1, turned.tgt.lengths + 1, 100, 10, seed=0, epoch=1)
    (batch,) = load(turned, plan, CPU)
    words = {tuple(row) for part in batch.src for row in part.tolist()}
    assert words == {(5, EOS), (9, EOS)}


@pytest.mark.parametrize(("count", "batch_tokens", "batch_size"), SETTINGS)
def test_the_number_of_steps_is_the_same_for_each_epoch_and_seed(
    count: int, batch_tokens: int, batch_size: int
) -> None:
    src, tgt = lengths_of_translations(count)
    numbers = {
        len(token_batches(src, tgt, batch_tokens, batch_size, seed, epoch)) for seed in (0, 1) for epoch in range(1, 6)
    }
    assert len(numbers) == 1


def test_batches_are_a_function_of_seed_and_epoch_alone() -> None:
    src, tgt = lengths_of_translations(2000)
    first = rows_of(token_batches(src, tgt, 1500, 64, seed=0, epoch=1))
    torch.rand(7)
    assert rows_of(token_batches(src.clone(), tgt.clone(), 1500, 64, seed=0, epoch=1)) == first
    others = [
        rows_of(token_batches(src, tgt, 1500, 64, seed, epoch)) for seed, epoch in ((0, 2), (0, 3), (1, 1), (1, 2))
    ]
    for one, other in itertools.combinations([first, *others], 2):
        together = [{frozenset(row for rows in step for row in rows) for step in steps} for steps in (one, other)]
        assert not together[0] & together[1]  # other pairs meet, not only in another order


def test_pairs_of_one_length_meet_others_in_each_epoch() -> None:
    lengths = torch.full((300,), 10)
    first, second = (
        {frozenset(rows.tolist()) for step in steps for rows in step}
        for steps in (token_batches(lengths, lengths, 400, 10**9, seed=0, epoch=epoch) for epoch in (1, 2))
    )
    assert not first & second


def test_sources_that_meet_are_of_like_length_where_targets_are_of_one() -> None:
    src, tgt = torch.arange(2000) % 20 + 1, torch.full((2000,), 20)
    steps = token_batches(src, tgt, 4000, 10**9, seed=0, epoch=1)
    for step in steps:
        for rows in step:
            assert int(src[rows].max()) - int(src[rows].min()) <= 1


def test_steps_of_an_epoch_come_in_no_order_of_length() -> None:
    src, tgt = lengths_of_translations(20_000)
    steps = token_batches(src, tgt, 4096, 10**9, seed=0, epoch=1)
    means = torch.tensor([float(tgt[torch.cat(step)].double().mean()) for step in steps])
    places = torch.arange(len(steps), dtype=torch.float32)
    assert abs(float(torch.corrcoef(torch.stack([means, places]))[0, 1])) < 5 / len(steps) ** 0.5


def test_a_step_with_a_rectangle_less_comes_anywhere_in_an_epoch() -> None:
    lengths = torch.full((110,), 10)
    epochs = [token_batches(lengths, lengths, 400, 10**9, seed=0, epoch=epoch) for epoch in range(1, 30)]
    sizes = [[len(step) for step in steps] for steps in epochs]
    assert all(sorted(each) == [3, 4, 4] for each in sizes)  # eleven rectangles of ten pairs
    assert {each.index(3) for each in sizes} == {0, 1, 2}


def test_little_is_padding() -> None:
    src, tgt = lengths_of_translations(100_000)
    steps = token_batches(src, tgt, 4096, 10**9, seed=0, epoch=1)
    of_src, of_tgt = (sum(side) for side in zip(*filled(steps, src, tgt), strict=True))
    padding = 1 - int((src + tgt).sum()) / (of_src + of_tgt)
    used = of_tgt / 4096 / len(steps)
    print(f"\n{padding:.1%} is padding, {used:.1%} of the budget is used")
    assert padding < 0.09  # of batches drawn without regard to length 69 % would be
    assert used > 0.9


@pytest.mark.parametrize("batch_size", [128, 10**9])
def test_each_full_step_holds_short_pairs_and_long_ones(batch_size: int) -> None:
    src, tgt = lengths_of_translations(20_000)
    longer = torch.maximum(src, tgt)
    steps = token_batches(src, tgt, 4096, batch_size, seed=0, epoch=1)
    full = [step for step in steps if len(step) == STRATA]
    assert len(full) >= len(steps) - STRATA
    for i in range(1, STRATA):  # whatever is in one stratum is no longer than whatever is in the next
        longest = max(int(longer[step[i - 1]].max()) for step in full)
        assert longest <= min(int(longer[step[i]].min()) for step in full)
    first, last = (torch.stack([longer[step[i]].double().mean() for step in full]) for i in (0, -1))
    assert abs(float(torch.corrcoef(torch.stack([first, last]))[0, 1])) < 5 / len(full) ** 0.5  # any may meet any
    mean = float(longer.double().mean())
    for step in full:
        of_step = longer[torch.cat(step)]
        assert int(of_step.min()) < mean
        assert int(of_step.max()) > 1.5 * mean


def test_a_pair_longer_than_the_budget_is_a_step_of_its_own() -> None:
    src, tgt = torch.tensor([5, 5, 90, 5, 5, 5]), torch.tensor([5, 4, 20, 5, 5, 3])
    for epoch in range(1, 6):
        steps = token_batches(src, tgt, 20, 10, seed=0, epoch=epoch)
        assert [2] in [torch.cat(step).tolist() for step in steps]
        assert sorted(len(torch.cat(step)) for step in steps) == [1, 1, 4]
