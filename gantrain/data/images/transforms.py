"""Resizing, cropping and flipping images."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from gantrain.config.schema import Side
from gantrain.data.images.decoding import Pixels, Reduction
from gantrain.errors import ConfigError
from gantrain.runtime.seeding import derive_seed

# a square, or [height, width]
Size: TypeAlias = Side | tuple[Side, Side]
Mode: TypeAlias = Literal[
    "resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "scale_shortside_and_crop", "none"
]

REDUCTIONS = (8, 4, 2)  # what a decoder of JPEGs can do

# how much an image may differ from one decoded whole and scaled by Pillow
Decoder: TypeAlias = Literal["exact", "fast", "draft"]


class Preprocess:
    """From an image as it was read to one for the networks.

    =========================  ===========================================================  ========================
    ``preprocess``             scaled in training                                           otherwise
    =========================  ===========================================================  ========================
    resize_and_crop            to exactly ``load_size``                                     to exactly ``crop_size``
    crop                       not                                                          not
    scale_width                to the width of ``load_size``, both sides to multiples of 4  no multiples
    scale_width_and_crop       to the width of ``load_size``                                of ``crop_size``
    scale_shortside_and_crop   just to cover ``load_size``                                  to cover ``crop_size``
    none                       both sides to multiples of 4                                 not
    =========================  ===========================================================  ========================

    Scaling is bicubic and antialiased. Scaled to a width, an image keeps its proportions unless it would be lower than
    ``crop_size``. Where the mode says so, a window of ``crop_size`` is then cut: from a random place in training,
    otherwise from the middle. The names are those of pytorch-CycleGAN-and-pix2pix and of CUT, as is the table.

    How images of 8 bits are scaled, the decoder says: ``exact`` gives Pillow's values. ``fast`` takes torch's
    resizing, three times as fast, in which less than one value of a hundred differs by one grey level (in noise, one of
    30,000 by two). ``draft`` moreover has JPEGs of at least twice the size decoded to a half, a quarter or an eighth:
    from 1024 pixels to 286, values differ by 0.8 grey levels in the mean and by up to 15 at edges; where nothing is
    left to scale then, by 2 in the mean.

    Args:
        preprocess: The mode.
        load_size: Pixels, a number or [height, width].
        crop_size: The same; must not exceed ``load_size`` where a mode uses both.
        flip: Whether half of the images are mirrored in training.
        training: Whether there is chance.
        crop: ``center`` cuts from the middle in training too.
        decoder: See above.

    Attributes:
        crop_size: [height, width].
        cuts: Whether all images come out at that.
        scaling: All that the values of a scaled image depend on but the image.
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
    ) -> None:
        self.scaling = {
            "preprocess": preprocess,
            "load_size": list(as_pair(load_size)),
            "crop_size": list(as_pair(crop_size)),
            "training": training,
            "decoder": decoder,
        }
        self._decoder = decoder
        self._mode = preprocess
        self._load, self.crop_size = as_pair(load_size), as_pair(crop_size)
        self.cuts = preprocess.endswith("crop")
        checked = {"crop": (), "scale_width_and_crop": (1,)}.get(preprocess, (0, 1) if self.cuts else ())
        if any(self.crop_size[side] > self._load[side] for side in checked):
            raise ConfigError(
                f"data.crop_size ({_typed(crop_size)}) must not exceed data.load_size ({_typed(load_size)})"
            )
        self._training = training
        self._random_place = training and crop == "random"
        self._flip = training and flip

    def __call__(self, pixels: Pixels, seed: int, *, name: str = "an image") -> Tensor:
        """(C, H, W) of the type of ``pixels`` (H, W, C); for images of one size, the same seed does the same.

        Raises:
            ConfigError: The image, called ``name`` then, is too small to be cut from.
        """
        return self.cut(self.scaled(pixels), seed, name=name)

    def scaled(self, pixels: Pixels, reduction: Reduction | None = None) -> Pixels:
        """The part without chance: (H, W, C), which may have been reduced in decoding, scaled and not yet cut."""
        if reduction is not None:
            return _resize_reduced(pixels, reduction, *self.scaled_size(reduction.height, reduction.width))
        height, width = self.scaled_size(*pixels.shape[:2])
        return resize(pixels, height, width) if self._decoder == "exact" else resize_fast(pixels, height, width)

    def shrink(self, height: int, width: int) -> int:
        """The factor by which an image of that size may be divided in decoding and still be as large as scaled."""
        scaled_height, scaled_width = self.scaled_size(height, width)
        fitting = (f for f in REDUCTIONS if height // f >= scaled_height and width // f >= scaled_width)
        return next(fitting, 1) if self._decoder == "draft" else 1

    def cut(self, pixels: Pixels, seed: int, *, name: str = "an image") -> Tensor:
        """The part with chance, of scaled pixels (H, W, C): window and flip; (C, H, W) of its own memory.

        Raises:
            ConfigError: As for the whole.
        """
        if self.cuts:
            pixels = self._window(pixels, seed, name)
        if self._flip and derive_seed(seed, "flip") % 2:
            pixels = pixels[:, ::-1]
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def scaled_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width, before anything is cut, of what becomes of an image of that size."""
        target = self._load if self._training or self._mode == "scale_width" else self.crop_size
        if self._mode == "resize_and_crop":
            return target
        if self._mode == "scale_shortside_and_crop":
            scale = max(target[0] / height, target[1] / width)
            return max(target[0], round(height * scale)), max(target[1], round(width * scale))
        if self._mode.startswith("scale_width"):
            height, width = max(self.crop_size[0], round(height * target[1] / width)), target[1]
        if self._training and not self.cuts:  # for networks that halve the sides twice
            return max(4, round(height / 4) * 4), max(4, round(width / 4) * 4)
        return height, width

    def _window(self, pixels: Pixels, seed: int, name: str) -> Pixels:
        slack_y, slack_x = (there - wanted for there, wanted in zip(pixels.shape[:2], self.crop_size, strict=True))
        if min(slack_y, slack_x) < 0:
            height, width = pixels.shape[:2]
            raise ConfigError(
                f"{name} ([{height}, {width}] pixels) is smaller than data.crop_size "
                f"({_typed(self.crop_size)}): make that "
                "smaller, or scale images first with data.preprocess=resize_and_crop"
            )
        if self._random_place:
            generator = torch.Generator().manual_seed(seed)
            left, top = (
                int(torch.randint(slack + 1, (), generator=generator)) if slack else 0 for slack in (slack_x, slack_y)
            )
        else:
            left, top = slack_x // 2, slack_y // 2
        return pixels[top : top + self.crop_size[0], left : left + self.crop_size[1]]


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """(H, W, C) to (height, width, C) of the same type, bicubic and antialiased.

    uint8 comes out as from Pillow, uint16 is rounded and clipped, and float32 is taken to be in [-1, 1] and clipped.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.dtype != np.uint8:
        return _resize_deep(pixels, height, width)
    return _resize_by_pillow(pixels, height, width)


def resize_fast(pixels: Pixels, height: int, width: int) -> Pixels:
    """The same, in a third of the time; a few values of 8 bits differ by one."""
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.dtype != np.uint8:
        return _resize_deep(pixels, height, width)
    stored = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))  # what Pillow hands out is read-only
    return _interpolated(stored.permute(2, 0, 1)[None], height, width)[0].permute(1, 2, 0).numpy()


def as_pair(size: Size) -> tuple[int, int]:
    """Height and width."""
    return size if isinstance(size, tuple) else (size, size)


def _resize_reduced(pixels: Pixels, reduction: Reduction, height: int, width: int) -> Pixels:
    whole = (reduction.height / reduction.factor, reduction.width / reduction.factor)
    if pixels.shape[:2] == whole:
        return resize_fast(pixels, height, width)
    return _resize_by_pillow(pixels, height, width, box=(0, 0, whole[1], whole[0]))


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
    """A size as one types it."""
    return str(list(size)) if isinstance(size, tuple) else str(size)
