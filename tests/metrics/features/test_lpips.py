"""LPIPS against the package of its authors, with random weights of AlexNet."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from conftest import assert_mentions
from torch import Tensor, nn

from gantrain.errors import ConfigError
from gantrain.metrics.features import lpips
from gantrain.metrics.pairs import PerceptualDistance, PerceptualDiversity


def images(count: int, *, channels: int = 3, seed: int = 0) -> Tensor:
    """Random pixels."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, 40, 35), generator=draws, dtype=torch.uint8)


@pytest.fixture(scope="module")
def oracle() -> nn.Module:
    """The package's network with its heads."""
    import lpips as library  # It takes seconds.

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return library.LPIPS(net="alex", pnet_rand=True, verbose=False)


@pytest.fixture(autouse=True)
def asked_for(oracle: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of weights that were asked for, instead of which there is a file with the oracle's."""
    from torchvision.models import alexnet

    with torch.device("meta"):
        shapes = {key: value.shape for key, value in alexnet().state_dict().items()}
    own = {key.partition(".")[2]: value for key, value in oracle.net.state_dict().items()}
    zero = torch.zeros(())
    path = tmp_path / "alexnet.pth"
    torch.save({key: own.get(key.removeprefix("features."), zero.expand(shapes[key])) for key in shapes}, path)
    asked: list[str] = []
    monkeypatch.setattr(lpips, "hub_file", lambda address, **_: asked.append(address) or path)
    return asked


@pytest.mark.parametrize("channels", [3, 1])
def test_distances_are_those_of_the_package(oracle: nn.Module, channels: int, asked_for: list[str]) -> None:
    one, other = images(3, channels=channels), images(3, channels=channels, seed=1)
    with torch.no_grad():
        expected = oracle(*(each.expand(-1, 3, -1, -1) / 127.5 - 1 for each in (one, other))).flatten()
        found = PerceptualDistance().compute(one, other)["lpips"]
    assert expected.min() > 0.01
    assert torch.allclose(found, expected.double(), rtol=1e-5)
    assert asked_for == ["https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"]


def test_equal_images_have_no_distance_and_no_images_no_distances() -> None:
    metric = PerceptualDistance()
    assert metric.compute(images(2), images(2))["lpips"].tolist() == [0, 0]
    assert metric.compute(images(0), images(0))["lpips"].shape == (0,)


def test_diversity_has_a_name_of_its_own() -> None:
    assert list(PerceptualDiversity().compute(images(2), images(2, seed=1))) == ["lpips_diversity"]


@pytest.mark.parametrize(("shape", "remedy"), [((4, 64, 64), "1 or 3 channels"), ((3, 30, 64), "31 x 31")])
def test_images_that_alexnet_can_not_take_are_refused(shape: tuple[int, int, int], remedy: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        PerceptualDistance().check(None, shape, generated=4, real=4)
    assert_mentions(str(refusal.value), "metrics=lpips", remedy)


def test_the_smallest_images_have_a_distance() -> None:
    network = PerceptualDistance().network
    assert network(images(1)[..., :31, :31], images(1, seed=1)[..., :31, :31]).item() > 0


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as refusal:
        PerceptualDiversity()
    assert_mentions(str(refusal.value), "metrics=lpips_diversity", "gantrain[lpips]")
