"""Data sets that torchvision downloads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gantrain.config.schema import Side
from gantrain.data.base import Batch, ImageDataset, ImageSpec
from gantrain.data.images.reader import ImageReader
from gantrain.data.images.transforms import Preprocess
from gantrain.data.sets.listing import ListedSource, Names
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS
from gantrain.runtime import distributed


@DATASETS.register("torchvision")
class TorchvisionDataset(ImageDataset):
    """MNIST, FashionMNIST, CIFAR10 or CelebA through torchvision's downloaders.

    Images are scaled to a shorter side of ``load_size``, then a square of ``crop_size`` is cropped from the center.

    Args:
        dataset: The name of torchvision's class.
        root: The download folder.
        load_size: Pixels of the shorter side.
        crop_size: Side of the square that is cropped, in pixels; at most ``load_size``.
        flip: Whether half of the images are mirrored in training.
        phase: The split.

    Attributes:
        readers: The reader of CelebA's files; the images of the other data sets are in memory.
        preprocess: Applied to each image.
    """

    def __init__(
        self,
        *,
        dataset: Literal["MNIST", "FashionMNIST", "CIFAR10", "CelebA"],
        root: str,
        load_size: Side,
        crop_size: Side,
        flip: bool,
        phase: Literal["train", "test"],
    ) -> None:
        self.preprocess = Preprocess(
            preprocess="scale_shortside_and_crop",
            load_size=load_size,
            crop_size=crop_size,
            flip=flip,
            training=phase == "train",
            crop="center",
            keeps_scale=True,
        )
        self.readers: dict[str, ImageReader] = {}
        self._pixels = np.empty(0)
        loaded = _load(dataset, root, {"split": phase} if dataset == "CelebA" else {"train": phase == "train"})
        if dataset == "CelebA":
            folder = Path(loaded.root, loaded.base_folder, "img_align_celeba")
            files = ListedSource(folder, Names(loaded.filename))
            self.readers["image"] = ImageReader(files, channels=3, depth="uint8", value_range=None)
        else:
            self._pixels = np.asarray(loaded.data)
            self.labels = [int(label) for label in loaded.targets]
        gray = dataset in ("MNIST", "FashionMNIST")
        self.spec = ImageSpec(
            height=crop_size,
            width=crop_size,
            channels={"image": 1 if gray else 3},
            depth={"image": "uint8"},
            class_names=() if self.labels is None else tuple(loaded.classes),
        )

    def __len__(self) -> int:
        return len(self.readers.get("image", self._pixels))

    def unaugmented(self) -> ImageDataset:
        other = copy.copy(self)
        other.preprocess = self.preprocess.unaugmented()
        return other

    def item(self, index: int, seed: int) -> Batch:
        """``image`` (C, H, W) uint8, and ``label`` if the data set has classes."""
        if self.labels is None:
            return {"image": self.readers["image"].prepared(index, self.preprocess, seed)}
        pixels = self._pixels[index]
        image = self.preprocess(pixels[..., None] if pixels.ndim == 2 else pixels, seed)
        return {"image": image, "label": self.labels[index]}


def _load(dataset: str, root: str, phase: dict[str, Any]) -> Any:
    """A split as torchvision's data set, downloaded if it is missing."""
    from torchvision import datasets  # Takes longer to import than torch.

    try:
        with distributed.rank_zero_first():
            return getattr(datasets, dataset)(Path(root).expanduser(), download=True, **phase)
    except Exception as error:  # Corrupt files cause errors of any type in torchvision.
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise ConfigError(
            f"{dataset} could neither be read from data.root ({root}) nor downloaded ({reason}): run once with a "
            "network connection, or copy torchvision's files there; data=digits needs no download"
        ) from None
