"""A loaded model takes PIL images, arrays and tensors, and returns the same kind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import assert_mentions
from image_folders import noise
from PIL import Image
from translated import weights_file

import gantrain
from gantrain.data.base import ImageSpec
from gantrain.errors import ConfigError
from gantrain.inference.model import Model
from gantrain.models.translation import BareGenerator


def doubling(inputs: int = 3, outputs: int = 3, depth: str = "uint8") -> Model:
    """A model whose result is 0.5 times the mean of the channels."""
    network = torch.nn.Conv2d(inputs, outputs, 1, bias=False).requires_grad_(False).eval()
    network.weight.fill_(0.5 / inputs)
    spec = ImageSpec(8, 8, {"a": inputs, "b": outputs}, {"a": depth, "b": depth})
    return Model(BareGenerator(network, "a_to_b", {"a": inputs, "b": outputs}), spec=spec)


def halved(values: np.ndarray, largest: int = 255) -> np.ndarray:
    signed = (values.astype(np.float64) / largest * 2 - 1).mean(axis=2) * 0.5
    return (signed + 1) / 2 * largest


def test_every_kind_of_image_gives_the_same_kind() -> None:
    gan, values = doubling(), noise(1, 7, 9)
    wanted = halved(values)[..., None].repeat(3, axis=2)
    of_array = gan(values)
    assert isinstance(of_array, np.ndarray)
    assert of_array.dtype == np.uint8
    assert np.abs(of_array - wanted).max() <= 0.51
    of_photo = gan(Image.fromarray(values))
    assert of_photo.mode == "RGB"
    assert np.array_equal(np.asarray(of_photo), of_array)
    stored = torch.from_numpy(values).permute(2, 0, 1)
    of_bytes = gan(stored)
    assert of_bytes.dtype == torch.uint8
    assert np.array_equal(of_bytes.permute(1, 2, 0).numpy(), of_array)
    signed = stored.double() / 127.5 - 1
    of_tensor = gan(signed[None].repeat(2, 1, 1, 1))
    assert (of_tensor.shape, of_tensor.dtype) == ((2, 3, 7, 9), torch.float64)
    assert ((of_tensor[1].permute(1, 2, 0).numpy() + 1) * 127.5 - wanted).__abs__().max() < 1e-4
    assert torch.equal(gan.translate(signed[None].float())[0].double(), of_tensor[0])


def test_images_are_converted_to_the_channels_of_the_model() -> None:
    gray = doubling(1, 1)
    values = noise(2, 6, 8)
    result = gray(Image.fromarray(values))
    assert (result.mode, result.size) == ("L", (8, 6))
    assert np.array_equal(gray(np.asarray(Image.fromarray(values).convert("L"))), np.asarray(result))
    assert doubling()(noise(3, 6, 8, channels=1)).shape == (6, 8, 3)
    phone = Image.Exif()
    phone[274] = 6  # As a phone stores an upright photo.
    Image.fromarray(values).save("turned.png", exif=phone)
    turned = Image.open("turned.png")
    assert gray(turned).size == (6, 8)
    assert turned.size == (8, 6)
    with pytest.raises(ConfigError, match="has 5 channels, and the model takes 3"):
        doubling()(np.zeros((4, 4, 5), np.uint8))
    with pytest.raises(ConfigError, match="is of float32, and the model takes images of uint8"):
        doubling()(np.zeros((4, 4, 3), np.float32))


def test_deep_images_are_not_rounded_to_8_bits() -> None:
    values = noise(4, 6, 8, dtype=np.uint16)
    result = doubling(depth="uint16")(values)
    assert result.dtype == np.uint16
    assert np.abs(result - halved(values, 65535)[..., None]).max() <= 0.6
    shallow = doubling()(values)  # It takes all bits, and makes images of 8.
    assert shallow.dtype == np.uint8
    assert np.abs(shallow - halved(values, 65535)[..., None] / 257).max() <= 0.51


def test_threads_get_the_results_of_a_single_one() -> None:
    weights_file("G.pth", "unet", "batch")
    gan = gantrain.load("G.pth")  # It has dropout: in training mode, methods of the network are replaced.
    images = [noise(seed, 32, 32) for seed in range(6)]
    jobs = [(image, mode) for image in images for mode in ("train", "eval")]
    alone = [gan(image, network_mode=mode) for image, mode in jobs]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda job: gan(job[0], network_mode=job[1]), jobs))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(alone[0], alone[1])


def test_other_methods_are_those_of_the_module(trained) -> None:
    gan = gantrain.load(trained("cgan"))
    latents = gan.latents(3, seed=1)
    labels = torch.tensor([0, 1, 2])
    assert torch.equal(gan.sample(latents, labels), gan.module.sample(latents, labels))
    assert gan.uses_labels
    assert gan.step == 1
    assert gan.config["model"]["name"] == "cgan"
    with pytest.raises(ConfigError) as caught:
        gan(noise(1))
    assert_mentions(str(caught.value), "CGAN", "use sample")
    with pytest.raises(ConfigError) as caught:
        doubling().sample(latents)
    assert_mentions(str(caught.value), "BareGenerator", "use translate")
    with pytest.raises(ConfigError, match="direction=b_to_a"):
        doubling()(noise(1), "b_to_a")
