"""Inception's features against torch-fidelity's network, and resizing against its and Pillow's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_mentions
from PIL import Image
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from gantrain.errors import ConfigError
from gantrain.metrics.features.inception import InceptionFeatures, resize_clean, resize_legacy
from gantrain.registry import FEATURES


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights with which features differ among images."""
    from torchvision.models import Inception3

    torch.manual_seed(0)
    network = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias.data):
                values.normal_(0, 0.1)
            for values in (module.running_var, module.weight.data):
                values.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(network.state_dict(), path)
    return path


def images(*shape: int) -> Tensor:
    """Random pixels, the same at each call."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@torch.no_grad()
def test_features_and_logits_are_bit_identical_to_torch_fidelitys(weights: Path) -> None:
    network = FEATURES.build({"name": "inception"}, weights=str(weights), resize="legacy")
    library = FeatureExtractorInceptionV3(
        "oracle", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
    )
    features, logits = network(images(2, 3, 40, 70))
    expected_features, expected_logits = library(images(2, 3, 40, 70))
    assert features.shape == (2, network.dim)
    assert logits.shape == (2, network.num_classes)
    assert torch.equal(features, expected_features)
    assert torch.equal(logits, expected_logits)
    assert (features[0] - features[1]).abs().mean() > 0.01 * features.abs().mean()
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_way_of_resizing_is_the_one_asked_for(weights: Path) -> None:
    for name, function in (("clean", resize_clean), ("legacy", resize_legacy)):
        assert InceptionFeatures(weights=str(weights), resize=name).resize is function


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 3, 299, 299), (1, 1, 512, 301), (2, 3, 7, 640)])
def test_legacy_resizing_is_tensorflows_as_in_torch_fidelity(shape: tuple[int, ...]) -> None:
    pixels = images(*shape).float()
    expected = interpolate_bilinear_2d_like_tensorflow1x(pixels, size=(299, 299), align_corners=False)
    assert torch.equal(resize_legacy(pixels, 299), expected)


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 3, 299, 299), (1, 1, 512, 301), (2, 3, 7, 640)])
def test_clean_resizing_is_pillows_bicubic_in_float(shape: tuple[int, ...]) -> None:
    pixels = images(*shape).float()
    found = resize_clean(pixels, 299).numpy()
    for image, resized in zip(pixels.flatten(0, 1).numpy(), found.reshape(-1, 299, 299), strict=True):
        pillows = Image.fromarray(image).resize((299, 299), Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(pillows).clip(0, 255) - resized).max() < 0.01


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(ConfigError) as refusal:
        InceptionFeatures(weights=str(path), resize="clean")
    assert_mentions(str(refusal.value), path, "Inception")
