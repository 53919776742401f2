import torch

from mlpx.experiments.poly.batches import Batches


def gathered(batches: Batches, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(x.clone(), y.clone()) for x, _, y in batches.of_epoch(epoch)]


def make(count: int = 23, batch_size: int = 5, seeds: tuple[int, ...] = (0, 1)) -> Batches:
    rows = torch.arange(len(seeds) * count, dtype=torch.float32).reshape(len(seeds), count, 1)
    return Batches(rows.expand(-1, -1, 3).contiguous(), rows.clone(), seeds, batch_size)


def test_each_epoch_holds_every_example_once_and_replicas_stay_apart() -> None:
    batches = make()
    assert len(batches) == 5
    parts = gathered(batches, 1)
    assert [x.shape[1] for x, _ in parts] == [5, 5, 5, 5, 3]
    y = torch.cat([y for _, y in parts], dim=1)[..., 0]
    assert y[0].sort().values.tolist() == list(range(23))
    assert y[1].sort().values.tolist() == list(range(23, 46))
    for x, y in parts:
        assert torch.equal(x, y.expand_as(x))


def test_order_is_a_function_of_seed_and_epoch_alone() -> None:
    one, other = make(), make()
    other.of_epoch(1)
    other.of_epoch(5)
    for (x, _), (again, _) in zip(gathered(one, 2), gathered(other, 2), strict=True):
        assert torch.equal(x, again)
    orders = [tuple(torch.cat([y for _, y in gathered(one, e)], dim=1)[0, :, 0].tolist()) for e in range(1, 20)]
    assert len(set(orders)) == len(orders)


def test_a_replica_has_the_order_of_its_seed_alone() -> None:
    pair, alone = make(seeds=(4, 9)), make(seeds=(9,))
    for (_, y), (_, single) in zip(gathered(pair, 3), gathered(alone, 3), strict=True):
        assert torch.equal(y[1] - 23, single[0])


def test_targets_may_be_overwritten() -> None:
    batches = make()
    before = gathered(batches, 1)
    for _, _, y in batches.of_epoch(1):
        y.zero_()
    for (_, y), (_, again) in zip(before, gathered(batches, 1), strict=True):
        assert torch.equal(y, again)


def test_a_batch_larger_than_the_data_is_the_whole_data() -> None:
    assert len(make(count=3, batch_size=10**9)) == 1
