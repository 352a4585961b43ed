"""The history of generated images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gantrain.models.pool import ImagePool


def numbered(start: int, count: int) -> Tensor:
    """Images (count, 1, 2, 2), each filled with its number."""
    return torch.arange(start, start + count, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


def numbers(images: Tensor) -> list[int]:
    assert torch.equal(images, images[:, :1, :1, :1].expand_as(images))
    return images[:, 0, 0, 0].int().tolist()


def stored(pool: ImagePool) -> list[int]:
    return [int(row[0][0, 0, 0]) for row in pool.get_extra_state()]


def test_a_pool_that_is_not_full_stores_and_returns_its_input() -> None:
    pool = ImagePool(5)
    assert numbers(pool(numbered(0, 3))[0]) == [0, 1, 2]
    assert numbers(pool(numbered(3, 2))[0]) == [3, 4]
    assert stored(pool) == [0, 1, 2, 3, 4]


def test_a_full_pool_exchanges_about_half_of_the_images() -> None:
    torch.manual_seed(0)
    pool = ImagePool(50)
    pool(numbered(0, 50))
    inside = set(range(50))
    exchanged = 0
    for start in range(50, 4050, 10):
        for number, shown in zip(range(start, start + 10), numbers(pool(numbered(start, 10))[0]), strict=True):
            if shown != number:
                assert shown in inside
                inside.remove(shown)
                inside.add(number)
                exchanged += 1
    assert sorted(stored(pool)) == sorted(inside)
    # standard error of a fraction of 4000: 0.008
    assert exchanged / 4000 == pytest.approx(0.5, abs=0.04)


def test_all_places_of_the_pool_are_exchanged_equally_often() -> None:
    torch.manual_seed(0)
    pool = ImagePool(4)
    pool(numbered(0, 4))
    places = [0] * 4
    for number in range(4, 4004):
        before = stored(pool)
        pool(numbered(number, 1))
        for place, (old, new) in enumerate(zip(before, stored(pool), strict=True)):
            places[place] += old != new
    # 2000 exchanges, a quarter each: standard error sqrt(4000 / 8 * 7 / 8) = 21
    assert places == pytest.approx([500] * 4, abs=105)


def test_companions_are_exchanged_with_their_images() -> None:
    torch.manual_seed(0)
    pool = ImagePool(4)
    for start in range(0, 60, 6):
        images, latent, labels = pool(
            numbered(start, 6), numbered(start, 6).flatten(1) + 0.5, torch.arange(start, start + 6)
        )
        assert labels.tolist() == numbers(images)
        torch.testing.assert_close(latent, images.flatten(1) + 0.5, atol=0, rtol=0)
        assert latent.shape == (6, 4)
        assert labels.dtype == torch.int64
    assert labels.tolist() != list(range(54, 60))


def test_none_is_returned_as_none() -> None:
    images, labels, latent = ImagePool(2)(numbered(0, 3), None, torch.arange(3))
    assert labels is None
    assert latent.tolist() == numbers(images)


@pytest.mark.parametrize("size", [0, 3])
def test_images_from_the_pool_have_no_gradient(size: int) -> None:
    given = numbered(0, 2).requires_grad_()
    images, latent = ImagePool(size)(given, given * 2)
    assert not images.requires_grad
    assert not latent.requires_grad


def test_a_pool_of_size_zero_returns_its_input_and_stores_nothing() -> None:
    pool = ImagePool(0)
    for start in range(0, 40, 4):
        assert numbers(pool(numbered(start, 4))[0]) == list(range(start, start + 4))
    assert pool.get_extra_state() == []


def test_stored_images_do_not_change_with_the_input() -> None:
    pool = ImagePool(3)
    given = numbered(0, 3)
    pool(given)
    given.zero_()
    assert stored(pool) == [0, 1, 2]


@pytest.mark.parametrize("already", [2, 6, 30])
def test_a_restored_pool_continues_identically(already: int) -> None:
    torch.manual_seed(0)
    pool = ImagePool(8)
    pool(numbered(0, already), torch.arange(already))
    resumed = ImagePool(8)
    resumed.load_state_dict(pool.state_dict())
    outcomes = []
    for each in (pool, resumed):
        torch.manual_seed(1)
        outcomes.append([each(numbered(start, 5), torch.arange(start, start + 5)) for start in range(100, 150, 5)])
    torch.testing.assert_close(outcomes[1], outcomes[0], atol=0, rtol=0)


def test_a_saved_pool_does_not_change_when_the_run_continues() -> None:
    torch.manual_seed(0)
    pool = ImagePool(3)
    pool(numbered(0, 3))
    state = pool.state_dict()
    pool(numbered(3, 20))
    assert stored(pool) != [0, 1, 2]
    resumed = ImagePool(3)
    resumed.load_state_dict(state)
    assert stored(resumed) == [0, 1, 2]
