"""Resizing, cropping and flipping of images."""

from __future__ import annotations

import copy
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from gantrain.config.schema import Side
from gantrain.data.images.decoding import Reduction, as_pixels
from gantrain.data.images.deferred import Deferred
from gantrain.data.images.store import Pixels
from gantrain.errors import ConfigError
from gantrain.runtime.seeding import derive_seed

Size: TypeAlias = Side | tuple[Side, Side]  # The side of a square, or height and width.
Mode: TypeAlias = Literal[
    "resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "scale_shortside_and_crop", "none"
]

REDUCTIONS = (8, 4, 2)  # The factors by which JPEG decoders can divide the sides of an image.

Decoder: TypeAlias = Literal["exact", "fast", "draft"]


class Preprocess:
    """Scales, crops and flips images for the networks.

    =========================  ===========================================================  ========================
    ``preprocess``             scaling in training                                          otherwise
    =========================  ===========================================================  ========================
    resize_and_crop            to exactly ``load_size``                                     to exactly ``crop_size``
    crop                       none                                                         none
    scale_width                to the width of ``load_size``, both sides to multiples of 4  no multiples
    scale_width_and_crop       to the width of ``load_size``                                of ``crop_size``
    scale_shortside_and_crop   to the smallest size that covers ``load_size``               ``crop_size``
    none                       both sides to multiples of 4                                 none
    =========================  ===========================================================  ========================

    Scaling is bicubic and antialiased. Scaled to a width, an image keeps its aspect ratio unless its height would be
    less than that of ``crop_size``. Modes that end in ``crop`` then cut a window of ``crop_size``: at a random position
    in training, otherwise in the center. The modes are those of pytorch-CycleGAN-and-pix2pix and of CUT.

    ``decoder`` selects how images of 8 bits are scaled: ``exact`` returns Pillow's values. ``fast`` uses torch's
    resizing, three times as fast, where less than one value in a hundred differs by one gray level (in noise, one in
    30,000 by two). ``draft`` also decodes JPEGs of at least twice the size to a half, a quarter or an eighth: from 1024
    pixels to 286, values differ by 0.8 gray levels on average and by up to 15 at edges; if no scaling follows, by 2 on
    average.

    Args:
        load_size: In pixels, a number or [height, width].
        crop_size: Likewise; must not exceed ``load_size`` where a mode uses both.
        flip: Whether half of the images are mirrored in training.
        training: Whether to augment images.
        crop: ``center`` crops the center in training too.
        keeps_scale: Whether images are scaled as in training otherwise, too.

    Attributes:
        crop_size: [height, width].
        cuts: Whether all images are cropped to that.
        scales: Whether images are scaled to a size before.
        scaling: Everything except the image that the values of a scaled image depend on.
        without_effect: Keys that change nothing because of the other arguments, each with the reason.
    """

    def __init__(
        self,
        *,
        preprocess: Mode,
        load_size: Size,
        crop_size: Size,
        flip: bool,
        training: bool,
        crop: Literal["random", "center"] = "random",
        decoder: Decoder = "exact",
        keeps_scale: bool = False,
    ) -> None:
        self.scaling: dict[str, Any] = {
            "preprocess": preprocess,
            "load_size": list(as_pair(load_size)),
            "crop_size": list(as_pair(crop_size)),
            "training": training or keeps_scale,
            "decoder": decoder,
        }
        self._decoder, self._mode = decoder, preprocess
        self._load, self.crop_size = as_pair(load_size), as_pair(crop_size)
        self.cuts = preprocess.endswith("crop")
        self.scales = preprocess not in ("crop", "none")
        checked = {"crop": (), "scale_width_and_crop": (1,)}.get(preprocess, (0, 1) if self.cuts else ())
        if any(self.crop_size[side] > self._load[side] for side in checked):
            raise ConfigError(
                f"data.crop_size ({_typed(crop_size)}) must not exceed data.load_size ({_typed(load_size)})"
            )
        self.without_effect: dict[str, str] = {}
        if not self.scales and load_size != crop_size:  # It may be what crop_size refers to.
            self.without_effect["load_size"] = f"preprocess={preprocess} does not scale images to it"
        if not self.cuts:
            self.without_effect["crop"] = f"preprocess={preprocess} does not crop images"
        self._keeps_scale = keeps_scale
        self._random_crop = training and crop == "random"
        self._flip = training and flip

    def unaugmented(self) -> Preprocess:
        """The same outside of training."""
        other = copy.copy(self)
        other._random_crop = other._flip = False
        other.scaling = {**self.scaling, "training": self._keeps_scale}
        return other

    def __call__(self, pixels: Pixels, seed: int, *, name: str = "an image") -> Tensor:
        """Scale, crop and flip (H, W, C) to (C, H, W) of the same type; images of one size and seed are treated alike.

        Raises:
            ConfigError: The image, ``name`` in the message, is smaller than ``crop_size``.
        """
        return self.cut(self.scaled(pixels), seed, name=name)

    def scaled(self, image: Pixels | Image.Image, reduction: Reduction | None = None) -> Pixels:
        """The deterministic part: scale to (H, W, C) what may have been reduced in decoding, without cropping.

        Images of Pillow are gray or RGB.
        """
        if isinstance(image, Image.Image):
            height, width = self.scaled_size(image.height, image.width)
            if self._decoder == "exact" and (image.height, image.width) != (height, width):  # Saves two copies.
                return as_pixels(image.resize((width, height), Image.Resampling.BICUBIC))
            image = as_pixels(image)
        if reduction is not None:
            return _resize_reduced(image, reduction, *self.scaled_size(reduction.height, reduction.width))
        height, width = self.scaled_size(*image.shape[:2])
        return resize(image, height, width, fast=self._decoder != "exact")

    def shrink(self, height: int, width: int) -> int:
        """The factor by which an image of that size may be reduced in decoding, so that it is not enlarged later."""
        scaled_height, scaled_width = self.scaled_size(height, width)
        fitting = (f for f in REDUCTIONS if height // f >= scaled_height and width // f >= scaled_width)
        return next(fitting, 1) if self._decoder == "draft" else 1

    @overload
    def cut(self, pixels: Pixels, seed: int, *, name: str = ...) -> Tensor: ...

    @overload
    def cut(self, pixels: Pixels | Deferred, seed: int, *, name: str = ...) -> Tensor | Deferred: ...

    def cut(self, pixels: Pixels | Deferred, seed: int, *, name: str = "an image") -> Tensor | Deferred:
        """The random part: crop and flip scaled pixels (H, W, C) to a copy (C, H, W)."""
        height, width = pixels.shape[:2]
        top = left = 0
        if self.cuts:
            top, left = self._window(height, width, seed, name)
            height, width = self.crop_size
        flip = self._flip and derive_seed(seed, "flip") % 2 == 1
        if isinstance(pixels, Deferred):
            return pixels.cut(top, left, height, width, flip=flip)
        pixels = pixels[top : top + height, left : left + width]
        if flip:
            pixels = pixels[:, ::-1]
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def scaled_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of that size is scaled to, before it is cropped."""
        training = self.scaling["training"]
        target = self._load if training or self._mode == "scale_width" else self.crop_size
        if self._mode == "resize_and_crop":
            return target
        if self._mode == "scale_shortside_and_crop":
            scale = max(target[0] / height, target[1] / width)
            return max(target[0], round(height * scale)), max(target[1], round(width * scale))
        if self._mode.startswith("scale_width"):
            height, width = max(self.crop_size[0], round(height * target[1] / width)), target[1]
        if training and not self.cuts:  # For networks that halve both sides twice.
            return max(4, round(height / 4) * 4), max(4, round(width / 4) * 4)
        return height, width

    def _window(self, height: int, width: int, seed: int, name: str) -> tuple[int, int]:
        """The top left corner of the crop."""
        slack_y, slack_x = height - self.crop_size[0], width - self.crop_size[1]
        if min(slack_y, slack_x) < 0:
            raise ConfigError(
                f"{name} ([{height}, {width}] pixels) is smaller than data.crop_size ({_typed(self.crop_size)}): "
                "give a smaller one, or scale images first with data.preprocess=resize_and_crop"
            )
        if self._random_crop:
            generator = torch.Generator().manual_seed(seed)
            left, top = (
                int(torch.randint(slack + 1, (), generator=generator)) if slack else 0 for slack in (slack_x, slack_y)
            )
        else:
            left, top = slack_x // 2, slack_y // 2
        return top, left


def resize(pixels: Pixels, height: int, width: int, *, fast: bool = False) -> Pixels:
    """Scale (H, W, C) to (height, width, C) of the same type, bicubic and antialiased.

    uint8 values equal Pillow's, or, in a third of the time with ``fast``, differ in a few places by one. uint16 is
    rounded and clipped, and float32 is clipped to [-1, 1].
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.dtype != np.uint8:
        return _resize_deep(pixels, height, width)
    if not fast:
        return _resize_by_pillow(pixels, height, width)
    stored = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))  # Pillow's arrays are read-only.
    return _interpolated(stored.permute(2, 0, 1)[None], height, width)[0].permute(1, 2, 0).numpy()


def as_pair(size: Size) -> tuple[int, int]:
    """Height and width."""
    return size if isinstance(size, tuple) else (size, size)


def _resize_reduced(pixels: Pixels, reduction: Reduction, height: int, width: int) -> Pixels:
    exact = (reduction.height / reduction.factor, reduction.width / reduction.factor)
    if pixels.shape[:2] == exact:
        return resize(pixels, height, width, fast=True)
    return _resize_by_pillow(pixels, height, width, box=(0, 0, exact[1], exact[0]))


def _resize_by_pillow(
    pixels: Pixels, height: int, width: int, *, box: tuple[float, float, float, float] | None = None
) -> Pixels:
    def scaled(part: Pixels) -> Pixels:
        return np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BICUBIC, box=box))

    if pixels.shape[2] == 3:
        return scaled(pixels)
    return np.stack([scaled(pixels[..., channel]) for channel in range(pixels.shape[2])], axis=2)


def _interpolated(planes: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(planes, size=(height, width), mode="bicubic", antialias=True, align_corners=False)


def _resize_deep(pixels: Pixels, height: int, width: int) -> Pixels:
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32))[None]
    scaled = _interpolated(planes, height, width)
    scaled = scaled.round_().clamp_(0, 65535) if pixels.dtype == np.uint16 else scaled.clamp_(-1, 1)
    return scaled[0].permute(1, 2, 0).numpy().astype(pixels.dtype)


def _typed(size: Size) -> str:
    """A size as users type it."""
    return str(list(size)) if isinstance(size, tuple) else str(size)
