"""Adversarial losses compared with values by hand, penalties with finite differences."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from gantrain.errors import ConfigError
from gantrain.models.losses.adversarial import ADVERSARIAL_LOSSES, adversarial_loss, gradient_penalty, r1_penalty

LN2, LN3 = log(2), log(3)
# sigmoid of these is 1/2, 2/3 and 1/4
LOGITS = torch.tensor([0.0, LN2, -LN3], dtype=torch.float64)
# for the losses without a sigmoid
NUMBERS = torch.tensor([0.0, 2.0, -1.0], dtype=torch.float64)


def close(actual: Tensor, expected: float) -> None:
    assert actual.shape == ()
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), atol=1e-14, rtol=1e-14)


@pytest.mark.parametrize("name", ["logistic", "minimax"])
def test_the_logistic_discriminator_loss_is_the_log_likelihood(name: str) -> None:
    loss = ADVERSARIAL_LOSSES[name]
    # -(ln 1/2 + ln 2/3 + ln 1/4) / 3 = ln(2 * 3/2 * 4) / 3 = ln 12 / 3
    close(loss.real(LOGITS, 0.0), log(12) / 3)
    # -(ln 1/2 + ln 1/3 + ln 3/4) / 3 = ln(2 * 3 * 4/3) / 3 = ln 8 / 3
    close(loss.fake(LOGITS), log(8) / 3)


@pytest.mark.parametrize("name", ["logistic", "minimax"])
def test_smoothing_makes_the_logistic_target_one_minus_s(name: str) -> None:
    # 0.9 of ln 12 / 3 and 0.1 of ln 8 / 3, the losses against the targets 1 and 0
    close(ADVERSARIAL_LOSSES[name].real(LOGITS, 0.1), (0.9 * log(12) + 0.1 * log(8)) / 3)


def test_the_logistic_generator_maximizes_log_d() -> None:
    # -(ln 1/2 + ln 2/3 + ln 1/4) / 3 = ln 12 / 3
    close(ADVERSARIAL_LOSSES["logistic"].generator(LOGITS), log(12) / 3)


def test_the_minimax_generator_minimizes_log_one_minus_d() -> None:
    # (ln 1/2 + ln 1/3 + ln 3/4) / 3 = -ln 8 / 3
    close(ADVERSARIAL_LOSSES["minimax"].generator(LOGITS), -log(8) / 3)


def test_least_squares_by_hand() -> None:
    loss = ADVERSARIAL_LOSSES["least_squares"]
    close(loss.real(NUMBERS, 0.0), 2.0)  # (1 + 1 + 4) / 3
    close(loss.fake(NUMBERS), 5 / 3)  # (0 + 4 + 1) / 3
    close(loss.generator(NUMBERS), 2.0)  # (1 + 1 + 4) / 3
    close(loss.real(NUMBERS, 0.25), 5.1875 / 3)  # (0.75^2 + 1.25^2 + 1.75^2) / 3


def test_hinge_by_hand() -> None:
    loss = ADVERSARIAL_LOSSES["hinge"]
    close(loss.real(NUMBERS, 0.0), 1.0)  # (1 + 0 + 2) / 3
    close(loss.fake(NUMBERS), 4 / 3)  # (1 + 3 + 0) / 3
    close(loss.generator(NUMBERS), -1 / 3)  # -(0 + 2 - 1) / 3


def test_wasserstein_by_hand() -> None:
    loss = ADVERSARIAL_LOSSES["wasserstein"]
    close(loss.real(NUMBERS, 0.0), -1 / 3)  # -(0 + 2 - 1) / 3
    close(loss.fake(NUMBERS), 1 / 3)
    close(loss.generator(NUMBERS), -1 / 3)


def test_the_relativistic_loss_by_hand() -> None:
    loss = ADVERSARIAL_LOSSES["relativistic"]
    # sigmoid of the differences of these is 1/2, 2/3 and 1/4: -(ln 1/2 + ln 2/3 + ln 1/4) / 3 = ln 12 / 3
    assert list(loss.discriminator_terms(NUMBERS + LOGITS, NUMBERS, 0.0)) == ["d"]
    close(loss.discriminator_terms(NUMBERS + LOGITS, NUMBERS, 0.0)["d"], log(12) / 3)
    close(loss.generator_term(NUMBERS + LOGITS, NUMBERS), log(12) / 3)
    close(loss.generator_term(NUMBERS, NUMBERS + LOGITS), log(8) / 3)


SEPARATE = sorted(set(ADVERSARIAL_LOSSES) - {"relativistic"})  # Losses with terms of their own for each kind of image.


def test_every_loss_is_tested() -> None:
    assert SEPARATE == ["hinge", "least_squares", "logistic", "minimax", "wasserstein"]


@pytest.mark.parametrize("name", SEPARATE)
def test_the_discriminator_loss_is_the_sum_of_its_terms(name: str) -> None:
    loss = ADVERSARIAL_LOSSES[name]
    smoothing = 0.1 if loss.has_target else 0.0
    expected = {"d_real": loss.real(LOGITS, smoothing), "d_fake": loss.fake(NUMBERS)}
    torch.testing.assert_close(loss.discriminator_terms(LOGITS, NUMBERS, smoothing), expected, atol=0, rtol=0)
    assert torch.equal(loss.generator_term(LOGITS, None), loss.generator(LOGITS))


@pytest.mark.parametrize("name", SEPARATE)
def test_a_loss_is_the_mean_over_every_logit_whatever_their_shape(name: str) -> None:
    loss = ADVERSARIAL_LOSSES[name]
    patches = torch.cat([LOGITS, NUMBERS]).view(2, 1, 1, 3)
    for term in (lambda x: loss.real(x, 0.0), loss.fake, loss.generator):
        torch.testing.assert_close(term(patches), (term(LOGITS) + term(NUMBERS)) / 2)


@pytest.mark.parametrize("name", ["logistic", "minimax"])
def test_logistic_losses_and_gradients_are_finite_at_large_logits(name: str) -> None:
    loss = ADVERSARIAL_LOSSES[name]
    far = torch.tensor([1000.0, -1000.0], requires_grad=True)
    for term in (lambda x: loss.real(x, 0.0), loss.fake):
        value = term(far)
        torch.testing.assert_close(value, torch.tensor(500.0))  # (0 + 1000) / 2
        (gradient,) = torch.autograd.grad(value, far)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["hinge", "wasserstein", "relativistic"])
def test_smoothing_is_refused_by_losses_without_a_target(name: str) -> None:
    expected = rf"^model\.label_smoothing=0\.1 has no meaning for model\.loss={name}: set it to 0$"
    with pytest.raises(ConfigError, match=expected):
        adversarial_loss(name, label_smoothing=0.1)
    assert adversarial_loss(name, label_smoothing=0.0) is ADVERSARIAL_LOSSES[name]


@pytest.mark.parametrize("name", ["logistic", "minimax", "least_squares"])
def test_smoothing_is_accepted_by_losses_with_a_target(name: str) -> None:
    assert adversarial_loss(name, label_smoothing=0.1) is ADVERSARIAL_LOSSES[name]


def test_an_unknown_loss_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"model\.loss\b.*'hing'.*'hinge'"):
        adversarial_loss("hing")


# ---- penalties


def images(count: int, seed: int) -> Tensor:
    return torch.randn(count, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def half_square(x: Tensor) -> Tensor:
    """A critic whose gradient at x is x."""
    return x.flatten(1).square().sum(dim=1) / 2


class Nonlinear(nn.Module):
    """Two logits per image, from a convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(3, 2), nn.Softplus())
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def numerical_gradient(critic: Callable[[Tensor], Tensor], image: Tensor, step: float = 1e-5) -> Tensor:
    """Of the summed logits of one image (C, H, W) in each of its pixels, by central differences."""
    slopes = []
    for place in range(image.numel()):
        shift = torch.zeros(image.numel(), dtype=image.dtype)
        shift[place] = step
        high, low = (critic((image + sign * shift.view_as(image))[None]).sum() for sign in (1, -1))
        slopes.append((high - low) / (2 * step))
    return torch.stack(slopes)


def test_the_gradient_penalty_of_a_linear_critic_is_that_of_its_weights() -> None:
    weight = torch.full((2, 2, 2), 0.5, dtype=torch.float64, requires_grad=True)
    weight_norm = 2**0.5  # of eight weights of 1/2: sqrt(8 / 4)
    penalty = gradient_penalty(lambda x: (x * weight).sum(dim=(1, 2, 3)) + 3, images(5, 0), images(5, 1), torch.rand(5))
    close(penalty, (weight_norm - 1) ** 2)
    penalty.backward()
    # d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|
    expected = 2 * (weight_norm - 1) * weight.detach() / weight_norm
    torch.testing.assert_close(weight.grad, expected)


def test_the_gradient_penalty_interpolates_with_the_given_fractions() -> None:
    real = torch.ones(2, 1, 2, 2, dtype=torch.float64)  # of norm 2
    mix = torch.tensor([0.75, 0.25])
    # The gradient norms are 2 * 0.75 and 2 * 0.25: (0.5^2 + 0.5^2) / 2
    close(gradient_penalty(half_square, real, torch.zeros_like(real), mix), 0.25)
    # toward generated images of norm 6: 0.75 * 2 + 0.25 * 6 = 3 and 0.25 * 2 + 0.75 * 6 = 5
    close(gradient_penalty(half_square, real, 3 * real, mix), (2.0**2 + 4.0**2) / 2)


def test_the_gradient_penalty_agrees_with_finite_differences_per_image() -> None:
    critic, real, fake = Nonlinear(), images(4, 0), images(4, 1)
    mix = torch.tensor([0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    with torch.no_grad():
        norms = [
            numerical_gradient(critic, m * r + (1 - m) * f).norm() for m, r, f in zip(mix, real, fake, strict=True)
        ]
    expected = sum((norm - 1) ** 2 for norm in norms) / 4
    torch.testing.assert_close(gradient_penalty(critic, real, fake, mix).detach(), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1"])
def test_the_gradient_of_a_penalty_agrees_with_finite_differences(penalty: str) -> None:
    critic, real, fake = Nonlinear(), images(3, 0), images(3, 1)
    names, values = zip(*critic.named_parameters(), strict=True)

    def of_weights(*weights: Tensor) -> Tensor:
        def critic_with(x: Tensor) -> Tensor:
            return functional_call(critic, dict(zip(names, weights, strict=True)), (x,))

        if penalty == "r1":
            return r1_penalty(critic_with, real)
        return gradient_penalty(critic_with, real, fake, torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64))

    assert torch.autograd.gradcheck(of_weights, values, atol=1e-8, rtol=1e-6)
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(of_weights(*values), values[:3]))


def test_the_penalty_has_no_gradient_in_the_generated_images() -> None:
    fake = images(3, 1).requires_grad_()
    gradient_penalty(Nonlinear(), images(3, 0), fake, torch.rand(3)).backward()
    assert fake.grad is None


def test_a_constant_critic_has_a_penalty_of_one_and_finite_gradients() -> None:
    weight = torch.zeros(2, 2, 2, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(lambda x: (x * weight).sum(dim=(1, 2, 3)), images(2, 0), images(2, 1), torch.rand(2))
    close(penalty, 1.0)
    penalty.backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def test_r1_of_a_linear_critic_is_that_of_its_weights() -> None:
    weight = torch.full((2, 2, 2), 0.5, dtype=torch.float64, requires_grad=True)
    penalty = r1_penalty(lambda x: (x * weight).sum(dim=(1, 2, 3)), images(5, 0))
    close(penalty, 2.0)  # eight times 1/4
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())  # d |w|^2 / dw = 2 w


def test_r1_is_the_mean_over_images_of_the_squared_gradient() -> None:
    real = torch.stack([torch.full((1, 2, 2), value, dtype=torch.float64) for value in (1.0, 2.0)])
    close(r1_penalty(half_square, real), (4.0 + 16.0) / 2)  # |x|^2 of four ones and of four twos


def test_r1_agrees_with_finite_differences() -> None:
    critic, real = Nonlinear(), images(4, 0)
    with torch.no_grad():
        expected = sum(numerical_gradient(critic, image).square().sum() for image in real) / 4
    torch.testing.assert_close(r1_penalty(critic, real).detach(), expected, atol=1e-9, rtol=1e-9)


def test_r1_does_not_change_the_real_images() -> None:
    real = images(2, 0)
    r1_penalty(Nonlinear(), real)
    assert not real.requires_grad
    assert torch.equal(real, images(2, 0))
