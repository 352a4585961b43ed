"""5,000 MNIST digits that are part of the package."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gantrain.config.schema import Range
from gantrain.data.base import Batch, ImageDataset, ImageSpec
from gantrain.registry import DATASETS

TRAINING_IMAGES = 4500
STACKED = 10  # Stacked images for each digit.


@DATASETS.register("digits")
class Digits(ImageDataset):
    """5,000 MNIST digits that are part of gantrain, 4,500 for training and 500 for testing, white on black.

    A subset of MNIST by Yann LeCun and Corinna Cortes, under CC BY-SA 3.0 (see ``digits.txt`` in the same folder).
    The 28 x 28 images are padded to 32 x 32 and, for any other ``load_size``, resized from there (28 is unpadded).

    Args:
        load_size: Height and width in pixels.
        phase: ``train`` or ``test``.
    """

    in_memory = True

    def __init__(
        self, *, load_size: Annotated[int, Range(at_least=8, at_most=65536)], phase: Literal["train", "test"]
    ) -> None:
        self._images, self._labels = _read(load_size, phase)
        self.labels: list[int] = self._labels.tolist()
        self.spec = ImageSpec(
            height=load_size,
            width=load_size,
            channels={"image": 1},
            depth={"image": "uint8"},
            class_names=tuple(str(digit) for digit in range(10)),
        )

    def __len__(self) -> int:
        return len(self._images)

    def item(self, index: int, seed: int) -> Batch:
        """``image`` (1, H, W) uint8, ``label`` 0 to 9."""
        return {"image": self._images[index], "label": self.labels[index]}

    def items(self, indices: Sequence[int], seeds: Sequence[int]) -> Batch:
        """``image`` (N, 1, H, W) uint8, ``label`` (N,); twice as fast as collating single items."""
        chosen = torch.tensor(indices)
        return {"image": self._images[chosen], "label": self._labels[chosen]}


@DATASETS.register("stacked_digits")
class StackedDigits(ImageDataset):
    """Three of the shipped digits in the channels of each image: 1,000 modes, of which a collapsed generator has few.

    The counting of modes is that of Metz et al. 2017, arXiv:1611.02163, with other digits. The digits of an image are
    chosen at random, always the same for an index.

    Args:
        load_size: Height and width in pixels.
        phase: ``train`` (45,000 images) or ``test`` (5,000), of different digits.
    """

    in_memory = True

    def __init__(
        self, *, load_size: Annotated[int, Range(at_least=8, at_most=65536)], phase: Literal["train", "test"]
    ) -> None:
        self._images, _ = _read(load_size, phase)
        size = len(self._images)
        self._digits = torch.from_numpy(np.random.default_rng(0).integers(size, size=(STACKED * size, 3)))
        self.spec = ImageSpec(height=load_size, width=load_size, channels={"image": 3}, depth={"image": "uint8"})

    def __len__(self) -> int:
        return len(self._digits)

    def item(self, index: int, seed: int) -> Batch:
        """``image`` (3, H, W) uint8."""
        return {"image": self._images[self._digits[index], 0]}

    def items(self, indices: Sequence[int], seeds: Sequence[int]) -> Batch:
        """``image`` (N, 3, H, W) uint8."""
        return {"image": self._images[self._digits[torch.tensor(indices)], 0]}


@lru_cache(maxsize=2)  # Both phases, for all runs of a sweep.
def _read(load_size: int, phase: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, load_size, load_size) uint8 and labels (N,), which must not be changed."""
    with resources.files("gantrain.data.sets").joinpath("digits.npz").open("rb") as file, np.load(file) as stored:
        part = slice(TRAINING_IMAGES) if phase == "train" else slice(TRAINING_IMAGES, None)
        images, labels = torch.from_numpy(stored["images"][part])[:, None], torch.from_numpy(stored["labels"][part])
    if load_size != 28:
        images = F.pad(images, (2, 2, 2, 2))
    if load_size not in (28, 32):
        size = (load_size, load_size)
        images = torch.cat(  # In parts, as floating-point numbers would need four times the memory of the result.
            [
                F.interpolate(part.float(), size=size, mode="bicubic", antialias=True, align_corners=False)
                .round_()
                .clamp_(0, 255)
                .to(torch.uint8)
                for part in images.split(100)
            ]
        )
    return images, labels.long()
