"""Colorization of gray images: pix2pix from lightness to colour, in CIE Lab."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from gantrain.data.base import Batch, ImageSpec
from gantrain.errors import ConfigError
from gantrain.models.pix2pix import Pix2Pix
from gantrain.models.translation import BareGenerator, Direction, NetworkMode, Translator, in_mode, names_of
from gantrain.optim.updates import Updates
from gantrain.registry import MODELS

# Linear sRGB (IEC 61966-2-1) to XYZ, with rows X, Y and Z.
RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
WHITE = (0.95047, 1.0, 1.08883)  # D65 in XYZ.
KNEE = 6 / 29  # Below it, Lab replaces the cube root by a line.
LIGHTNESS, COLOUR = 50.0, 110.0  # L / 50 - 1 and (a, b) / 110 are in [-1, 1], as in the authors' code.


def _constant(values: Any, images: Tensor) -> Tensor:
    """Numbers as a tensor like the images."""
    return _constant_on(values, images.dtype, images.device)


@lru_cache(maxsize=16)
def _constant_on(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)  # A copy to a GPU waits for it.


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB (N, 3, H, W) in [-1, 1] to CIE Lab under D65: L in [0, 100], a and b within +-110."""
    display = (rgb + 1) / 2
    linear = torch.where(display > 0.04045, ((display + 0.055) / 1.055).clamp(min=0) ** 2.4, display / 12.92)
    xyz = torch.einsum("ij,njhw->nihw", _constant(RGB_TO_XYZ, rgb), linear) / _constant(WHITE, rgb).view(3, 1, 1)
    root = torch.where(xyz > KNEE**3, xyz.clamp(min=KNEE**3) ** (1 / 3), xyz / (3 * KNEE**2) + 4 / 29)
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """The inverse of ``rgb_to_lab``; colours outside sRGB are clipped to [-1, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    root = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    xyz = torch.where(root > KNEE, root**3, (root - 4 / 29) * 3 * KNEE**2) * _constant(WHITE, lab).view(3, 1, 1)
    matrix = torch.linalg.inv(_constant(RGB_TO_XYZ, lab))
    linear = torch.einsum("ij,njhw->nihw", matrix, xyz).clamp(0, 1)
    display = torch.where(linear > 0.0031308, 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055, linear * 12.92)
    return (display * 2 - 1).clamp(-1, 1)


class ColourResults(Translator):
    """A mixin for translators from lightness (a) to colour (b), which are shown as colour images."""

    needs = frozenset({"image"})

    def input_channels(self, direction: Direction) -> int | None:
        return 1  # The lightness; ``results`` takes colour images.

    def from_stored(self, image: Tensor) -> Tensor:
        """The lightness (N, 1, H, W) of colour images (N, 3, H, W) in sRGB."""
        return lightness_and_colour(image)["a"]

    def to_stored(self, output: Tensor, image: Tensor) -> Tensor:
        """Images (N, 3, H, W) in sRGB with the lightness of others, and colour (N, 2, H, W)."""
        return lab_to_rgb(torch.cat([(self.from_stored(image) + 1) * LIGHTNESS, output * COLOUR], dim=1))

    def results(self, batch: Batch, direction: Direction, *, network_mode: NetworkMode = "train") -> dict[str, Tensor]:
        """The images of a batch in gray, colorized, and in colour."""
        a = lightness_and_colour(batch["image"])["a"]
        colour = self.translate(a, direction, **in_mode(names_of(batch), network_mode))
        lab = torch.cat([(a + 1) * LIGHTNESS, colour * COLOUR], dim=1)
        gray = torch.cat([lab[:, :1], torch.zeros_like(colour)], dim=1)
        return {"real_a": lab_to_rgb(gray), "fake_b_rgb": lab_to_rgb(lab), "real_b_rgb": batch["image"]}


@MODELS.register("colorization")
class Colorization(ColourResults, Pix2Pix):
    """pix2pix from the lightness of colour images to their colour (Isola et al. 2017, arXiv:1611.07004).

    It trains on any colour images: domain a is their lightness (1 channel), domain b their a and b in Lab (2 channels).
    """

    needs_pairs = False
    augments_color = False

    def __init__(self, *, spec: ImageSpec, **others: Any) -> None:
        if spec.channels["image"] != 3:
            raise ConfigError(f"model=colorization needs images of 3 channels, not {spec.channels['image']}")
        if "color" in others["augment"]:
            raise ConfigError(
                "model.augment has color, which is for colour images, and the images of model=colorization are "
                "lightness and colour: give model.augment=[translation,cutout]"
            )
        super().__init__(spec=replace(spec, channels={"a": 1, "b": 2}), **others)
        self.spec = spec
        self.channels = spec.channels

    @property
    def perceived_shape(self) -> tuple[int, int, int]:
        return self.spec.shape("image")

    def perceived(self, a: Tensor, b: Tensor) -> Tensor:
        return lab_to_rgb(torch.cat([(a + 1) * LIGHTNESS, b * COLOUR], dim=1))

    def train_step(self, batches: Iterator[Batch], update: Updates) -> dict[str, Tensor]:
        return super().train_step((lightness_and_colour(batch["image"]) for batch in batches), update)

    def step_kind(self, step: int) -> Hashable | None:
        return self.adversarial_kind(step)


def lightness_and_colour(rgb: Tensor) -> Batch:
    """Colour images (N, 3, H, W) as a batch of ``a`` (N, 1, H, W) and ``b`` (N, 2, H, W), all in [-1, 1]."""
    lab = rgb_to_lab(rgb)
    return {"a": lab[:, :1] / LIGHTNESS - 1, "b": lab[:, 1:] / COLOUR}


class BareColorization(ColourResults, BareGenerator):
    """A single generator from lightness (1 channel) to colour (2 channels)."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__(generator, "a_to_b", {"image": 3})
