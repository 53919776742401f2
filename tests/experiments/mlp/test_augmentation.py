"""Shifted and mirrored images, against doing it by hand."""

import pytest
import torch
from torch import Tensor

from mlpx.experiments.mlp.augmentation import Augmentation

IMAGES = torch.arange(1, 5 * 6 * 6 + 1, dtype=torch.uint8).view(5, 6, 6)


def by_hand(image: Tensor, down: int, right: int, mirrored: int) -> Tensor:
    moved = torch.zeros_like(image)
    for y in range(6):
        for x in range(6):
            if 0 <= y - down < 6 and 0 <= x - right < 6:
                moved[y, x] = image[y - down, x - right]
    return moved.flip(1) if mirrored else moved


def test_each_image_moves_as_it_is_told() -> None:
    augmentation = Augmentation(IMAGES, 2, flip=True)
    rows = torch.tensor([[0, 3, 4], [2, 2, 1]])
    moves = torch.tensor([[[0, 0, 0], [2, -1, 0], [-2, 2, 1]], [[1, 1, 1], [0, 0, 1], [-1, 0, 0]]])
    found = augmentation.apply(rows, moves)
    for replica in range(2):
        for i in range(3):
            expected = by_hand(IMAGES[rows[replica, i]], *moves[replica, i].tolist())
            assert torch.equal(found[replica, i], expected)


def test_moves_are_even_at_first_and_fade() -> None:
    augmentation = Augmentation(IMAGES, 2, flip=True)
    at_first = augmentation.draw(50_000, [7], 1, 1.0)[0]
    for axis in (0, 1):
        shares = (at_first[:, axis] + 2).bincount(minlength=5) / 50_000
        assert shares.tolist() == pytest.approx([0.2] * 5, abs=0.01)
    assert float(at_first[:, 2].double().mean()) == pytest.approx(0.5, abs=0.01)
    late = augmentation.draw(50_000, [7], 1, 0.1)[0]
    assert int(late[:, :2].abs().max()) == 1
    assert float((late[:, :2] == 0).double().mean()) == pytest.approx(1 / 1.4, abs=0.01)
    assert float(late[:, 2].double().mean()) == pytest.approx(0.05, abs=0.005)
    assert not augmentation.draw(50_000, [7], 1, 0.0).any()


def test_moves_are_a_function_of_seed_and_epoch() -> None:
    augmentation = Augmentation(IMAGES, 2, flip=True)
    pair = augmentation.draw(100, [3, 4], 2, 1.0)
    assert torch.equal(pair[1], augmentation.draw(100, [4], 2, 1.0)[0])
    assert not torch.equal(pair[0], pair[1])
    assert not torch.equal(pair[0], augmentation.draw(100, [3], 3, 1.0)[0])


def test_without_flip_none_is_mirrored() -> None:
    assert not Augmentation(IMAGES, 2, flip=False).draw(1000, [0], 1, 1.0)[..., 2].any()
