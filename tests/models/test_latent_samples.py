"""Noise, labels, samples and preview grids of models that start from noise."""

from __future__ import annotations

import pytest
import torch
from tiny import CPU, Watched, build, image_batches
from tiny_keys import LABELLED, OWN_KEYS

from gantrain.errors import ConfigError
from gantrain.runtime.seeding import StepRandom


def test_normal_noise_has_unit_variance_and_uniform_noise_spans_its_range() -> None:
    normal, labels = build("gan", noise="normal").draw(20_000, StepRandom(1, CPU))
    uniform, _ = build("gan", noise="uniform").draw(20_000, StepRandom(1, CPU))
    assert labels is None
    assert normal.shape == uniform.shape == (20_000, 3)
    assert normal.dtype == uniform.dtype == torch.float64
    # 60,000 numbers: five standard errors of a mean are 0.02, of a standard deviation less
    torch.testing.assert_close((normal.mean().item(), normal.std().item()), (0.0, 1.0), atol=0.02, rtol=0)
    torch.testing.assert_close((uniform.mean().item(), uniform.std().item()), (0.0, 3**-0.5), atol=0.02, rtol=0)
    assert -1 <= uniform.min() < -0.999
    assert 0.999 < uniform.max() <= 1


@pytest.mark.parametrize("name", LABELLED)
def test_labels_are_drawn_uniformly(name: str) -> None:
    latent, labels = build(name, **OWN_KEYS[name]).draw(9_000, StepRandom(1, CPU))
    assert latent.shape == (9_000, 3)
    # standard error of a fraction: sqrt(1/3 * 2/3 / 9000) = 0.005
    torch.testing.assert_close(labels.bincount() / 9_000, torch.full((3,), 1 / 3), atol=0.025, rtol=0)


def test_latents_depend_only_on_their_seed() -> None:
    model = build("gan")
    first = model.latents(4, seed=3)
    model.train_step(image_batches(), Watched(model))
    torch.rand(5)
    assert torch.equal(model.latents(4, seed=3), first)
    assert not torch.equal(model.latents(4, seed=4), first)


def test_the_grid_shows_the_same_noise_throughout_and_after_resuming() -> None:
    model = build("gan")
    shown = model.visuals({})["samples"]
    assert shown.shape == (100, 1, 4, 4)
    torch.testing.assert_close(shown, model.sample(model.preview_latent), atol=0, rtol=0)
    torch.testing.assert_close(model.visuals({})["samples"], shown, atol=0, rtol=0)
    other = build("gan", seed=9)
    assert not torch.equal(other.preview_latent, model.preview_latent)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.visuals({})["samples"], shown, atol=0, rtol=0)


@pytest.mark.parametrize("name", LABELLED)
def test_the_grid_has_a_row_for_each_class_on_the_same_noise(name: str) -> None:
    model = build(name, **OWN_KEYS[name])
    assert model.preview_labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    rows = model.preview_latent.view(3, 10, 3)
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[0], rows[2])
    assert len(torch.unique(rows[0], dim=0)) == 10
    assert model.visuals({})["samples"].shape == (30, 1, 4, 4)


def test_labels_are_required_by_conditional_models_and_refused_by_others() -> None:
    latent = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(ConfigError, match="needs labels.*per latent vector"):
        build("cgan").sample(latent)
    with pytest.raises(ConfigError, match="without labels$"):
        build("gan").sample(latent, torch.tensor([0, 1]))


def test_samples_have_no_gradient_and_do_not_change_torchs_random_state() -> None:
    model = build("gan")
    before = torch.get_rng_state()
    assert not model.sample(model.latents(2, seed=0)).requires_grad
    assert torch.equal(torch.get_rng_state(), before)
