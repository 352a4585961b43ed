"""InfoGAN's codes: their distribution, the information loss, and the preview grid."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from tiny import CPU, ReadOff, build, written
from torch import Tensor

from gantrain.errors import ConfigError
from gantrain.models.losses.adversarial import gradient_penalty
from gantrain.runtime.seeding import StepRandom

LN2, LN5 = log(2), log(5)
KEYS = {"categories": 3, "continuous": 2, "lambda_categorical": 0.5, "lambda_continuous": 0.25}


def infogan(**keys: Any) -> Any:
    return build("infogan", **KEYS | keys)


def reading(**keys: Any) -> Any:
    model = infogan(**keys)
    model.discriminator = ReadOff(model.num_outputs)
    return model


def close(actual: Tensor, expected: float) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=1e-12)


# three of noise, three of a one-hot code, two continuous codes
LATENT = torch.tensor([[9, 9, 9, 0, 1, 0, 0.5, -1], [7, 7, 7, 0, 0, 1, 0, 0]], dtype=torch.float64)
# the logit for real, three of the category (softmax 1/8, 2/8, 5/8 and thirds), the means of two continuous codes
LOGITS = torch.tensor([[0.0, 0, LN2, LN5, 0, 0], [LN2, 0, 0, 0, 1, 2]], dtype=torch.float64)
CATEGORICAL = log(4 * 3) / 2  # -(ln 2/8 + ln 1/3) / 2
CONTINUOUS = ((0.25 + 1) / 2 + (1 + 4) / 2) / 2  # ((0.5^2 + 1^2) / 2 and (1^2 + 2^2) / 2) / 2


def test_the_information_loss_by_hand() -> None:
    parts = infogan().information_loss(LOGITS, LATENT)
    assert set(parts) == {"info_categorical", "info_continuous"}
    close(parts["info_categorical"], CATEGORICAL)
    close(parts["info_continuous"], CONTINUOUS)


def test_the_generator_lowers_the_information_loss_with_its_weights() -> None:
    loss, parts = reading().generator_loss(written(LOGITS), LATENT, None)
    close(parts["g"], log(2 * 3 / 2) / 2)  # -(ln 1/2 + ln 2/3) / 2
    close(parts["info_categorical"], CATEGORICAL)
    close(parts["info_continuous"], CONTINUOUS)
    close(loss, log(3) / 2 + 0.5 * CATEGORICAL + 0.25 * CONTINUOUS)


def test_the_discriminator_recovers_only_the_codes_of_generated_images() -> None:
    real = {"image": written([[LN2, 5, 6, 7, 8, 9], [0, 9, 8, 7, 6, 5]])}
    loss, parts = reading().discriminator_loss(real, written(LOGITS), LATENT, None)
    close(parts["d_real"], log(3 / 2 * 2) / 2)  # -(ln 2/3 + ln 1/2) / 2
    close(parts["d_fake"], log(2 * 3) / 2)  # -(ln 1/2 + ln 1/3) / 2
    close(loss, log(3) / 2 + log(6) / 2 + 0.5 * CATEGORICAL + 0.25 * CONTINUOUS)


def test_without_continuous_codes_only_the_category_counts() -> None:
    loss, parts = reading(continuous=0).generator_loss(written(LOGITS[:, :4]), LATENT[:, :6], None)
    assert set(parts) == {"g", "info_categorical"}
    close(loss, log(3) / 2 + 0.5 * CATEGORICAL)


def test_a_latent_vector_is_noise_and_codes() -> None:
    latent, labels = infogan().draw(9_000, StepRandom(1, CPU))
    assert labels is None
    assert latent.shape == (9_000, 8)
    noise, category, continuous = latent.split([3, 3, 2], dim=1)
    torch.testing.assert_close(noise.std().item(), 1.0, atol=0.03, rtol=0)
    assert set(category.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(category.sum(dim=1), torch.ones(9_000, dtype=torch.float64))
    # standard error of a fraction: 0.005
    torch.testing.assert_close(category.mean(dim=0), torch.full((3,), 1 / 3).double(), atol=0.025, rtol=0)
    assert -1 <= continuous.min() < -0.99
    assert 0.99 < continuous.max() <= 1
    torch.testing.assert_close(continuous.std().item(), 3**-0.5, atol=0.02, rtol=0)


@pytest.mark.parametrize(("categories", "continuous"), [(3, 2), (10, 2), (2, 0), (12, 4)])
def test_each_row_of_the_grid_varies_exactly_one_code(categories: int, continuous: int) -> None:
    model = infogan(categories=categories, continuous=continuous)
    varied = []
    for row in model.preview_latent.view(10, 10, -1):
        noise, category, values = row.split([3, categories, continuous], dim=1)
        assert torch.equal(noise, noise[:1].expand_as(noise))
        moving = [f"continuous {number}" for number in range(continuous) if len(values[:, number].unique()) > 1]
        if len(category.unique(dim=0)) > 1:
            moving.append("categorical")
            assert category.argmax(dim=1).tolist() == [column % categories for column in range(10)]
            assert torch.equal(category.sum(dim=1), torch.ones(10, dtype=torch.float64))
        assert len(moving) == 1
        if moving[0] != "categorical":
            number = int(moving[0].split()[1])
            torch.testing.assert_close(values[:, number], torch.linspace(-1, 1, 10).double(), check_dtype=False)
        varied.append(moving[0])
    assert varied == sorted(varied)  # The rows of the categorical code are first.
    assert set(varied) == {"categorical", *(f"continuous {number}" for number in range(continuous))}
    assert len(torch.unique(model.preview_latent.view(10, 10, -1)[:, 0, :3], dim=0)) == 10


def test_the_networks_are_sized_for_the_codes() -> None:
    model = infogan()
    assert model.generator.layers[0].in_features == 3 + 3 + 2
    assert model.discriminator.layers[-1].out_features == 1 + 3 + 2


def test_penalties_take_the_gradient_of_the_adversarial_logit() -> None:
    model = infogan(gradient_penalty=1.0)
    real, fake = torch.rand(4, 1, 4, 4).double(), torch.rand(4, 1, 4, 4).double()
    found = model.penalties({"image": real}, fake, StepRandom(3, CPU))["gradient_penalty"]
    expected = gradient_penalty(lambda x: model.discriminator(x)[:, 0], real, fake, StepRandom(3, CPU).uniform(4))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("key", "least"), [("categories", 2), ("continuous", 0)])
def test_codes_without_information_are_refused(key: str, least: int) -> None:
    text = rf"model\.{key}\b.* at least {least}, got {least - 1}$"
    with pytest.raises(ConfigError, match=text):
        infogan(**{key: least - 1})
