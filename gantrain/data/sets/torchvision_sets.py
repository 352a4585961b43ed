"""The full data sets that torchvision downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from gantrain.config.schema import Side
from gantrain.data.base import Batch, ImageDataset, ImageSpec
from gantrain.data.images.convert import ImageFormat, read_image
from gantrain.data.images.transforms import Preprocess
from gantrain.data.sets.listing import ListedSource, Names
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS
from gantrain.runtime import distributed


@DATASETS.register("torchvision")
class TorchvisionDataset(ImageDataset):
    """MNIST, FashionMNIST, CIFAR10 or CelebA through torchvision's downloaders.

    An image is scaled to a shorter side of ``load_size``, then a square of ``crop_size`` is cut from its middle.

    Args:
        dataset: torchvision's name.
        root: Folder for downloads.
        load_size: Shorter side after scaling, in pixels.
        crop_size: Side of the square, at most ``load_size``.
        flip: Whether half of the images are mirrored in training.
        phase: ``train`` or ``test``.

    Attributes:
        source: Of CelebA's files; the images of the others are in memory.
        preprocess: What is done to each.
    """

    source: ListedSource | None = None

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
            flip=flip and phase == "train",
            training=True,  # else testing would scale to crop_size
            crop="center",
        )
        loaded = _load(dataset, root, {"split": phase} if dataset == "CelebA" else {"train": phase == "train"})
        if dataset == "CelebA":
            self.source = _files(loaded)
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
        """As many as torchvision's split holds."""
        return len(self._pixels if self.source is None else self.source)

    def item(self, index: int, seed: int) -> Batch:
        """``image`` (C, H, W) uint8, and ``label`` where the set has classes."""
        if self.source is None:
            pixels = self._pixels[index]
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        else:
            pixels = read_image(self.source.open(index), ImageFormat(3, "uint8"))
        image = self.preprocess(pixels, seed)
        return {"image": image, **({"label": self.labels[index]} if self.labels is not None else {})}


def _load(dataset: str, root: str, phase: dict[str, Any]) -> Any:
    """A split as torchvision has it, downloaded unless it is there."""
    from torchvision import datasets  # costs more to import than torch itself

    try:
        with distributed.rank_zero_first():
            return getattr(datasets, dataset)(Path(root).expanduser(), download=True, **phase)
    except Exception as error:  # broken files lead torchvision to errors of every kind
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise ConfigError(
            f"{dataset} could neither be read from data.root ({root}) nor downloaded ({reason}): run once with a "
            "connection, or copy torchvision's files there; data=digits needs no download"
        ) from None


def _files(celeba: Any) -> ListedSource:
    names = Names()
    for name in celeba.filename:
        names.append(name)
    return ListedSource(Path(celeba.root, celeba.base_folder, "img_align_celeba"), names)
