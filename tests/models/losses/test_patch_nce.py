"""PatchNCE, compared with loops over patches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gantrain.models.losses.patch_nce import patch_nce, patches, unit_length


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_loops(queries: Tensor, keys: Tensor, images: int, temperature: float) -> Tensor:
    """Park et al. 2020 (arXiv:2007.15651), equation 3, with the patch itself among the negatives at -10."""
    count = len(queries) // images
    total = torch.zeros((), dtype=torch.float64)
    for image in range(images):
        for place in range(count):
            query = queries[image * count + place]
            right = torch.dot(query, keys[image * count + place]) / temperature
            odds = right.exp()
            for other in range(count):
                similarity = torch.dot(query, keys[image * count + other]) if other != place else torch.tensor(-10.0)
                odds = odds + (similarity / temperature).exp()
            total = total - (right.exp() / odds).log()
    return total / len(queries)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("images", [1, 2, 3])
def test_the_loss_and_its_gradient_are_those_of_loops(images: int, temperature: float) -> None:
    queries = unit_length(rows(images * 5, 4)).requires_grad_()
    keys = unit_length(rows(images * 5, 4, seed=1)).requires_grad_()
    loss = patch_nce(queries, keys, images=images, temperature=temperature)
    expected = by_loops(queries, keys.detach(), images, temperature)
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=0)
    ((slope,), (slope_by_loops,)) = (torch.autograd.grad(each, [queries]) for each in (loss, expected))
    torch.testing.assert_close(slope, slope_by_loops, atol=1e-12, rtol=0)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(patch_nce(queries, keys, images=images, temperature=temperature), [keys])


def test_the_patch_itself_counts_as_a_distant_negative() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    # The only place: its own key against itself at -10.
    loss = patch_nce(one, one, images=1, temperature=10.0).item()
    assert loss == pytest.approx(torch.log1p(torch.tensor(-1.1, dtype=torch.float64).exp()).item(), abs=1e-12)


def test_a_batch_has_the_mean_loss_of_its_images() -> None:
    queries, keys = unit_length(rows(12, 4)), unit_length(rows(12, 4, seed=1))
    whole = patch_nce(queries, keys, images=2, temperature=0.5)
    halves = [patch_nce(queries[part], keys[part], images=1, temperature=0.5) for part in (slice(6), slice(6, 12))]
    torch.testing.assert_close(whole, torch.stack(halves).mean(), atol=1e-12, rtol=0)


def test_patches_are_the_vectors_at_the_same_places_of_every_image() -> None:
    features = rows(2, 3, 4, 5)
    places = torch.tensor([7, 0, 19])  # Row 1, column 2; the first; the last.
    expected = [features[image, :, place // 5, place % 5] for image in range(2) for place in (7, 0, 19)]
    assert torch.equal(patches(features, places), torch.stack(expected))


def test_short_vectors_stay_shorter_than_one() -> None:
    vectors = torch.tensor([[3e-7, 4e-7], [3.0, 4.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    scaled = unit_length(vectors)
    expected = [[3e-7 / 6e-7, 4e-7 / 6e-7], [3 / (5 + 1e-7), 4 / (5 + 1e-7)], [0, 0]]
    torch.testing.assert_close(scaled, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0)
    scaled.sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()
