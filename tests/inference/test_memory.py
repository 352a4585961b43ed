"""Images that do not fit in memory are translated in strips."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import assert_mentions
from image_folders import noise
from tiny import unet
from translated import weights_file

import gantrain
from gantrain.errors import ConfigError
from gantrain.inference import memory, strips
from gantrain.inference.exported import ExportedNetwork
from gantrain.inference.model import Model
from gantrain.models.translation import BareGenerator


@pytest.fixture(autouse=True)
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "WORKING", 40_000)
    monkeypatch.setattr(memory, "SMALL", 0)


@pytest.mark.parametrize(("network", "norm", "outputs"), [("resnet", "instance", 3), ("unet", "batch", 2)])
def test_strips_equal_the_whole_at_any_size(network: str, norm: str, outputs: int) -> None:
    inputs = 3 if outputs == 3 else 1  # The other one is a colorization.
    weights_file("G.pth", network, norm, inputs=inputs, outputs=outputs)
    gan = gantrain.load("G.pth")
    for height, width in ((45, 38), (33, 70), (6, 5)):
        image = torch.rand(2, 3, height, width) * 2 - 1
        whole, cut = (gan(image, network_mode="eval", memory=way) for way in ("whole", "strips"))
        assert whole.shape == cut.shape == (2, 3, height, width)
        assert whole.std() > 0.01
        assert (whole - cut).abs().max() < 1e-5 * (1 if outputs == 3 else 5)  # The cube of Lab magnifies rounding.
        pixels = noise(1, height, width)
        made = [gan(pixels, network_mode="eval", memory=way).astype(int) for way in ("whole", "strips")]
        assert np.abs(made[0] - made[1]).max() <= 1


def test_strips_in_training_mode_take_the_statistics_of_the_image() -> None:
    weights_file("G.pth", "resnet", "batch")
    gan = gantrain.load("G.pth")
    image = torch.rand(3, 45, 38) * 2 - 1
    whole, cut, other = gan(image, memory="whole"), gan(image, memory="strips"), gan(image, network_mode="eval")
    assert (whole - cut).abs().max() < 1e-5
    assert (whole - other).abs().max() > 1e-3


def test_auto_takes_as_many_images_at_once_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    weights_file("G.pth", "resnet", "instance")
    gan = gantrain.load("G.pth")
    used: list[int] = []
    real = strips.Strips.__call__
    monkeypatch.setattr(strips.Strips, "__call__", lambda *given: used.append(0) or real(*given))
    batches: list[int] = []
    translate = gan.module.translate
    monkeypatch.setattr(gan.module, "translate", lambda x, *a, **k: batches.append(len(x)) or translate(x, *a, **k))
    images = torch.rand(3, 3, 40, 40)
    wanted = gan(images)
    one = memory._strips(gan.module, "a_to_b", (40, 40), "eval").bytes_of_whole() * memory.OVERHEAD / memory.MAX_SHARE
    for free, expected in ((3.5 * one, [3]), (2.5 * one, [2, 1]), (1.5 * one, [1, 1, 1]), (0.5 * one, [])):
        batches.clear()
        monkeypatch.setattr(memory, "free_on", lambda device, free=free: int(free))
        assert (gan(images) - wanted).abs().max() < 1e-5
        assert batches == expected
        assert len(used) == (0 if expected else 3)


def test_what_cannot_be_cut_is_refused_with_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    network = unet(input_shape=(3, 64, 64), shape=(3, 64, 64), dropout=0.5).eval().requires_grad_(False)
    gan = Model(BareGenerator(network, "a_to_b", {"a": 3, "b": 3}))
    image = torch.rand(3, 256, 512)
    with pytest.raises(ConfigError) as caught:
        gan(image, memory="strips")
    assert_mentions(str(caught.value), "memory=strips", "512 x 256", "dropout", "network_mode=eval", "memory=whole")
    needed = memory._strips(gan.module, "a_to_b", (256, 512), "eval").bytes_of_whole() * memory.OVERHEAD
    monkeypatch.setattr(memory, "free_on", lambda device: int(needed / 2 / memory.MAX_SHARE))
    with pytest.raises(ConfigError) as caught:
        gan(image)
    assert_mentions(str(caught.value), "memory=auto", "512 x 256", "256 x 256 pixels")
    assert gan(image[:, :64]).shape == (3, 64, 512)
    assert gan(image, network_mode="eval").shape == (3, 256, 512)
    gan.module.generator = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.Softmax(1))
    with pytest.raises(ConfigError, match="Softmax"):
        gan(image, memory="strips")
    assert gan(image).shape == (3, 256, 512)
    gan.module.generator = ExportedNetwork(lambda image: -image)  # Of another runtime.
    with pytest.raises(ConfigError, match="memory=strips: ExportedNetwork .* give memory=whole"):
        gan(image, memory="strips")
    assert torch.equal(gan(image), -image)
